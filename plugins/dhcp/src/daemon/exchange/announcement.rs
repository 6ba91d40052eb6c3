//! Announcing an address to the neighbours for the second time (RFC 5227 §2.3).

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use linknet::Netns;

use super::arp::AsyncArp;

/// ANNOUNCE_INTERVAL of RFC 5227 §1.1: the pause between the first announcement and the second.
/// The kernel sends the first one when the address is configured.
pub(crate) const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// Announces an address of a link in this netns. This does not touch the link's settings, which
/// others may have changed since the first announcement.
///
/// # Errors
/// If the link is down or gone.
pub(crate) fn announce(netns: &Netns, ifindex: u32, address: Ipv4Addr) -> io::Result<()> {
    AsyncArp::open(netns, ifindex)?.send(|socket| socket.announce(address))
}
