//! Taking an address off an interface.

use std::net::{IpAddr, Ipv4Addr};

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
