//! The routes of an interface that has a table of its own.

use std::net::Ipv6Addr;

use cni::{CniResult, Route};
use ipnet::{IpNet, Ipv6Net};
use linknet::Scope;

use super::key::SourceRouting;

/// The result with the routes that ADD installs for the interface `ifindex`, in an order in which
/// each can be set. Without source routing it is unchanged.
///
/// A default route is only in the interface's table, so that it does not replace another network's.
/// Every other route is both in the main table and in the interface's. The prefixes of the
/// addresses, which the kernel adds only to the main table by itself, are added to the interface's
/// as well. A route that names a table stays there.
pub fn expand(result: CniResult, source_routing: SourceRouting, ifindex: u32) -> CniResult {
    let Some(table) = source_routing.table(ifindex) else {
        return result;
    };
    let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    let in_table = |route: &Route| Route {
        table: Some(table),
        ..route.clone()
    };
    let mut routes = on_link(table, &addresses);
    for route in &result.routes {
        if route.table.is_some() || route.dst.prefix_len() > 0 {
            routes.push(route.clone());
        }
        if route.table.is_none() {
            routes.push(in_table(route));
        }
    }
    CniResult { routes, ..result }
}

/// The routes in `table` to the prefixes on the link of an interface with these addresses. An
/// address that is alone in its prefix has none.
pub(in crate::plan) fn on_link(table: u32, addresses: &[IpNet]) -> Vec<Route> {
    // Packets from a link-local address are looked up in the table too.
    let link_local = IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        64,
    ));
    let mut prefixes: Vec<IpNet> = Vec::new();
    for address in addresses {
        let own =
            Some(address.trunc()).filter(|prefix| prefix.prefix_len() < prefix.max_prefix_len());
        let link_local = address.addr().is_ipv6().then_some(link_local);
        for prefix in own.into_iter().chain(link_local) {
            if !prefixes.contains(&prefix) {
                prefixes.push(prefix);
            }
        }
    }
    let to_route = |prefix| Route {
        scope: Some(Scope::LINK.0),
        table: Some(table),
        ..Route::new(prefix)
    };
    prefixes.into_iter().map(to_route).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use cni::IpConfig;

    use super::*;

    fn shown(addresses: &[&str], routes: &[Route]) -> Vec<String> {
        let ips = addresses
            .iter()
            .map(|address| IpConfig::new(address.parse().unwrap()));
        let result = CniResult {
            ips: ips.collect(),
            routes: routes.to_vec(),
            ..CniResult::default()
        };
        let show = |route: &Route| {
            let via = route
                .gw
                .map(|gateway| format!(" via {gateway}"))
                .unwrap_or_default();
            let scope = route
                .scope
                .map(|scope| format!(" scope {scope}"))
                .unwrap_or_default();
            let table = route
                .table
                .map_or_else(|| "main".to_owned(), |table| table.to_string());
            format!("{table}: {}{via}{scope}", route.dst)
        };
        expand(result, SourceRouting::Table(50), 2)
            .routes
            .iter()
            .map(show)
            .collect()
    }

    fn to(dst: &str) -> Route {
        Route::new(dst.parse().unwrap())
    }

    #[test]
    fn a_default_route_is_in_the_own_table_alone_and_every_other_in_both() {
        let routes = [
            Route {
                gw: Some(IpAddr::from([10, 0, 0, 1])),
                ..to("0.0.0.0/0")
            },
            to("10.9.0.0/16"),
            Route {
                table: Some(254),
                ..to("0.0.0.0/0")
            },
            Route {
                table: Some(7),
                ..to("10.8.0.0/16")
            },
        ];
        assert_eq!(
            shown(&["10.0.0.5/24"], &routes),
            [
                "50: 10.0.0.0/24 scope 253",
                "50: 0.0.0.0/0 via 10.0.0.1",
                "main: 10.9.0.0/16",
                "50: 10.9.0.0/16",
                "254: 0.0.0.0/0",
                "7: 10.8.0.0/16",
            ]
        );
    }

    #[test]
    fn each_prefix_on_the_link_is_in_the_table_once() {
        assert_eq!(shown(&["10.0.0.5/32"], &[]), [""; 0]);
        assert_eq!(
            shown(
                &["10.0.0.5/24", "10.0.0.6/24", "fd00::5/64", "fd00::6/128"],
                &[]
            ),
            [
                "50: 10.0.0.0/24 scope 253",
                "50: fd00::/64 scope 253",
                "50: fe80::/64 scope 253"
            ]
        );
    }
}
