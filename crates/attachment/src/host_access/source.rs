//! The source address of the host's packets to a container.

use std::net::IpAddr;

use linknet::{Address, Dad, Link, Netlink, Result, Scope};

/// The address that the host uses to reach `to`: one of the parent's in the container's subnet, or
/// else any of the parent's, or one of the link that carries the parent (a VLAN), or else the one
/// that the kernel would choose. `None` if the host has none. `all` are the host's addresses.
pub(super) fn choose(
    netlink: &Netlink,
    all: &[Address],
    parent: &Link,
    to: IpAddr,
) -> Result<Option<IpAddr>> {
    let below = parent
        .parent
        .filter(|_| parent.vlan.is_some() && parent.parent_netnsid.is_none());
    let found = best(all, parent.index, to).or_else(|| best(all, below?, to));
    match found {
        Some(address) => Ok(Some(address)),
        None => {
            let chosen = netlink.route_get(to)?.and_then(|route| route.source);
            Ok(chosen.filter(|address| {
                all.iter()
                    .any(|there| there.net.addr() == *address && is_usable(there))
            }))
        }
    }
}

/// The best of a link's addresses from which to reach `to`: preferably one in its subnet, and a
/// permanent one, since an IPv6 address of the privacy extensions (RFC 8981) is replaced within a
/// day.
fn best(all: &[Address], index: u32, to: IpAddr) -> Option<IpAddr> {
    let candidates = all
        .iter()
        .filter(|address| address.index == index && is_usable(address));
    let candidates = candidates.filter(|address| address.net.addr().is_ipv4() == to.is_ipv4());
    let mut best: Option<&Address> = None;
    for candidate in candidates {
        let rank = |address: &Address| {
            (
                address.net.contains(&to),
                !address.secondary,
                address.preferred.is_none(),
            )
        };
        // The first of equals.
        if best.is_none_or(|best| rank(candidate) > rank(best)) {
            best = Some(candidate);
        }
    }
    best.map(|address| address.net.addr())
}

fn is_usable(address: &Address) -> bool {
    address.scope < Scope::LINK && address.dad == Dad::Done
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linknet::Vlan;

    use super::*;
    use crate::host_access::testing::address;

    fn chosen(all: &[Address], to: &str) -> Option<String> {
        best(all, 2, to.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn an_address_in_the_containers_subnet_is_preferred_to_an_earlier_one() {
        let all = [
            address(3, "10.0.0.9/24"),
            address(2, "192.0.2.1/24"),
            address(2, "10.0.0.1/24"),
            address(2, "fd00::1/64"),
        ];
        assert_eq!(chosen(&all, "10.0.0.7").as_deref(), Some("10.0.0.1"));
        assert_eq!(chosen(&all, "172.16.0.7").as_deref(), Some("192.0.2.1"));
        assert_eq!(chosen(&all, "fd01::7").as_deref(), Some("fd00::1"));
        assert_eq!(chosen(&all[..1], "10.0.0.7"), None);
    }

    #[test]
    fn a_permanent_address_is_preferred_to_a_temporary_one() {
        let passing = Address {
            secondary: true,
            ..address(2, "fd00::aaaa/64")
        };
        let leased = Address {
            preferred: Some(Duration::from_secs(3600)),
            ..address(2, "fd00::bbbb/64")
        };
        let fixed = address(2, "fd00::cccc/64");
        assert_eq!(
            chosen(&[passing.clone(), leased.clone(), fixed], "fd00::7").as_deref(),
            Some("fd00::cccc")
        );
        assert_eq!(
            chosen(&[passing, leased], "fd00::7").as_deref(),
            Some("fd00::bbbb")
        );
    }

    #[test]
    fn link_local_and_tentative_addresses_are_not_used() {
        let link_local = Address {
            scope: Scope::LINK,
            ..address(2, "fe80::1/64")
        };
        let tentative = Address {
            dad: Dad::Tentative,
            ..address(2, "fd00::1/64")
        };
        assert_eq!(chosen(&[link_local, tentative], "fd00::7"), None);
    }

    #[test]
    fn the_link_below_a_vlan_lends_its_address_and_that_below_a_macvlan_does_not() {
        let all = [address(3, "192.0.2.1/24")];
        let parent = |vlan, parent_netnsid| Link {
            index: 2,
            parent: Some(3),
            parent_netnsid,
            vlan,
            ..Link::default()
        };
        let netlink = Netlink::open().unwrap();
        let source = |parent: &Link| choose(&netlink, &all, parent, "192.0.2.7".parse().unwrap());
        let vlan = Some(Vlan {
            id: 5,
            protocol: Vlan::C_TAG,
        });
        let lent = Some(all[0].net.addr());
        assert_eq!(source(&parent(vlan, None)), Ok(lent));
        assert_eq!(source(&parent(vlan, Some(1))), Ok(None));
        assert_eq!(source(&parent(None, None)), Ok(None));
    }
}
