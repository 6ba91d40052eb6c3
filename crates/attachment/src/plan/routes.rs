//! Converting CNI's routes into the kernel's.

use std::net::IpAddr;

use cni::IpConfig;
use linknet::{Netlink, Route, Scope};

use super::gateways::{is_forwarded, with_gateway_routes};

/// Converts the routes of a result into the kernel's, through the interface `ifindex` with the
/// addresses `ips`, in an order in which each can be set.
///
/// A route without a gateway uses that of its family (the first address that names one), as in the
/// Go plugins. A route is on the link if there is no gateway, if the gateway is the unspecified
/// address, if its scope is link or narrower, which excludes a gateway, or if it names none and no
/// router forwards packets to its destination.
pub(super) fn for_kernel(ifindex: u32, ips: &[IpConfig], routes: &[cni::Route]) -> Vec<Route> {
    let addresses = ips.iter().map(|ip| ip.address);
    let complete = with_gateway_routes(addresses, resolved(ips, routes));
    complete
        .iter()
        .map(|route| to_kernel(route, ifindex))
        .collect()
}

/// The same without the routes to gateways: the routes themselves, in their order.
pub(super) fn as_reported(ifindex: u32, ips: &[IpConfig], routes: &[cni::Route]) -> Vec<Route> {
    resolved(ips, routes)
        .map(|route| to_kernel(&route, ifindex))
        .collect()
}

/// The routes, each with its gateway.
fn resolved(ips: &[IpConfig], routes: &[cni::Route]) -> impl Iterator<Item = cni::Route> {
    routes.iter().map(|route| cni::Route {
        gw: gateway(route, ips),
        ..route.clone()
    })
}

/// Adds a route. It is no error if there is already a route for the same packets through the same
/// gateway.
///
/// The new route comes before another to the same destination, as with the Go plugins: a second
/// network's default route takes precedence over the first's, unless a metric (`priority`) says
/// otherwise.
pub(super) fn add(inside: &Netlink, route: &Route) -> linknet::Result<()> {
    let refusal = match inside.prepend_route(route) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    if refusal.is_exists() {
        let existing = inside.routes(Some(route.index))?;
        if existing.iter().any(|existing| serves_as(existing, route)) {
            return Ok(());
        }
    }
    Err(refusal)
}

/// Whether the existing route has all the properties of the wanted one.
fn serves_as(existing: &Route, wanted: &Route) -> bool {
    existing.is_same(&Route {
        source: wanted.source.or(existing.source),
        mtu: wanted.mtu.or(existing.mtu),
        advmss: wanted.advmss.or(existing.advmss),
        ..wanted.clone()
    })
}

/// The table that the kernel takes for the main one (`RT_TABLE_UNSPEC`).
const UNSPECIFIED_TABLE: u32 = 0;

fn to_kernel(route: &cni::Route, ifindex: u32) -> Route {
    let kernel = Route {
        metric: route.priority.unwrap_or(0),
        table: route
            .table
            .filter(|table| *table != UNSPECIFIED_TABLE)
            .unwrap_or(Route::MAIN),
        mtu: route.mtu,
        advmss: route.advmss,
        ..Route::new(route.dst, ifindex)
    };
    let kernel = match route.gw.filter(|gateway| !gateway.is_unspecified()) {
        Some(gateway) => kernel.via(gateway),
        None => kernel,
    };
    Route {
        scope: route.scope.map_or(kernel.scope, Scope),
        ..kernel
    }
}

