//! The routes of a CNI result, as the kernel wants them.

use std::net::IpAddr;

use cni::{CniResult, Error, Reach};
use linknet::{Netlink, Route, Scope};

use crate::addresses::refused;

/// The routes of a result through the link of this number, in an order in which each can be set.
///
/// A route without a gateway goes through its family's (the first address that names one), as the
/// Go plugins have it. It is on the link if there is no gateway, if the gateway is the unspecified
/// address, or if its scope says so (link or narrower, which a gateway contradicts). A gateway that
/// no prefix of ours covers gets a route of its own first, so that a /32 address works, and the
/// gateway itself is reached.
pub(crate) fn plan(index: u32, result: &CniResult) -> Vec<Route> {
    let mut reach = Reach::of(result.ips.iter().map(|ip| ip.address));
    let mut routes: Vec<Route> = Vec::new();
    for asked in &result.routes {
        let route = Route {
            metric: asked.priority.unwrap_or(0),
            table: asked.table.unwrap_or(Route::MAIN),
            mtu: asked.mtu,
            advmss: asked.advmss,
            ..Route::new(asked.dst, index)
        };
        let mut route = match gateway(asked, result) {
            None => {
                reach.add(route.dst, asked.table);
                route
            }
            Some(gateway) => {
                if !reach.covers(gateway, asked.table) {
                    reach.add(gateway.into(), asked.table);
                    routes.push(Route {
                        dst: gateway.into(),
                        mtu: None,
                        advmss: None,
                        ..route.clone()
                    });
                }
                route.via(gateway)
            }
        };
        if let Some(scope) = asked.scope {
            route.scope = Scope(scope);
        }
        routes.push(route);
    }
    routes
}

/// Adds a route. One that is there already is no error when it leads the same packets the same way.
///
/// Beside another to the same destination the new one goes first, as with the Go plugins: a second
/// network's default route takes the place of the first's. Whoever wants it otherwise gives it a
/// metric (`priority`).
pub(crate) fn add(inside: &Netlink, route: &Route) -> Result<(), Error> {
    let refusal = match inside.add_route_beside(route) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    if refusal.is_exists() {
        let there = inside
            .routes(Some(route.index))
            .map_err(|error| refused(&error))?;
        if there.iter().any(|there| serves_as(there, route)) {
            return Ok(());
        }
    }
    Err(refused(&refusal))
}

/// Whether the route that is there does all that is asked of the other.
fn serves_as(there: &Route, asked: &Route) -> bool {
    there.is_same(&Route {
        source: asked.source.or(there.source),
        mtu: asked.mtu.or(there.mtu),
        advmss: asked.advmss.or(there.advmss),
        ..asked.clone()
    })
}

fn gateway(route: &cni::Route, result: &CniResult) -> Option<IpAddr> {
    let v6 = route.dst.addr().is_ipv6();
    let on_link = route.scope.is_some_and(|scope| Scope(scope) >= Scope::LINK);
    let default = || {
        result
            .ips
            .iter()
            .filter_map(|ip| ip.gateway)
            .find(|gateway| gateway.is_ipv6() == v6)
    };
    route
        .gw
        .or_else(|| default().filter(|_| !on_link))
        .filter(|gateway| !gateway.is_unspecified())
}

#[cfg(test)]
mod tests {
    use cni::IpConfig;
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
        plan(
            2,
            &CniResult {
                ips: ips.to_vec(),
                routes: routes.to_vec(),
                ..CniResult::default()
            },
        )
    }

    fn via(dst: &str, gateway: &str) -> Route {
        Route::new(net(dst), 2).via(ip(gateway))
    }

    #[test]
    fn a_route_without_a_gateway_goes_through_the_one_of_its_family() {
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
    fn a_route_is_on_the_link_without_any_gateway_with_that_scope_or_through_the_unspecified_address()
     {
        let on_link = Route::new(net("10.9.0.0/16"), 2);
        assert_eq!(
            planned(&[address("10.0.0.5/24", "")], &[to("10.9.0.0/16")]),
            std::slice::from_ref(&on_link)
        );
        let ips = [address("10.0.0.5/24", "10.0.0.1")];
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
    fn a_gateway_outside_every_prefix_gets_a_route_of_its_own_once() {
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
    fn a_gateway_within_a_prefix_or_behind_an_earlier_route_needs_none() {
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
    fn metric_table_mtu_and_scope_are_kept() {
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
    fn a_route_that_is_there_serves_if_it_does_all_that_is_asked() {
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
        assert!(!serves_as(
            &there,
            &Route {
                metric: 50,
                ..asked
            }
        ));
    }
}
