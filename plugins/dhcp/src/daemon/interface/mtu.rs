//! The MTU that the server sends (option 26).

use dhcp4::Lease;
use linknet::{Link, Netlink, Result};

use crate::protocol::{LeaseParams, Suppress};
use crate::state::Mtu;

/// Sets the MTU of the interface to that of the lease, or back to its own if the lease has none.
/// An MTU that somebody else has set since stays. Returns the new MTU if it has changed.
///
/// # Errors
/// Whatever the kernel refused.
pub(super) fn update(
    netlink: &Netlink,
    link: &Link,
    params: &LeaseParams,
    mtu: &mut Mtu,
    lease: &Lease,
) -> Result<Option<u32>> {
    let wanted = of_lease(params, lease);
    if wanted == Some(link.mtu) {
        mtu.set = wanted;
    }
    if link.mtu != mtu.set.unwrap_or(mtu.own) {
        return Ok(None);
    }
    let changed = set(netlink, link, wanted.unwrap_or(mtu.own))?;
    if changed.is_some() {
        mtu.set = wanted;
    }
    Ok(changed)
}

/// The MTU in a lease, if it may be used.
pub(super) fn of_lease(params: &LeaseParams, lease: &Lease) -> Option<u32> {
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