fn gateway(route: &cni::Route, ips: &[IpConfig]) -> Option<IpAddr> {
    let is_v6 = route.dst.addr().is_ipv6();
    let on_link = route.scope.is_some_and(|scope| Scope(scope) >= Scope::LINK);
    let default = || {
        let mut gateways = ips.iter().filter_map(|ip| ip.gateway);
        gateways.find(|gateway| gateway.is_ipv6() == is_v6)
    };
    let prefixes = ips.iter().map(|ip| ip.address);
    let is_forwarded = !on_link && is_forwarded(&route.dst, prefixes);
    route.gw.or_else(|| default().filter(|_| is_forwarded))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// An address with its gateway.
    fn address(address: &str, gateway: &str) -> IpConfig {
        IpConfig {
            gateway: gateway.parse().ok(),
            ..IpConfig::new(net(address))
        }
    }

    fn to(dst: &str) -> cni::Route {
        cni::Route::new(net(dst))
    }

    fn planned(ips: &[IpConfig], routes: &[cni::Route]) -> Vec<Route> {
        for_kernel(2, ips, routes)
    }

    fn via(dst: &str, gateway: &str) -> Route {
        Route::new(net(dst), 2).via(ip(gateway))
    }

    #[test]
    fn a_route_without_a_gateway_uses_that_of_its_family() {
        let ips = [
            address("10.0.0.5/24", "10.0.0.1"),
            address("10.0.0.6/24", "10.0.0.2"),
            address("fd00::5/64", "fd00::1"),
        ];
        let routes = planned(
            &ips,
            &[
                to("0.0.0.0/0"),
                to("::/0"),
                cni::Route {
                    gw: Some(ip("10.0.0.9")),
                    ..to("10.9.0.0/16")
                },
            ],
        );
        assert_eq!(
            routes,
            [
                via("0.0.0.0/0", "10.0.0.1"),
                via("::/0", "fd00::1"),
                via("10.9.0.0/16", "10.0.0.9")
            ]
        );
    }

    #[test]
    fn a_route_is_on_the_link_if_gateway_or_scope_say_so() {
        let on_link = Route::new(net("10.9.0.0/16"), 2);
        assert_eq!(
            planned(&[address("10.0.0.5/24", "")], &[to("10.9.0.0/16")]),
            std::slice::from_ref(&on_link)
        );
        let ips = [address("10.0.0.5/24", "10.0.0.1")];
        for dst in ["10.0.0.128/25", "169.254.0.0/16", "224.0.0.0/4"] {
            assert_eq!(planned(&ips, &[to(dst)]), [Route::new(net(dst), 2)]);
        }
        for asked in [
            cni::Route {
                scope: Some(253),
                ..to("10.9.0.0/16")
            },
            cni::Route {
                gw: Some(ip("0.0.0.0")),
                ..to("10.9.0.0/16")
            },
        ] {
            assert_eq!(planned(&ips, &[asked]), std::slice::from_ref(&on_link));
        }
    }

    #[test]
    fn a_gateway_outside_every_prefix_gets_an_on_link_route_once() {
        let ips = [address("10.0.0.5/32", "192.0.2.1")];
        let gateway = Route::new(net("192.0.2.1/32"), 2);
        assert_eq!(
            planned(&ips, &[to("0.0.0.0/0"), to("10.9.0.0/16")]),
            [
                gateway.clone(),
                via("0.0.0.0/0", "192.0.2.1"),
                via("10.9.0.0/16", "192.0.2.1")
            ]
        );
        // In another table it is looked for there.
        let other = cni::Route {
            table: Some(100),
            ..to("0.0.0.0/0")
        };
        assert_eq!(
            planned(&ips, &[other, to("10.9.0.0/16")]),
            [
                Route {
                    table: 100,
                    ..gateway.clone()
                },
                Route {
                    table: 100,
                    ..via("0.0.0.0/0", "192.0.2.1")
                },
                gateway,
                via("10.9.0.0/16", "192.0.2.1"),
            ]
        );
    }

    #[test]
    fn a_gateway_covered_by_a_prefix_or_an_earlier_route_needs_no_route() {
        for (ips, routes) in [
            ([address("10.0.0.4/31", "10.0.0.5")], vec![to("0.0.0.0/0")]),
            ([address("fd00::5/128", "fe80::1")], vec![to("::/0")]),
            (
                [address("10.0.0.5/32", "192.0.2.1")],
                vec![
                    cni::Route {
                        scope: Some(253),
                        ..to("192.0.2.0/24")
                    },
                    to("0.0.0.0/0"),
                ],
            ),
        ] {
            assert_eq!(planned(&ips, &routes).len(), routes.len());
        }
    }

    #[test]
    fn metric_table_mtu_and_scope_reach_the_kernel() {
        let asked = cni::Route {
            priority: Some(50),
            table: Some(100),
            mtu: Some(1400),
            advmss: Some(1300),
            scope: Some(200),
            ..to("10.9.0.7/16")
        };
        let route = planned(&[address("10.0.0.5/24", "10.0.0.1")], &[asked]).remove(0);
        let expected = Route {
            metric: 50,
            table: 100,
            mtu: Some(1400),
            advmss: Some(1300),
            scope: Scope(200),
            ..via("10.9.0.0/16", "10.0.0.1")
        };
        assert_eq!(route, expected);
    }

    #[test]
    fn an_existing_route_serves_if_it_does_all_that_is_asked() {
        let asked = via("::/0", "fe80::1");
        let there = Route {
            metric: 1024,
            mtu: Some(1480),
            ..asked.clone()
        };
        assert!(serves_as(&there, &asked));
        assert!(serves_as(
            &there,
            &Route {
                mtu: Some(1480),
                ..asked.clone()
            }
        ));
        assert!(!serves_as(
            &there,
            &Route {
                mtu: Some(1400),
                ..asked.clone()
            }
        ));
        assert!(!serves_as(&there, &via("::/0", "fe80::2")));
        let with_more = Route {
            source: Some(ip("fd00::5")),
            advmss: Some(1300),
            ..there.clone()
        };
        assert!(serves_as(&with_more, &asked));
        assert!(!serves_as(&there, &with_more));
        assert!(!serves_as(
            &there,
            &Route {
                metric: 50,
                ..asked
            }
        ));
    }
}
