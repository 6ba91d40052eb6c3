//! Taking an address off an interface, and looking at one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use linknet::{Netlink, Netns, or_absent};

/// Removes an address from an interface, whatever its prefix, so that the container no longer
/// answers for it. Removing one that is not there does nothing.
pub(crate) fn take_off(netns: &Netns, ifindex: u32, address: Ipv4Addr) -> linknet::Result<()> {
    let netlink = Netlink::open_in(netns)?;
    for found in netlink.addresses(ifindex)? {
        if found.net.addr() == IpAddr::V4(address) {
            or_absent(netlink.remove_address(&found))?;
        }
    }
    Ok(())
}

/// How long an interface still has an address before the kernel removes it; `None` if it has none
/// such, or one without a limit.
pub(crate) fn valid_lifetime(netns: &Netns, ifindex: u32, address: Ipv4Addr) -> Option<Duration> {
    let addresses = Netlink::open_in(netns).and_then(|netlink| netlink.addresses(ifindex));
    let mut addresses = addresses.ok()?.into_iter();
    let found = addresses.find(|found| found.net.addr() == IpAddr::V4(address))?;
    found.valid
}
