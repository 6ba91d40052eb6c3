//! The daemon's record of its leases, in memory and on disk.

mod lease_store;
mod past_leases;

pub(super) use lease_store::LeaseStore;
pub(super) use past_leases::ClientIdentity;
