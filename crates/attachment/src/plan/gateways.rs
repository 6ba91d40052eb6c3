//! Gateways that an interface cannot reach: the kernel refuses a route through one, unless an
//! on-link route to the gateway comes first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linknet::Route;

/// Inserts an on-link route to the gateway before each route whose gateway no prefix covers,
/// because the kernel refuses a route through a gateway that it cannot reach. So a /32 address
/// works, and the gateway itself is reachable.
///
/// `addresses` are those of the interface. A route without a gateway, or with the unspecified
/// address as its gateway, is on the link.
pub fn with_gateway_routes(
    addresses: impl IntoIterator<Item = IpNet>,
    routes: impl IntoIterator<Item = cni::Route>,
) -> Vec<cni::Route> {
    let mut reach = Reach::of(addresses);
    let mut complete = Vec::new();
    for route in routes {
        match route.gw.filter(|gateway| !gateway.is_unspecified()) {
            None => reach.add(route.dst, route.table),
            Some(gateway) if reach.covers(gateway, route.table) => {}
            Some(gateway) => {
                let dst = IpNet::from(gateway);
                reach.add(dst, route.table);
                complete.push(cni::Route {
                    gw: Some(on_link_gateway(&dst)),
                    priority: route.priority,
                    table: route.table,
                    ..cni::Route::new(dst)
                });
            }
        }
        complete.push(route);
    }
    complete
}

/// The gateway that stands for "on the link" in CNI: the unspecified address.
pub fn on_link_gateway(dst: &IpNet) -> IpAddr {
    match dst {
        IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whether routers forward packets to this destination, on a link with these prefixes. They do not
/// for the link's own prefixes, which need no router, nor for link-local and multicast addresses.
/// So a default gateway means nothing there.
pub fn is_forwarded(dst: &IpNet, prefixes: impl IntoIterator<Item = IpNet>) -> bool {
    let is_on_link = |prefix: IpNet| prefix.contains(dst);
    !NOT_FORWARDED.into_iter().any(is_on_link) && !prefixes.into_iter().any(is_on_link)
}

/// Link-local and multicast addresses (RFC 3927 §7, RFC 4291 §2.5.6, RFC 5771 §4).
const NOT_FORWARDED: [IpNet; 4] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
    )),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
    )),
];

/// The prefixes on an interface's link, each with the table that has its route: the kernel looks
/// for a gateway in the route's own table, then in the main one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    prefixes: Vec<(IpNet, u32)>,
}

impl Reach {
    /// The prefixes of these addresses.
    fn of(addresses: impl IntoIterator<Item = IpNet>) -> Reach {
        let prefixes = addresses.into_iter().map(|address| (address, Route::MAIN));
        Reach {
            prefixes: prefixes.collect(),
        }
    }

    /// Adds the destination of a route that is on the link.
    fn add(&mut self, dst: IpNet, table: Option<u32>) {
        self.prefixes.push((dst, table.unwrap_or(Route::MAIN)));
    }

    /// Whether a route in this table may have this gateway. IPv6 routers are usually named by their
    /// link-local address, which is always on the link.
    fn covers(&self, gateway: IpAddr, table: Option<u32>) -> bool {
        let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        let tables = [table.unwrap_or(Route::MAIN), Route::MAIN];
        let is_on =
            |(prefix, table): &(IpNet, u32)| tables.contains(table) && prefix.contains(&gateway);
        link_local || self.prefixes.iter().any(is_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_forwards_what_is_neither_on_the_link_nor_link_local_nor_multicast() {
        let prefixes = ["10.0.0.5/24", "fd00::5/64"].map(|text| text.parse::<IpNet>().unwrap());
        for (dst, expected) in [
            ("0.0.0.0/0", true),
            ("10.0.0.0/8", true),
            ("10.0.1.0/24", true),
            ("10.0.0.0/24", false),
            ("10.0.0.128/25", false),
            ("169.254.169.254/32", false),
            ("169.254.0.0/16", false),
            ("169.0.0.0/8", true),
            ("224.0.0.0/4", false),
            ("239.1.2.3/32", false),
            ("::/0", true),
            ("fd00::/48", true),
            ("fd00::7/128", false),
            ("fe80::/64", false),
            ("ff05::/16", false),
        ] {
            assert_eq!(
                is_forwarded(&dst.parse().unwrap(), prefixes),
                expected,
                "{dst}"
            );
        }
    }

    #[test]
    fn the_route_to_a_gateway_is_on_the_link_in_the_place_of_the_route_through_it() {
        for (address, dst, gateway, on_link) in [
            ("10.0.0.5/32", "0.0.0.0/0", "192.0.2.1", "0.0.0.0"),
            ("fd00::5/128", "::/0", "fd01::1", "::"),
        ] {
            let (gateway, on_link): (IpAddr, IpAddr) =
                (gateway.parse().unwrap(), on_link.parse().unwrap());
            let route = |dst, gateway| cni::Route {
                gw: Some(gateway),
                priority: Some(7),
                table: Some(100),
                ..cni::Route::new(dst)
            };
            let default = route(dst.parse().unwrap(), gateway);
            let complete = with_gateway_routes([address.parse().unwrap()], [default.clone()]);
            assert_eq!(complete, [route(gateway.into(), on_link), default]);
        }
    }

    #[test]
    fn a_gateway_is_looked_up_in_the_routes_own_table_and_the_main_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut reach = Reach::of([
            "10.0.0.5/24".parse().unwrap(),
            "fd00::5/64".parse().unwrap(),
        ]);
        reach.add("192.0.2.1/32".parse().unwrap(), Some(100));
        for (gateway, table, expected) in [
            ("10.0.0.1", None, true),
            ("10.0.0.1", Some(254), true),
            ("10.0.0.1", Some(100), true),
            ("10.0.1.1", None, false),
            ("192.0.2.1", Some(100), true),
            ("192.0.2.1", None, false),
            ("192.0.2.1", Some(7), false),
            ("fd00::1", None, true),
            ("fd01::1", None, false),
            ("fe80::1", None, true),
        ] {
            assert_eq!(
                reach.covers(ip(gateway), table),
                expected,
                "{gateway} in {table:?}"
            );
        }
        assert!(!Reach::default().covers(ip("10.0.0.1"), None));
    }
}
