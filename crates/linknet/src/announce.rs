//! Telling the neighbours where an address is now.

use crate::{Error, Netlink, Netns, Result, sysctl};

/// Makes the kernel announce every address of a link that is up: a gratuitous ARP request for each
/// IPv4 address (RFC 5227 §2.3), an unsolicited neighbour advertisement for each IPv6 address
/// (RFC 4861 §7.2.6). From then on it does so by itself when the MAC changes.
///
/// The kernel announces when the MAC is set, be it to what it was, if it has been told to
/// (`arp_notify`, `ndisc_notify`). Sending the packets ourselves would take a packet socket, whose
/// closing alone costs an RCU grace period of many milliseconds.
///
/// # Errors
/// `is_absent` if there is no such link.
pub fn announce(netns: &Netns, index: u32) -> Result<()> {
    netns
        .run(|| announce_here(index))
        .unwrap_or_else(|error| Err(Error::io("enter the network namespace", &error)))
}

fn announce_here(index: u32) -> Result<()> {
    let netlink = Netlink::open()?;
    let what = || format!("announce the addresses of link {index}");
    let link = netlink
        .link_by_index(index)?
        .ok_or_else(|| Error::new(what(), nix::errno::Errno::ENODEV))?;
    let Some(mac) = link.mac else { return Ok(()) };
    sysctl::set(&["ipv4", "conf", &link.name, "arp_notify"], "1")?;
    match sysctl::set(&["ipv6", "conf", &link.name, "ndisc_notify"], "1") {
        Err(error) if !error.is_absent() => return Err(error),
        Ok(()) | Err(_) => {} // a kernel without IPv6 has nothing to announce
    }
    netlink.set_mac(index, mac)
}
