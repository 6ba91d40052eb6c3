//! Routes out of a lease (RFC 3442, RFC 2132).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::lease::Lease;
use crate::options::Options;

/// A route that a server told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to, host bits cleared.
    pub dst: Ipv4Net,
    /// Through whom; `None`: the destination is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

impl Lease {
    /// The routes to set, in an order in which each can be set: on-link routes first, then those
    /// through gateways.
    ///
    /// Classless routes (121), where there are any, stand alone: RFC 3442 wants 33 and 3 ignored
    /// then, the default route included. Otherwise there are the static routes (33) and a default
    /// route through the first router (3). A destination named twice keeps its first route. A
    /// gateway that is neither in the address' own subnet nor on an on-link route gets an on-link
    /// route of its own, and one that is the address itself means on-link too.
    pub fn routes(&self) -> Vec<Route> {
        let (mut routes, via): (Vec<_>, Vec<_>) = self
            .told_routes()
            .into_iter()
            .partition(|route| route.gateway.is_none());
        for gateway in via.iter().filter_map(|route| route.gateway) {
            let reachable =
                self.net().contains(&gateway) || routes.iter().any(|r| r.dst.contains(&gateway));
            if !reachable {
                routes.push(Route {
                    dst: Ipv4Net::from(gateway),
                    gateway: None,
                });
            }
        }
        routes.extend(via);
        routes
    }

    /// What the server told, each destination once.
    fn told_routes(&self) -> Vec<Route> {
        let Options {
            routers,
            static_routes,
            classless_routes,
            ..
        } = &self.options;
        let default = routers.first().map(|&router| Route {
            dst: DEFAULT,
            gateway: Some(router),
        });
        let told: Vec<Route> = if classless_routes.is_empty() {
            static_routes.iter().copied().chain(default).collect()
        } else {
            classless_routes.clone()
        };

        let mut routes: Vec<Route> = Vec::with_capacity(told.len());
        for Route { dst, gateway } in told {
            if routes.iter().all(|known| known.dst != dst) {
                routes.push(Route {
                    dst,
                    gateway: gateway.filter(|&gateway| gateway != self.address),
                });
            }
        }
        routes
    }
}

const DEFAULT: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);

/// The network that an option without masks means by an address (RFC 2132 section 5.8, RFC 950):
/// its class' network, or the one host where host bits are set.
pub(crate) fn classful(address: Ipv4Addr) -> Ipv4Net {
    let net = Ipv4Net::new_assert(address, class_prefix_len(address));
    if net.trunc() == net {
        net
    } else {
        Ipv4Net::from(address)
    }
}

/// The prefix length that an address without a mask has.
pub(crate) fn class_prefix_len(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn lease(options: Options) -> Lease {
        Lease {
            address: "10.0.0.5".parse().unwrap(),
            prefix_len: 24,
            server_id: "10.0.0.1".parse().unwrap(),
            requested_at: Instant::BOOT,
            lifetime: None,
            t1: None,
            t2: None,
            options,
        }
    }

    fn route(text: &str) -> Route {
        match text.split_once(" via ") {
            Some((dst, gateway)) => Route {
                dst: dst.parse().unwrap(),
                gateway: Some(gateway.parse().unwrap()),
            },
            None => Route {
                dst: text.parse().unwrap(),
                gateway: None,
            },
        }
    }

    fn routes<const N: usize>(texts: [&str; N]) -> Vec<Route> {
        texts.map(route).to_vec()
    }

    #[test]
    fn the_first_router_is_the_default_route() {
        let routers = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let lease = lease(Options {
            routers,
            ..Options::default()
        });
        assert_eq!(lease.routes(), routes(["0.0.0.0/0 via 10.0.0.1"]));
    }

    #[test]
    fn static_routes_stand_beside_the_router() {
        let lease = lease(Options {
            routers: vec!["10.0.0.1".parse().unwrap()],
            static_routes: routes(["192.168.7.0/24 via 10.0.0.9"]),
            ..Options::default()
        });
        assert_eq!(
            lease.routes(),
            routes(["192.168.7.0/24 via 10.0.0.9", "0.0.0.0/0 via 10.0.0.1"])
        );
    }

    #[test]
    fn classless_routes_silence_the_others() {
        let lease = lease(Options {
            routers: vec!["10.0.0.1".parse().unwrap()],
            static_routes: routes(["192.168.7.0/24 via 10.0.0.9"]),
            classless_routes: routes(["172.16.0.0/12 via 10.0.0.2"]),
            ..Options::default()
        });
        assert_eq!(lease.routes(), routes(["172.16.0.0/12 via 10.0.0.2"]));
    }

    #[test]
    fn a_gateway_outside_the_subnet_gets_an_on_link_route_first() {
        let routers = vec!["192.0.2.1".parse().unwrap()];
        let lease = lease(Options {
            routers,
            ..Options::default()
        });
        assert_eq!(
            lease.routes(),
            routes(["192.0.2.1/32", "0.0.0.0/0 via 192.0.2.1"])
        );
    }

    #[test]
    fn on_link_routes_come_first_and_serve_the_gateways_they_hold() {
        let lease = lease(Options {
            classless_routes: routes(["0.0.0.0/0 via 169.254.1.1", "169.254.0.0/16"]),
            ..Options::default()
        });
        assert_eq!(
            lease.routes(),
            routes(["169.254.0.0/16", "0.0.0.0/0 via 169.254.1.1"])
        );
    }

    #[test]
    fn a_route_through_ourselves_is_on_link_and_a_second_route_to_one_place_is_dropped() {
        let lease = lease(Options {
            classless_routes: routes([
                "10.1.0.0/16 via 10.0.0.5",
                "10.2.0.0/16 via 10.0.0.1",
                "10.2.0.0/16",
            ]),
            ..Options::default()
        });
        assert_eq!(
            lease.routes(),
            routes(["10.1.0.0/16", "10.2.0.0/16 via 10.0.0.1"])
        );
    }

    #[test]
    fn an_address_without_a_mask_has_that_of_its_class() {
        for (address, net) in [
            ("10.0.0.0", "10.0.0.0/8"),
            ("172.16.0.0", "172.16.0.0/16"),
            ("192.168.7.0", "192.168.7.0/24"),
            ("192.168.7.9", "192.168.7.9/32"),
            ("10.1.0.0", "10.1.0.0/32"),
        ] {
            assert_eq!(
                classful(address.parse().unwrap()),
                net.parse().unwrap(),
                "{address}"
            );
        }
    }
}
