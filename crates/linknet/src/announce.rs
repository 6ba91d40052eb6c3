//! Announcing a link's addresses to its neighbours.

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::netlink::Netlink;
use crate::netns::Netns;
use crate::sysctl;

/// Makes the kernel announce every address of a link that is up: with a gratuitous ARP request for
/// an IPv4 address (RFC 5227 §2.3), with an unsolicited neighbour advertisement for an IPv6 address
/// (RFC 4861 §7.2.6). From then on the kernel announces them whenever the MAC changes.
///
/// The kernel announces when the MAC is set, even to its present value, if the link's settings
/// `arp_notify` and `ndisc_notify` say so. A packet socket to announce with would be slower:
/// closing it takes an RCU grace period of many milliseconds.
///
/// `netlink` is a socket of the namespace that the link is in.
///
/// # Errors
/// `is_absent` if there is no such link.
pub fn announce(netns: &Netns, netlink: &Netlink, index: u32) -> Result<()> {
    let link = netlink.link_by_index(index)?.ok_or_else(|| {
        let what = format!("announce the addresses of link {index}");
        Error::new(what, Errno::ENODEV)
    })?;
    let Some(mac) = link.mac else { return Ok(()) };
    netns
        .run(|| notify(&link.name))
        .unwrap_or_else(|error| Err(Error::io("enter the network namespace", &error)))?;
    netlink.set_mac(index, mac)
}

/// Has the kernel announce the addresses of a link of the calling thread's namespace.
fn notify(name: &str) -> Result<()> {
    sysctl::set(&["ipv4", "conf", name, "arp_notify"], "1")?;
    match sysctl::set(&["ipv6", "conf", name, "ndisc_notify"], "1") {
        Err(error) if !error.is_absent() => Err(error),
        Ok(()) | Err(_) => Ok(()), // a kernel without IPv6 has no IPv6 addresses to announce
    }
}
