//! What a container needs to answer the host.

use std::net::IpAddr;

use ipnet::IpNet;
use linknet::Route;

use crate::ownership::PROTOCOL;
use crate::plan::source_routing::SourceRouting;

/// An address that the host reaches, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// The container's address.
    pub to: IpAddr,
    /// The host's source address; `None` if the host has no usable one.
    pub from: Option<IpAddr>,
    /// The shim's link-local address.
    pub shim: IpAddr,
}

/// The routes that the container needs to answer the host, through its interface `ifindex`, in
/// every table that its packets are looked up in. `on_link` are the prefixes on its link; a host
/// address among them needs no route.
pub fn return_routes(
    reachable: &[Reachable],
    ifindex: u32,
    on_link: &[IpNet],
    source_routing: SourceRouting,
) -> Vec<Route> {
    let tables = [Route::MAIN]
        .into_iter()
        .chain(source_routing.table(ifindex));
    let routes = reachable
        .iter()
        .filter_map(|reachable| reachable.return_route(ifindex, on_link));
    routes
        .flat_map(|route| {
            tables.clone().map(move |table| Route {
                table,
                ..route.clone()
            })
        })
        .collect()
}

impl Reachable {
    fn return_route(&self, ifindex: u32, on_link: &[IpNet]) -> Option<Route> {
        let from = self.from?;
        let route = Route {
            protocol: PROTOCOL,
            ..Route::new(from, ifindex)
        };
        match from {
            IpAddr::V6(_) => Some(route.via(self.shim)),
            IpAddr::V4(_) if on_link.iter().any(|prefix| prefix.contains(&from)) => None,
            IpAddr::V4(_) => Some(route),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn routes(from: Option<&str>, source_routing: SourceRouting) -> Vec<String> {
        let reachable = Reachable {
            to: ip("10.0.0.5"),
            from: from.map(ip),
            shim: ip("fe80::1"),
        };
        let on_link = ["10.0.0.5/24".parse().unwrap()];
        let routes = return_routes(&[reachable], 2, &on_link, source_routing);
        assert!(routes.iter().all(|route| route.protocol == PROTOCOL));
        let show = |route: &Route| format!("{} {} {:?}", route.table, route.dst, route.gateway);
        routes.iter().map(show).collect()
    }

    #[test]
    fn an_ipv4_host_on_the_containers_link_needs_no_route_and_another_one_does() {
        assert_eq!(routes(Some("10.0.0.1"), SourceRouting::Off), [""; 0]);
        assert_eq!(
            routes(Some("192.0.2.1"), SourceRouting::Off),
            ["254 192.0.2.1/32 None"]
        );
        assert_eq!(routes(None, SourceRouting::Off), [""; 0]);
    }

    #[test]
    fn an_ipv6_host_is_answered_through_the_shim() {
        assert_eq!(
            routes(Some("fd00::1"), SourceRouting::Off),
            ["254 fd00::1/128 Some(fe80::1)"]
        );
    }

    #[test]
    fn a_table_of_the_interface_has_the_route_too() {
        assert_eq!(
            routes(Some("192.0.2.1"), SourceRouting::Table(50)),
            ["254 192.0.2.1/32 None", "50 192.0.2.1/32 None"]
        );
    }
}
