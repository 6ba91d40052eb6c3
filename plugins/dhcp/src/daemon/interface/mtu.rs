//! The MTU that the server sends (option 26).

use dhcp4::Lease;
use linknet::{Link, Result};

use crate::protocol::{LeaseParams, Suppress};
use crate::state::Mtu;

/// Sets the MTU of the interface to that of the lease, or back to its own if the lease has none.
/// An MTU that somebody else has set since stays. Returns the new MTU if it has changed. `set_mtu`
/// sets the interface's.
///
/// # Errors
/// Whatever the kernel refused.
pub(super) fn update(
    set_mtu: impl FnOnce(u32) -> Result<()>,
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
    let changed = set(set_mtu, link, wanted.unwrap_or(mtu.own))?;
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
fn set(set_mtu: impl FnOnce(u32) -> Result<()>, link: &Link, mtu: u32) -> Result<Option<u32>> {
    let raises = link.mtu < mtu;
    if link.mtu == mtu || (raises && link.macvlan.is_none()) {
        return Ok(None);
    }
    match set_mtu(mtu) {
        Ok(()) => Ok(Some(mtu)),
        Err(error) if error.is_invalid() && raises => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use linknet::Macvlan;

    use crate::state::tests::record;

    use super::*;

    const EINVAL: i32 = 22;
    const EPERM: i32 = 1;

    /// A macvlan, or another interface, with this MTU.
    fn link(mtu: u32, is_macvlan: bool) -> Link {
        Link {
            mtu,
            macvlan: is_macvlan.then(Macvlan::default),
            ..Link::default()
        }
    }

    /// The lease of a server that sends this MTU.
    fn lease(mtu: Option<u16>) -> Lease {
        let mut lease = record().lease;
        lease.options.mtu = mtu;
        lease
    }

    /// What is set on an interface with an MTU of its own of 1500, and what is noted.
    fn updated(link: &Link, set: Option<u32>, lease: &Lease) -> (Option<u32>, Option<u32>) {
        let mut mtu = Mtu { own: 1500, set };
        let updated = update(|_| Ok(()), link, &record().params, &mut mtu, lease);
        (updated.expect("no error"), mtu.set)
    }

    #[test]
    fn the_servers_mtu_is_set_and_taken_back_with_it() {
        for is_macvlan in [true, false] {
            let own = link(1500, is_macvlan);
            let lowered = link(1400, is_macvlan);
            assert_eq!(updated(&own, None, &lease(None)), (None, None));
            assert_eq!(
                updated(&own, None, &lease(Some(1400))),
                (Some(1400), Some(1400))
            );
            assert_eq!(
                updated(&lowered, Some(1400), &lease(Some(1400))),
                (None, Some(1400))
            );
            assert_eq!(
                updated(&lowered, Some(1400), &lease(Some(1300))),
                (Some(1300), Some(1300))
            );
            let raised = is_macvlan.then_some(1500);
            let noted = (!is_macvlan).then_some(1400);
            assert_eq!(updated(&lowered, Some(1400), &lease(None)), (raised, noted));
        }
    }

    #[test]
    fn an_mtu_that_somebody_else_has_set_stays() {
        let anothers = link(1280, true);
        assert_eq!(updated(&anothers, None, &lease(Some(1400))), (None, None));
        assert_eq!(
            updated(&anothers, Some(1400), &lease(None)),
            (None, Some(1400))
        );
        // Unless it is the server's.
        let noted = updated(&link(1280, true), None, &lease(Some(1280)));
        assert_eq!(noted, (None, Some(1280)));
        assert_eq!(
            updated(&link(1280, true), Some(1280), &lease(None)),
            (Some(1500), None)
        );
    }

    #[test]
    fn only_a_raise_beyond_what_the_parent_allows_may_be_refused() {
        let refused = |from: u32, errno: i32| {
            let refuse = |_| Err(linknet::Error::refusal("set the MTU", errno, None));
            let mut mtu = Mtu {
                own: from,
                set: None,
            };
            let (link, lease) = (link(from, true), lease(Some(1400)));
            let updated = update(refuse, &link, &record().params, &mut mtu, &lease);
            assert_eq!(mtu.set, None);
            updated.map_err(drop)
        };
        assert_eq!(refused(1280, EINVAL), Ok(None));
        assert_eq!(refused(1500, EINVAL), Err(()));
        assert_eq!(refused(1280, EPERM), Err(()));
    }

    #[test]
    fn a_suppressed_mtu_is_not_the_leases() {
        let mut params = record().params;
        assert_eq!(of_lease(&params, &lease(Some(1400))), Some(1400));
        assert_eq!(of_lease(&params, &lease(None)), None);
        params.suppress = vec![Suppress::Mtu];
        assert_eq!(of_lease(&params, &lease(Some(1400))), None);
    }
}
