//! Taking an address off an interface, and looking at one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use linknet::{Netlink, Netns};

use super::MAX_LISTED;

/// Removes an address from an interface, whatever its prefix, so that the container no longer
/// answers for it. Returns whether it was there.
pub(crate) fn take_off(netns: &Netns, ifindex: u32, address: Ipv4Addr) -> linknet::Result<bool> {
    Netlink::open_in(netns)?.take_off(ifindex, address.into())
}

/// How long an interface still has an address before the kernel removes it; `None` if it has none
/// such, or one without a limit.
pub(crate) fn valid_lifetime(netns: &Netns, ifindex: u32, address: Ipv4Addr) -> Option<Duration> {
    let netlink = Netlink::open_in(netns).ok()?.limited(MAX_LISTED);
    let addresses = netlink.addresses(ifindex);
    let mut addresses = addresses.ok()?.into_iter();
    let found = addresses.find(|found| found.net.addr() == IpAddr::V4(address))?;
    found.valid
}
