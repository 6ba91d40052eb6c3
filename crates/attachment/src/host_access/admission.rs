//! Which addresses the host may be led to.
//!
//! The host trusts any station that answers at an address that it has a route to, and the address
//! comes from a DHCP server on the LAN, or from the author of a pod. So a route to a container must
//! not replace one that the host already has.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use linknet::{Address, Link, Netlink, Result, Route, Scope};

use super::resolvers;
use super::tag::AttachmentTag;
use crate::ownership::PROTOCOL;

/// The host's network as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct HostNetwork {
    /// All addresses.
    pub(super) addresses: Vec<Address>,
    /// The unicast routes of all tables, leasehold's own among them.
    pub(super) routes: Vec<Route>,
    /// The routes to destinations that the host sends no packets to: blackhole, unreachable and
    /// prohibit.
    pub(super) refused: Vec<Route>,
    /// The gateways that routes name by the number of a next-hop object.
    pub(super) nexthops: Vec<IpAddr>,
    /// The name servers that the host asks.
    pub(super) resolvers: Vec<IpAddr>,
}

/// A refusal to lead the host to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    to: IpAddr,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// It is on none of these prefixes, which are the parent's and those of the configuration.
    NoPrefix {
        parent: String,
        own: Vec<IpNet>,
        listed: Vec<IpNet>,
    },
    /// It is an address of the host, a peer's, or the network's or a broadcast address of a prefix
    /// of the host.
    HostAddress,
    /// Another attachment has it.
    OtherAttachment,
    /// A route of the host leads through it.
    Gateway,
    /// The host resolves names there.
    Resolver,
    /// The host has a route of its own to it, to this part of the prefix, or to all of the prefix.
    HostRoute(IpNet),
}

impl HostNetwork {
    /// Asks the kernel, and reads the host's resolver configuration.
    ///
    /// # Errors
    /// If either fails.
    pub(super) fn read(netlink: &Netlink) -> Result<HostNetwork> {
        let (routes, refused) = netlink.routes_and_refused()?;
        Ok(HostNetwork {
            addresses: netlink.all_addresses()?,
            routes,
            refused,
            nexthops: netlink.nexthop_gateways()?,
            resolvers: resolvers::read()?,
        })
    }

    /// Whether the host may be led to an address of this attachment on this parent. `listed` are
    /// the prefixes that the configuration allows beside the parent's own; an address that is
    /// listed by itself may be anything but the host's own or another attachment's.
    pub(super) fn admit(
        &self,
        parent: &Link,
        tag: AttachmentTag,
        to: IpAddr,
        listed: &[IpNet],
    ) -> Result<(), Refusal> {
        match self.objection(parent, tag, to, listed) {
            None => Ok(()),
            Some(reason) => Err(Refusal { to, reason }),
        }
    }

    fn objection(
        &self,
        parent: &Link,
        tag: AttachmentTag,
        to: IpAddr,
        listed: &[IpNet],
    ) -> Option<Reason> {
        if self.has_address(to) {
            return Some(Reason::HostAddress);
        }
        if self.leads_elsewhere(tag, to) {
            return Some(Reason::OtherAttachment);
        }
        if listed.contains(&to.into()) {
            return None;
        }
        let own = self.prefixes(parent);
        let prefixes = own.iter().chain(listed);
        let Some(prefix_len) = prefixes
            .filter(|prefix| prefix.contains(&to))
            .map(IpNet::prefix_len)
            .max()
        else {
            return Some(Reason::NoPrefix {
                parent: parent.name.clone(),
                own,
                listed: listed.to_vec(),
            });
        };
        if self.is_gateway(to) {
            return Some(Reason::Gateway);
        }
        if self.resolvers.contains(&to) {
            return Some(Reason::Resolver);
        }
        let is_listed = listed
            .iter()
            .any(|prefix| prefix.contains(&to) && prefix.prefix_len() == prefix_len);
        let mut routes = self.routes.iter().chain(&self.refused);
        let obstacle = routes.find(|route| {
            route.protocol != PROTOCOL
                && route.dst.contains(&to)
                && match route.dst.prefix_len().cmp(&prefix_len) {
                    Ordering::Less => false,
                    Ordering::Equal => !is_listed && self.wins(route, parent, to),
                    Ordering::Greater => is_single(route) || !is_on_link(route, parent),
                }
        })?;
        Some(Reason::HostRoute(obstacle.dst))
    }

