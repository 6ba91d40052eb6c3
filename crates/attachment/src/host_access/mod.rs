//! `hostAccess`: how a host reaches the containers on its own parent link.
//!
//! ```text
//!   host's netns                          a container's
//!   eth1 192.168.1.10/24 ──┐              eth0 192.168.1.50/24
//!                          ├── parent ─── (macvlan)
//!   lh-eth1 (macvlan) ─────┘
//!   192.168.1.50 dev lh-eth1 scope link src 192.168.1.10 proto 108 metric <tag>
//! ```
//!
//! A parent and the macvlans on it never hear each other; two macvlans in mode bridge do. So the
//! host gets a macvlan of its own, the shim, and a route through it to each container's address.
//! The shim has no address: the host's packets have the parent's address as their source, and the
//! shim answers ARP requests for it, since any link of a host answers for all of the host's
//! addresses. IPv6 has no such rule (RFC 4861 §7.2.3), so there the container gets a route through
//! the shim's link-local address.
//!
//! The host's routes are as trustworthy as the addresses that they lead to. So the host is led only
//! to addresses on the parent's own prefixes, or on prefixes that the configuration lists, and to
//! nothing that it uses otherwise (`admission.rs`). What a container says about itself does not
//! count: the host keeps [`Record`]s of the addresses that ADD and the lease said.
//!
//! Each route bears the [`AttachmentTag`] of its attachment as its metric, so the routes alone show
//! who needs the shim. It is removed with the last of them.

mod access;
mod admission;
mod check;
mod key;
mod reachable;
mod record;
mod resolvers;
mod route;
mod shim;
mod source;
mod tag;
#[cfg(test)]
mod testing;

pub use access::{AttachError, HostAccess, destinations};
pub use admission::Refusal;
pub use check::difference;
pub use key::HostAccessKey;
pub use reachable::{Reachable, return_routes};
pub use record::Record;
pub use route::HostRoute;
pub use tag::AttachmentTag;
