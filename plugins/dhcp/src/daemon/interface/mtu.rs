//! The MTU that the server sends (option 26).

use dhcp4::Lease;
use linknet::{Link, Netlink, Netns, Result};

use crate::protocol::{LeaseParams, Suppress};

/// Sets the MTU of the container's interface to that of its first lease, if that is allowed.
///
/// # Errors
/// Whatever the kernel refused.
pub(crate) fn adopt_mtu(
    netns: &Netns,
    link: &Link,
    params: &LeaseParams,
    lease: &Lease,
) -> Result<()> {
    match wanted(params, lease) {
        Some(mtu) => set(&Netlink::open_in(netns)?, link, mtu).map(drop),
        None => Ok(()),
    }
}

/// Sets the MTU of the interface to that of a renewed lease, and returns it if it has changed.
pub(super) fn update(
    netlink: &Netlink,
    ifindex: u32,
    params: &LeaseParams,
    lease: &Lease,
) -> Result<Option<u32>> {
    let Some(mtu) = wanted(params, lease) else {
        return Ok(None);
    };
    match netlink.link_by_index(ifindex)? {
        Some(link) => set(netlink, &link, mtu),
        None => Ok(None),
    }
}

fn wanted(params: &LeaseParams, lease: &Lease) -> Option<u32> {
    let mtu = lease.options.mtu.map(u32::from);
    mtu.filter(|_| !params.suppress.contains(&Suppress::Mtu))
}

/// Sets the MTU, and returns it if it has changed. A macvlan's MTU may be raised up to its
/// parent's; the kernel enforces this limit. Any other link's MTU is only lowered, since the far
/// end may not accept larger packets.
fn set(netlink: &Netlink, link: &Link, mtu: u32) -> Result<Option<u32>> {
    let raises = link.mtu < mtu;
    if link.mtu == mtu || (raises && link.macvlan.is_none()) {
        return Ok(None);
    }
    match netlink.set_mtu(link.index, mtu) {
        Ok(()) => Ok(Some(mtu)),
        Err(error) if error.is_invalid() && raises => Ok(None),
        Err(error) => Err(error),
    }
}