    /// Whether the host uses this route to an address instead of the parent's own ones. Of other
    /// tables than the main one, rules decide which packets they are for: a host with two links to
    /// a LAN may have a table for each.
    fn wins(&self, route: &Route, parent: &Link, to: IpAddr) -> bool {
        let rank = |route: &Route| (Reverse(route.dst.prefix_len()), route.metric);
        let is_main = |route: &Route| route.table == Route::MAIN;
        is_main(route)
            && !self.routes.iter().any(|own| {
                is_main(own)
                    && is_on_link(own, parent)
                    && own.dst.contains(&to)
                    && rank(own) <= rank(route)
            })
    }

    fn is_gateway(&self, to: IpAddr) -> bool {
        self.nexthops.contains(&to) || self.routes.iter().any(|route| route.gateway == Some(to))
    }

    fn has_address(&self, to: IpAddr) -> bool {
        self.addresses.iter().any(|address| {
            let broadcast = address.broadcast.map(IpAddr::V4);
            let is_own = address.net.addr() == to || address.peer == Some(to);
            is_own || broadcast == Some(to) || is_end(prefix_on_link(address), to)
        })
    }

    /// Whether another attachment has the address, whether or not its route is there at the moment.
    fn leads_elsewhere(&self, tag: AttachmentTag, to: IpAddr) -> bool {
        let dst = IpNet::from(to);
        self.routes
            .iter()
            .any(|route| route.protocol == PROTOCOL && route.dst == dst && route.metric != tag.0)
    }

    /// The prefixes of a link's addresses, apart from those that are link-local.
    fn prefixes(&self, link: &Link) -> Vec<IpNet> {
        let is_on_link =
            |address: &&Address| address.index == link.index && address.scope < Scope::LINK;
        let addresses = self.addresses.iter().filter(is_on_link);
        let mut prefixes: Vec<IpNet> = addresses
            .filter_map(prefix_on_link)
            .filter(|prefix| !is_link_local(prefix.addr()))
            .collect();
        prefixes.sort();
        prefixes.dedup();
        prefixes
    }
}

/// Whether the route's destination is on the link itself, rather than behind a router.
fn is_on_link(route: &Route, link: &Link) -> bool {
    route.index == link.index && route.gateway.is_none()
}

fn is_single(route: &Route) -> bool {
    route.dst.prefix_len() == route.dst.max_prefix_len()
}

/// The prefix that an address puts on its link. With a peer, it is the peer's.
fn prefix_on_link(address: &Address) -> Option<IpNet> {
    let on_link = address.peer.unwrap_or(address.net.addr());
    let prefix = IpNet::new(on_link, address.net.prefix_len()).ok()?;
    Some(prefix.trunc())
}

