use std::net::IpAddr;

use cni::IpConfig;

use super::present::{fulfils, replaces};
use super::*;
use crate::lifetime::set_valid_lifetime;

const IFINDEX: u32 = 7;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The result of an IPAM plugin: an address, and a default route through the gateway.
fn result(address: &str, gateway: &str) -> CniResult {
    let gateway: IpAddr = gateway.parse().unwrap();
    let default = if gateway.is_ipv4() {
        "0.0.0.0/0"
    } else {
        "::/0"
    };
    CniResult {
        ips: vec![IpConfig::new(net(address))],
        routes: vec![cni::Route {
            gw: Some(gateway),
            ..cni::Route::new(net(default))
        }],
        ..CniResult::default()
    }
}

fn shown(plan: &Plan) -> Vec<String> {
    let addresses = plan.addresses.iter().map(|address| address.net.to_string());
    let routes = plan.routes.iter().map(route_text);
    addresses
        .chain(routes)
        .chain(plan.rules.iter().map(rule_text))
        .collect()
}

#[test]
fn a_result_becomes_addresses_and_routes_with_an_on_link_route_to_a_distant_gateway() {
    let plan = Plan::new(
        &result("10.0.0.5/32", "192.0.2.1"),
        IFINDEX,
        SourceRouting::Off,
    );
    assert_eq!(
        shown(&plan),
        ["10.0.0.5/32", "192.0.2.1/32", "0.0.0.0/0 via 192.0.2.1"]
    );
}

#[test]
fn source_routing_adds_a_rule_and_moves_the_default_route_to_the_interfaces_table() {
    let result = result("10.0.0.5/24", "10.0.0.1");
    let plan = Plan::new(&result, IFINDEX, SourceRouting::Own);
    assert_eq!(
        shown(&plan),
        [
            "10.0.0.5/24",
            "10.0.0.0/24 in table 1007",
            "0.0.0.0/0 via 10.0.0.1 in table 1007",
            "from 10.0.0.5 to table 1007"
        ]
    );
}

#[test]
fn an_address_whose_table_would_be_empty_has_no_rule() {
    let mut result = result("10.0.0.5/32", "10.0.0.1");
    result.routes.clear();
    let plan = Plan::new(&result, IFINDEX, SourceRouting::Own);
    assert_eq!(shown(&plan), ["10.0.0.5/32"]);
}

#[test]
fn an_address_lives_as_long_as_its_lease() {
    let mut result = result("10.0.0.5/24", "10.0.0.1");
    set_valid_lifetime(&mut result.ips[0], Some(60));
    let plan = Plan::new(&result, IFINDEX, SourceRouting::Off);
    assert_eq!(plan.addresses[0].valid, Some(Duration::from_secs(60)));
    assert_eq!(plan.addresses[0].preferred, Some(Duration::from_secs(60)));
}

#[test]
fn what_add_reports_gives_the_plan_that_add_followed() {
    let from_ipam = result("10.0.0.5/24", "10.0.0.1");
    for routing in [SourceRouting::Off, SourceRouting::Own] {
        let followed = Plan::new(&from_ipam, IFINDEX, routing);
        let reported = source_routing::expand(from_ipam.clone(), routing, IFINDEX);
        let mut expected = Plan::of_reported(&reported, &[net("10.0.0.5/24")], IFINDEX, routing);
        // The prefixes on the link are in what is reported already.
        let mut seen: Vec<Route> = Vec::new();
        expected.routes.retain(|route| {
            let is_new = !seen.contains(route);
            seen.push(route.clone());
            is_new
        });
        assert_eq!(expected, followed, "{routing:?}");
    }
}

#[test]
fn a_route_that_a_later_plugin_moved_to_another_table_is_the_reported_one() {
    let route = Route::new(net("0.0.0.0/0"), IFINDEX).via(IpAddr::from([10, 0, 0, 1]));
    let moved = Route {
        table: 100,
        ..route.clone()
    };
    assert!(fulfils(&route, &route) && fulfils(&moved, &route));
    assert!(
        !fulfils(&route, &moved),
        "one of a table of its own stays there"
    );
    let elsewhere = route.clone().via(IpAddr::from([10, 0, 0, 2]));
    assert!(!fulfils(&elsewhere, &route) && replaces(&elsewhere, &route));
    let of_another_interface = Route {
        index: IFINDEX + 1,
        ..elsewhere
    };
    assert!(!replaces(&of_another_interface, &route));
}
