//! GC: what belongs to no valid attachment goes.

use cni::delegate::Ipam;
use cni::{Error, Request};

/// Interfaces die with their container's netns, so only IPAM can have something left over.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    Ipam::find(request)?.map_or(Ok(()), |ipam| ipam.gc())
}