/// Whether the address is the first of the prefix, which for IPv6 is any router's (RFC 4291
/// §2.6.1), or for IPv4 the last, to which a packet is a directed broadcast (RFC 919 §7). On links
/// between two stations both are ordinary addresses (RFC 3021, RFC 6164).
fn is_end(prefix: Option<IpNet>, address: IpAddr) -> bool {
    prefix.is_some_and(|prefix| {
        let is_last = prefix.addr().is_ipv4() && address == prefix.broadcast();
        prefix.max_prefix_len() - prefix.prefix_len() > 1
            && (address == prefix.network() || is_last)
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl Refusal {
    /// Whether the reason may be over soon: another attachment has the address, and is perhaps
    /// ending.
    pub fn is_temporary(&self) -> bool {
        self.reason == Reason::OtherAttachment
    }

    /// What an administrator can do about it.
    pub fn advice(&self) -> String {
        let to = self.to;
        match &self.reason {
            Reason::NoPrefix { .. } => format!(
                "if your containers have addresses there, add their prefix to the list, or the \
                 address by itself, as in \"hostAccess\": [\"{to}\"]; otherwise find out who \
                 assigned it"
            ),
            Reason::OtherAttachment => "if that container is gone, its DEL or GC removes the \
                                        route; otherwise find out who assigned the address twice"
                .to_owned(),
            Reason::HostAddress => "find out who assigned it".to_owned(),
            Reason::Gateway | Reason::Resolver | Reason::HostRoute(_) => format!(
                "if the container is meant to have it, list the address itself, as in \
                 \"hostAccess\": [\"{to}\"]; otherwise find out who assigned it"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host must not be led to {}: ", self.to)?;
        match &self.reason {
            Reason::NoPrefix {
                parent,
                own,
                listed,
            } => {
                let list = |prefixes: &[IpNet]| {
                    let prefixes: Vec<String> = prefixes.iter().map(IpNet::to_string).collect();
                    prefixes.join(", ")
                };
                match own.is_empty() {
                    true => write!(f, "{parent} has no address, and so no prefix that it is on"),
                    false => write!(f, "it is on no prefix of {parent} ({})", list(own)),
                }?;
                match listed.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", and on none that is listed ({})", list(listed)),
                }
            }
            Reason::HostAddress => {
                f.write_str("it is the host's own, a network's, or a broadcast address")
            }
            Reason::OtherAttachment => f.write_str("it is the address of another attachment"),
            Reason::Gateway => f.write_str("it is a gateway of the host"),
            Reason::Resolver => f.write_str("it is a name server of the host"),
            Reason::HostRoute(dst) => write!(f, "the host has a route of its own to {dst}"),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_access::testing::address;
    use crate::prefix::parse_prefix;

    const PARENT: u32 = 2;
    const OTHER: u32 = 3;

    fn route(dst: &str, index: u32) -> Route {
        Route::new(dst.parse::<IpNet>().unwrap(), index)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A host with an address of each family on eth1, a default gateway there, and a name server.
    fn host() -> HostNetwork {
        let broadcast = Some([10, 99, 0, 255].into());
        HostNetwork {
            addresses: vec![
                address(1, "127.0.0.1/8"),
                Address {
                    broadcast,
                    ..address(PARENT, "10.99.0.2/24")
                },
                address(PARENT, "fd99::2/64"),
                Address {
                    scope: Scope::LINK,
                    ..address(PARENT, "fe80::2/64")
                },
                address(PARENT, "169.254.7.7/16"),
                address(OTHER, "192.0.2.2/24"),
            ],
            routes: vec![
                route("0.0.0.0/0", PARENT).via(ip("10.99.0.1")),
                route("::/0", PARENT).via(ip("fd99::1")),
                route("10.99.0.0/24", PARENT),
                route("fd99::/64", PARENT),
                route("192.0.2.0/24", OTHER),
            ],
            refused: Vec::new(),
            nexthops: Vec::new(),
            resolvers: vec![ip("10.99.0.53"), ip("8.8.8.8")],
        }
    }

    /// What speaks against an address of attachment 7.
    fn objection(host: &HostNetwork, to: &str, listed: &[&str]) -> Option<Reason> {
        let parent = Link {
            index: PARENT,
            name: "eth1".to_owned(),
            ..Link::default()
        };
        let listed: Vec<IpNet> = listed
            .iter()
            .filter_map(|text| parse_prefix(text))
            .collect();
        let admitted = host.admit(&parent, AttachmentTag(7), ip(to), &listed);
        admitted.err().map(|refusal| refusal.reason)
    }

    fn is_on_no_prefix(reason: Option<&Reason>) -> bool {
        matches!(reason, Some(Reason::NoPrefix { .. }))
    }

    #[test]
    fn addresses_on_the_parents_prefixes_are_admitted_and_no_others() {
        let host = host();
        for to in ["10.99.0.61", "fd99::61"] {
            assert_eq!(objection(&host, to, &[]), None, "{to}");
        }
        for to in [
            "10.99.1.61",
            "8.8.4.4",
            "169.254.169.254",
            "169.254.7.8",
            "192.0.2.61",
            "127.0.0.7",
            "255.255.255.255",
            "0.0.0.0",
            "224.0.0.1",
            "2001:db8::53",
            "fe80::61",
            "ff02::1",
        ] {
            let reason = objection(&host, to, &[]);
            assert!(is_on_no_prefix(reason.as_ref()), "{to}: {reason:?}");
        }
        assert!(is_on_no_prefix(
            objection(&HostNetwork::default(), "10.99.0.61", &[]).as_ref()
        ));
    }

    #[test]
    fn what_the_host_uses_itself_is_refused() {
        let host = host();
        for (to, reason) in [
            ("10.99.0.2", Reason::HostAddress),
            ("fd99::2", Reason::HostAddress),
            ("10.99.0.255", Reason::HostAddress),
            ("192.0.2.2", Reason::HostAddress),
            ("10.99.0.1", Reason::Gateway),
            ("fd99::1", Reason::Gateway),
            ("10.99.0.53", Reason::Resolver),
        ] {
            assert_eq!(objection(&host, to, &[]), Some(reason), "{to}");
        }
    }

    #[test]
    fn a_listed_prefix_is_admitted_but_for_what_the_host_uses_in_it() {
        let host = host();
        let listed = ["10.0.0.0/8", "192.0.2.0/24", "8.8.8.0/24"];
        assert_eq!(objection(&host, "10.50.0.61", &listed), None);
        assert_eq!(objection(&host, "192.0.2.61", &listed), None);
        assert_eq!(objection(&host, "8.8.8.8", &listed), Some(Reason::Resolver));
        assert_eq!(
            objection(&host, "10.99.0.1", &listed),
            Some(Reason::Gateway)
        );
        assert!(is_on_no_prefix(
            objection(&host, "9.9.9.9", &listed).as_ref()
        ));
    }

    #[test]
    fn an_address_that_is_listed_by_itself_may_be_anything_but_somebody_elses() {
        let mut host = host();
        for to in ["10.99.0.1", "10.99.0.53", "8.8.8.8"] {
            assert_eq!(objection(&host, to, &[to]), None, "{to}");
        }
        assert_eq!(
            objection(&host, "10.99.0.2", &["10.99.0.2"]),
            Some(Reason::HostAddress)
        );
        host.routes.push(Route {
            protocol: PROTOCOL,
            metric: 8,
            ..route("10.99.0.61/32", 9)
        });
        assert_eq!(
            objection(&host, "10.99.0.61", &["10.99.0.61"]),
            Some(Reason::OtherAttachment)
        );
    }

    #[test]
    fn a_part_of_the_prefix_to_which_the_host_has_another_route_is_refused() {
        let mut host = host();
        let tunnel = route("10.99.0.128/25", OTHER);
        let single = route("10.99.0.61/32", PARENT);
        host.routes.extend([tunnel.clone(), single.clone()]);
        // Still on the parent's link.
        host.routes.push(route("10.99.0.64/26", PARENT));
        assert_eq!(
            objection(&host, "10.99.0.129", &[]),
            Some(Reason::HostRoute(tunnel.dst))
        );
        assert_eq!(
            objection(&host, "10.99.0.61", &[]),
            Some(Reason::HostRoute(single.dst))
        );
        assert_eq!(objection(&host, "10.99.0.65", &[]), None);
        assert_eq!(objection(&host, "10.99.0.129", &["10.99.0.128/25"]), None);
        // Through a router, the parent's link says nothing.
        host.routes = vec![route("10.99.0.128/25", PARENT).via(ip("10.99.0.9"))];
        assert!(objection(&host, "10.99.0.129", &[]).is_some());
    }

    #[test]
    fn a_part_of_the_prefix_that_the_host_refuses_to_reach_is_refused() {
        let mut host = host();
        let blackhole = route("10.99.0.128/26", 0);
        host.refused = vec![blackhole.clone()];
        assert_eq!(
            objection(&host, "10.99.0.130", &[]),
            Some(Reason::HostRoute(blackhole.dst))
        );
        assert_eq!(objection(&host, "10.99.0.61", &[]), None);
        assert_eq!(objection(&host, "10.99.0.130", &["10.99.0.130"]), None);
    }

    #[test]
    fn another_route_to_the_whole_prefix_is_an_obstacle_if_the_host_prefers_it() {
        let mut host = host();
        host.routes[2].metric = 100;
        let with = |others: &[Route]| HostNetwork {
            routes: host.routes.iter().chain(others).cloned().collect(),
            ..host.clone()
        };
        let tunnel = |metric| Route {
            metric,
            ..route("10.99.0.0/24", OTHER)
        };
        let refused = Some(Reason::HostRoute(tunnel(50).dst));
        assert_eq!(objection(&with(&[tunnel(50)]), "10.99.0.61", &[]), refused);
        assert_eq!(
            objection(&with(&[tunnel(50)]), "10.99.0.61", &["10.0.0.0/8"]),
            refused
        );
        // Through a router it is no different.
        let behind = Route {
            index: PARENT,
            ..tunnel(50).via(ip("10.99.0.9"))
        };
        assert_eq!(objection(&with(&[behind]), "10.99.0.61", &[]), refused);

        // The host's second link to the LAN.
        for metric in [100, 101] {
            assert_eq!(
                objection(&with(&[tunnel(metric)]), "10.99.0.61", &[]),
                None,
                "{metric}"
            );
        }
        // Packets from that link's address have a table of their own.
        let of_source = Route {
            table: 102,
            ..tunnel(0)
        };
        assert_eq!(objection(&with(&[of_source]), "10.99.0.61", &[]), None);
        // Who lists the prefix means all of it.
        assert_eq!(
            objection(&with(&[tunnel(50)]), "10.99.0.61", &["10.99.0.0/24"]),
            None
        );
        // A part of it that is on the parent's link stays there.
        let part = route("10.99.0.64/26", PARENT);
        let routes = [tunnel(50), part];
        assert_eq!(objection(&with(&routes), "10.99.0.65", &[]), None);
        assert_eq!(objection(&with(&routes), "10.99.0.61", &[]), refused);
        // Without a route of the parent's to the prefix, any other is used.
        host.routes.remove(2);
        host.routes.push(Route {
            table: 102,
            ..route("10.99.0.0/24", PARENT)
        });
        host.routes.push(tunnel(100));
        assert_eq!(objection(&host, "10.99.0.61", &[]), refused);
    }

    #[test]
    fn a_prefix_that_the_host_refuses_to_reach_is_an_obstacle_if_the_host_prefers_that() {
        let mut host = host();
        host.routes[3].metric = 256;
        for (metric, expected) in [
            (100, Some(Reason::HostRoute(host.routes[3].dst))),
            (1024, None),
        ] {
            host.refused = vec![Route {
                metric,
                ..route("fd99::/64", 1)
            }];
            assert_eq!(objection(&host, "fd99::61", &[]), expected, "{metric}");
        }
    }

    #[test]
    fn the_gateways_of_next_hop_objects_count() {
        let mut host = host();
        host.nexthops = vec![ip("10.99.0.3"), ip("fd99::3")];
        for to in ["10.99.0.3", "fd99::3"] {
            assert_eq!(objection(&host, to, &[]), Some(Reason::Gateway), "{to}");
        }
    }

    #[test]
    fn the_ends_of_the_hosts_prefixes_are_refused() {
        let mut host = host();
        host.addresses.extend([
            address(PARENT, "10.98.0.2/24"),
            address(PARENT, "10.97.0.2/31"),
        ]);
        host.addresses.push(address(PARENT, "fd97::2/127"));
        for to in [
            "10.99.0.0",
            "10.98.0.0",
            "10.98.0.255",
            "192.0.2.255",
            "fd99::",
        ] {
            assert_eq!(
                objection(&host, to, &[to]),
                Some(Reason::HostAddress),
                "{to}"
            );
        }
        for to in ["10.97.0.3", "fd97::3", "fd99::ffff:ffff:ffff:ffff"] {
            assert_eq!(objection(&host, to, &[]), None, "{to}");
        }
        // Containers may have all addresses of a list's prefix.
        assert_eq!(objection(&host, "10.42.0.0", &["10.42.0.0/16"]), None);
    }

    #[test]
    fn the_attachments_own_route_does_not_count_and_anothers_does() {
        let mut host = host();
        host.routes.push(Route {
            protocol: PROTOCOL,
            metric: 7,
            ..route("10.99.0.61/32", 9)
        });
        assert_eq!(objection(&host, "10.99.0.61", &[]), None);
        host.routes.push(Route {
            protocol: PROTOCOL,
            metric: 8,
            ..route("10.99.0.61/32", 9)
        });
        assert_eq!(
            objection(&host, "10.99.0.61", &[]),
            Some(Reason::OtherAttachment)
        );
    }

    #[test]
    fn on_a_point_to_point_link_the_prefix_is_the_peers() {
        let host = HostNetwork {
            addresses: vec![Address {
                peer: Some(ip("10.77.0.1")),
                ..address(PARENT, "10.99.0.2/24")
            }],
            ..HostNetwork::default()
        };
        assert_eq!(objection(&host, "10.77.0.61", &[]), None);
        assert!(objection(&host, "10.99.0.61", &[]).is_some());
        assert_eq!(
            objection(&host, "10.77.0.1", &[]),
            Some(Reason::HostAddress)
        );
    }

    #[test]
    fn an_address_that_is_valid_on_its_link_alone_brings_no_prefix() {
        let mut host = host();
        let of_the_link = Address {
            scope: Scope::LINK,
            ..address(PARENT, "10.77.0.2/24")
        };
        host.addresses.push(of_the_link);
        let reason = objection(&host, "10.77.0.61", &[]);
        assert!(is_on_no_prefix(reason.as_ref()), "{reason:?}");
    }

    #[test]
    fn only_another_attachment_may_soon_be_gone() {
        let refusal = |reason| Refusal {
            to: ip("10.99.0.61"),
            reason,
        };
        assert!(refusal(Reason::OtherAttachment).is_temporary());
        assert!(!refusal(Reason::HostAddress).is_temporary());
    }

    #[test]
    fn a_refusal_names_the_address_the_reason_and_a_remedy() {
        let parent = Link {
            index: PARENT,
            name: "eth1".to_owned(),
            ..Link::default()
        };
        let refused = |to| {
            let tag = AttachmentTag(7);
            host().admit(&parent, tag, ip(to), &[]).unwrap_err()
        };
        let gateway = refused("10.99.0.1");
        assert_eq!(
            gateway.to_string(),
            "the host must not be led to 10.99.0.1: it is a gateway of the host"
        );
        assert!(gateway.advice().contains("\"hostAccess\": [\"10.99.0.1\"]"));
        let elsewhere = refused("8.8.4.4").to_string();
        assert!(
            elsewhere.contains("no prefix of eth1 (10.99.0.0/24, fd99::/64)"),
            "{elsewhere}"
        );
    }
}
