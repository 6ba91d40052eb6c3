//! Leases on disk: one readable file each, so that they outlive the daemon.
//!
//! ```text
//! STATEDIR/lock                              locked by the daemon for as long as it runs; its pid
//! STATEDIR/NETWORK/CONTAINERID:IFNAME.json   a lease, or one that has ended
//! STATEDIR/@/HASH.lease                      the same, if its path would not be a valid one
//! ```
//!
//! A file is written under a temporary name and renamed, so a reader finds a whole one. Nothing is
//! synced to the disk: after a power failure there are no containers left, and all that a file
//! could still tell is which client had which address.

mod interface_ref;
mod lease_files;
mod record;

pub use interface_ref::InterfaceRef;
pub(crate) use interface_ref::Unreachable;
pub use lease_files::StateDir;
pub(crate) use lease_files::StateLock;
pub(crate) use record::Mtu;
pub use record::{LeaseStatus, Record};

#[cfg(test)]
pub(crate) mod tests;
