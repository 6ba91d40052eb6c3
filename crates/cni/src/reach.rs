//! Which gateways can be reached: a route through one that cannot is refused by the kernel, and
//! needs another first.

use std::net::IpAddr;

use ipnet::IpNet;

/// The main table, which a route is in that names none.
const MAIN: u32 = 254;

/// What is on an interface's link, by the table that says so: the kernel looks for a gateway in the
/// route's own table, then in the main one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    prefixes: Vec<(IpNet, u32)>,
}

impl Reach {
    /// What these addresses put on the link.
    pub fn of(addresses: impl IntoIterator<Item = IpNet>) -> Reach {
        Reach {
            prefixes: addresses
                .into_iter()
                .map(|address| (address, MAIN))
                .collect(),
        }
    }

    /// A route to something on the link.
    pub fn add(&mut self, dst: IpNet, table: Option<u32>) {
        self.prefixes.push((dst, table.unwrap_or(MAIN)));
    }

    /// Whether a route in this table may go through this gateway. IPv6 routers go by their
    /// link-local address as a rule, which is always on the link.
    pub fn covers(&self, gateway: IpAddr, table: Option<u32>) -> bool {
        let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        let tables = [table.unwrap_or(MAIN), MAIN];
        link_local
            || self
                .prefixes
                .iter()
                .any(|(prefix, table)| tables.contains(table) && prefix.contains(&gateway))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_looked_for_in_the_routes_own_table_and_the_main_one() {
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
