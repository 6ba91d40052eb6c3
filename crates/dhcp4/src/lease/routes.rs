//! The routes that follow from a lease (RFC 3442, RFC 2132 sections 3.5 and 5.8).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Lease;
use crate::options::{Options, Route};

impl Lease {
    /// The routes that the server sent, on-link routes first.
    ///
    /// If it sent classless routes (option 121), they are the only ones: RFC 3442 has options 33
    /// and 3 ignored then, including the default route. Otherwise the routes are the static ones
    /// (option 33) and a default route through the first router (option 3). Of several routes to
    /// one destination, the first is kept. A route through the leased address itself is on-link.
    ///
    /// A gateway may lie outside the address' subnet and all on-link routes. Linux refuses such a
    /// route unless an on-link route to the gateway comes first.
    pub fn routes(&self) -> Vec<Route> {
        let (mut routes, via): (Vec<_>, Vec<_>) = self
            .first_routes()
            .into_iter()
            .partition(|route| route.gateway.is_none());
        routes.extend(via);
        routes
    }

    /// The station on the link that a message to `destination` is handed to, according to the
    /// lease: `destination` itself, or the router of the most specific route to it.
    pub fn next_hop(&self, destination: Ipv4Addr) -> Ipv4Addr {
        if self.net().contains(&destination) {
            return destination;
        }
        let routes = self.first_routes().into_iter();
        routes
            .filter(|route| route.dst.contains(&destination))
            .max_by_key(|route| route.dst.prefix_len())
            .map_or(self.options.routers.first().copied(), |route| route.gateway)
            .unwrap_or(destination)
    }

    /// The first route that the server sent to each destination.
    fn first_routes(&self) -> Vec<Route> {
        let Options {
            routers,
            static_routes,
            classless_routes,
            ..
        } = &self.options;
        let default = routers.first().map(|&router| Route {
            dst: DEFAULT_DESTINATION,
            gateway: Some(router),
        });
        let received: Vec<Route> = if classless_routes.is_empty() {
            static_routes.iter().copied().chain(default).collect()
        } else {
            classless_routes.clone()
        };

        let mut routes: Vec<Route> = Vec::with_capacity(received.len());
        for Route { dst, gateway } in received {
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

const DEFAULT_DESTINATION: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);

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
    fn the_default_route_goes_through_the_first_router() {
        let routers = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let lease = lease(Options {
            routers,
            ..Options::default()
        });
        assert_eq!(lease.routes(), routes(["0.0.0.0/0 via 10.0.0.1"]));
    }

    #[test]
    fn static_routes_are_added_to_the_default_route() {
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
    fn classless_routes_replace_static_routes_and_the_default_route() {
        let lease = lease(Options {
            routers: vec!["10.0.0.1".parse().unwrap()],
            static_routes: routes(["192.168.7.0/24 via 10.0.0.9"]),
            classless_routes: routes(["172.16.0.0/12 via 10.0.0.2"]),
            ..Options::default()
        });
        assert_eq!(lease.routes(), routes(["172.16.0.0/12 via 10.0.0.2"]));
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_left_to_the_caller() {
        let routers = vec!["192.0.2.1".parse().unwrap()];
        let lease = lease(Options {
            routers,
            ..Options::default()
        });
        assert_eq!(lease.routes(), routes(["0.0.0.0/0 via 192.0.2.1"]));
    }

    #[test]
    fn on_link_routes_come_first() {
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
    fn a_route_through_the_leased_address_is_on_link_and_repeated_routes_are_dropped() {
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
    fn the_next_hop_is_the_destination_itself_or_the_router_of_the_best_route_to_it() {
        let (router, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
        let far = Ipv4Addr::new(192, 168, 7, 1);
        let routers = vec![router];
        let static_routes = routes(["192.168.7.0/24 via 10.0.0.9"]);
        let only_121 = Options {
            routers: routers.clone(),
            classless_routes: routes(["172.16.0.0/12 via 10.0.0.9", "192.168.7.0/24"]),
            ..Options::default()
        };
        for (options, destination, next_hop) in [
            (Options::default(), router, router),
            (Options::default(), far, far),
            (only_121.clone(), far, far),
            (only_121.clone(), Ipv4Addr::new(172, 16, 0, 1), other),
            // No route leads there, but a router is known.
            (only_121, Ipv4Addr::new(192, 0, 2, 1), router),
            (
                Options {
                    routers,
                    static_routes,
                    ..Options::default()
                },
                far,
                other,
            ),
        ] {
            let lease = lease(options);
            assert_eq!(lease.next_hop(destination), next_hop, "{lease:?}");
        }
    }
}
