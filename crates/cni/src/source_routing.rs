//! `sourceRouting`: an attachment that answers on its own, whatever the container's default route
//! is.
//!
//! The key is leasehold's. It stands at the top of the network configuration, where the plugin that
//! makes the routes finds it, and an IPAM plugin too whose addresses change later. What routes
//! follow from it both must agree on.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::Route;

/// Which table the packets are looked up in that come from the attachment's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceRouting {
    /// The one that all others are looked up in: `false` or 0.
    #[default]
    Off,
    /// One of the interface's own, which follows from its number: `true`.
    Own,
    /// This one.
    Table(u32),
}

impl SourceRouting {
    /// Whether it is [`SourceRouting::Off`].
    pub fn is_off(&self) -> bool {
        *self == SourceRouting::Off
    }

    /// The table, for the interface of this number in the container; `None` if there is none of its
    /// own.
    pub fn table(self, ifindex: u32) -> Option<u32> {
        match self {
            SourceRouting::Off => None,
            SourceRouting::Own => Some(SourceRouting::own_table(ifindex)),
            SourceRouting::Table(table) => Some(table),
        }
    }

    /// The table of [`SourceRouting::Own`]. Interfaces are numbered one by one, so it is far from
    /// the kernel's own tables and those that people number by hand.
    pub fn own_table(ifindex: u32) -> u32 {
        ifindex.saturating_add(1000)
    }

    /// The routes of an interface with these addresses when `table` is its own, in an order in
    /// which each can be set.
    ///
    /// A default route is in that table alone, so that it does not take the place of another
    /// network's; any other in the main one and in that one, and so is what the addresses' prefixes
    /// put on the link. A route that names a table stays where it is.
    pub fn routes(table: u32, addresses: &[IpNet], routes: &[Route]) -> Vec<Route> {
        let of_its_own = |route: &Route| Route {
            table: Some(table),
            ..route.clone()
        };
        let mut all: Vec<Route> = Vec::new();
        for prefix in on_link(addresses) {
            all.push(Route {
                scope: Some(LINK),
                table: Some(table),
                ..Route::new(prefix)
            });
        }
        for route in routes {
            if route.table.is_none() && route.dst.prefix_len() == 0 {
                all.push(of_its_own(route));
                continue;
            }
            all.push(route.clone());
            if route.table.is_none() {
                all.push(of_its_own(route));
            }
        }
        all
    }
}

/// What can be reached without a router, once each. An address that is alone in its prefix has
/// nobody beside it.
fn on_link(addresses: &[IpNet]) -> Vec<IpNet> {
    // Whoever knows the interface by a link-local address alone is answered there.
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
    prefixes
}

/// RT_SCOPE_LINK: without a router.
const LINK: u8 = 253;

/// Tables of the kernel's: default, main, local.
const KERNELS: std::ops::RangeInclusive<u32> = 253..=255;

impl Serialize for SourceRouting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SourceRouting::Off => serializer.serialize_bool(false),
            SourceRouting::Own => serializer.serialize_bool(true),
            SourceRouting::Table(table) => serializer.serialize_u32(*table),
        }
    }
}

impl<'de> Deserialize<'de> for SourceRouting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SourceRouting, D::Error> {
        deserializer.deserialize_any(Key)
    }
}

struct Key;

impl Visitor<'_> for Key {
    type Value = SourceRouting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "true, false, or the number of a routing table (1 to 4294967295, but for 253 to 255)",
        )
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<SourceRouting, E> {
        Ok(if on {
            SourceRouting::Own
        } else {
            SourceRouting::Off
        })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SourceRouting, E> {
        match u32::try_from(number) {
            Ok(0) => Ok(SourceRouting::Off),
            Ok(table) if !KERNELS.contains(&table) => Ok(SourceRouting::Table(table)),
            _ => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::{Value, json};

    use super::*;

    fn key(value: Value) -> Result<SourceRouting, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_a_switch_or_a_table_that_is_not_the_kernels() {
        for (value, expected) in [
            (json!(false), SourceRouting::Off),
            (json!(0), SourceRouting::Off),
            (json!(true), SourceRouting::Own),
            (json!(1), SourceRouting::Table(1)),
            (json!(252), SourceRouting::Table(252)),
            (json!(256), SourceRouting::Table(256)),
            (json!(u32::MAX), SourceRouting::Table(u32::MAX)),
        ] {
            assert_eq!(key(value.clone()), Ok(expected), "{value}");
            let written = serde_json::to_value(expected).unwrap();
            assert_eq!(key(written), Ok(expected), "{value}");
        }
        for value in [
            json!(253),
            json!(255),
            json!(1u64 << 32),
            json!(-1),
            json!(1.5),
            json!("200"),
        ] {
            let refused = key(value.clone()).unwrap_err();
            assert!(
                refused.contains("number of a routing table"),
                "{value}: {refused}"
            );
        }
    }

    #[test]
    fn the_table_of_its_own_follows_from_the_interfaces_number() {
        assert_eq!(SourceRouting::Off.table(7), None);
        assert_eq!(SourceRouting::Own.table(7), Some(1007));
        assert_eq!(SourceRouting::Table(50).table(7), Some(50));
    }

    fn shown(addresses: &[&str], routes: &[Route]) -> Vec<String> {
        let addresses: Vec<IpNet> = addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
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
        SourceRouting::routes(50, &addresses, routes)
            .iter()
            .map(show)
            .collect()
    }

    fn to(dst: &str) -> Route {
        Route::new(dst.parse().unwrap())
    }

    #[test]
    fn a_default_route_is_in_the_table_alone_and_every_other_in_both() {
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
    fn what_is_on_the_link_is_in_the_table_once() {
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
