//! The guard follows the lease: the container may speak from the leased address, and no other.

use std::net::{IpAddr, Ipv4Addr};

use attachment::Guard;
use attachment::guard::Guarded;
use cni::Attachment;
use linknet::nft::Nft;
use linknet::{Netlink, Netns};

use crate::daemon::watchers::close_on_thread;

/// Lets the container speak from this address alone, if it is guarded: with the interface's present
/// MAC. Returns whether the rules were others.
///
/// # Errors
/// If the kernel refuses. The rules are then as they were.
pub(crate) fn guard(
    netns: &Netns,
    ifindex: u32,
    attachment: &Attachment,
    guard: &Guard,
    address: Option<Ipv4Addr>,
) -> linknet::Result<bool> {
    if guard.is_off() {
        return Ok(false);
    }
    let Some(link) = Netlink::open_in(netns)?.link_by_index(ifindex)? else {
        return Ok(false);
    };
    let addresses: Vec<IpAddr> = address.into_iter().map(IpAddr::V4).collect();
    let guarded = Guarded {
        attachment,
        link: &link,
        addresses: &addresses,
    };
    let nft = Nft::open_in(netns)?;
    let restored = guard.restore(&nft, guarded);
    if !matches!(restored, Ok(false)) {
        close_on_thread(nft);
    }
    restored
}
