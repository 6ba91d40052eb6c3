//! `sourceRouting`: an interface that answers on its own.

use std::net::IpAddr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Network, Node, Result, Test, World, network, test};
use linknet::Route;

use super::{Lans, at, default_gateways, first, reverse_path_filter, rules, second};
use crate::macvlan::given;
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(traffic_to_the_second_interface_is_answered_through_it_in_both_families)
        .needs(&[packages::GO_PLUGINS]),
    test!(without_source_routing_answers_leave_by_the_first_network_and_are_lost)
        .needs(&[packages::GO_PLUGINS]),
    test!(the_result_has_the_routes_as_installed),
    test!(check_fails_without_the_rules_or_the_routes).needs(&[packages::GO_PLUGINS]),
    test!(del_removes_the_rules_even_if_the_interface_is_gone).needs(&[packages::GO_PLUGINS]),
    test!(the_host_is_answered_from_both_families_with_host_access).needs(&[packages::GO_PLUGINS]),
    test!(gc_removes_the_rules),
    test!(a_failed_add_leaves_no_rule),
    test!(a_table_of_another_interface_is_refused).needs(&[packages::GO_PLUGINS]),
    test!(an_invalid_table_is_refused).needs(&[packages::GO_PLUGINS]),
];

/// Addresses of both families in the LAN 10.99.0.0/24 or 10.98.0.0/24, with default routes.
fn ipam(lan: u8) -> Value {
    json!({
        "type": "static",
        "addresses": [
            { "address": format!("10.{lan}.0.60/24"), "gateway": format!("10.{lan}.0.1") },
            { "address": format!("fd{lan}::60/64"), "gateway": format!("fd{lan}::1") },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    })
}

/// An IPAM result with these addresses in the second LAN.
fn gives(number: u8) -> Value {
    json!({
        "ips": [
            { "address": format!("10.98.0.{number}/24"), "gateway": "10.98.0.1" },
            { "address": format!("fd98::{number}/64"), "gateway": "fd98::1" },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    })
}

/// A container's second interface, at the second LAN, as this key has it.
fn on_the_second_lan(lans: &Lans, key: Value) -> Network<'_> {
    Network::new(
        &lans.lan.host,
        second(json!({ "ipam": ipam(98), "sourceRouting": key })),
    )
}

/// A container that has its first interface, at the first LAN.
fn container(lans: &Lans) -> Result<Node> {
    let container = lans.lan.container("c1")?;
    Network::new(&lans.lan.host, first(json!({ "ipam": ipam(99) })))
        .add(&at(&container, "eth0"))?;
    Ok(container)
}

/// The addresses of the second interface.
fn second_addresses() -> Result<[IpAddr; 2]> {
    Ok(["10.98.0.60".parse()?, "fd98::60".parse()?])
}

fn traffic_to_the_second_interface_is_answered_through_it_in_both_families(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let before = container.routes()?;
    let attachment = at(&container, "net1");
    for key in [json!(true), json!(98)] {
        let network = on_the_second_lan(&lans, key);
        network.add(&attachment)?;
        // Everybody may have it as strict as can be.
        reverse_path_filter(&container, true)?;
        for address in second_addresses()? {
            lans.far.ping(address, SOON)?;
            lans.lan2.ping(address, SOON)?;
        }
        for address in ["10.99.0.60", "fd99::60"] {
            lans.far
                .ping(address.parse()?, SOON)
                .context("the first goes on")?;
        }
        for (v6, gateway) in [(false, "10.99.0.1"), (true, "fd99::1")] {
            let gateways = default_gateways(&container, v6)?;
            ensure!(gateways == [gateway.parse::<IpAddr>()?], "{gateways:?}");
        }
        network.check(&attachment)?;
        network.del(&attachment)?;
        ensure!(rules(&container)?.is_empty(), "{:?}", rules(&container)?);
        ensure!(container.routes()? == before, "{:?}", container.routes()?);
    }
    Ok(())
}

fn without_source_routing_answers_leave_by_the_first_network_and_are_lost(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let mut ipam = ipam(98);
    ipam["routes"] = json!([]);
    Network::new(&lans.lan.host, second(json!({ "ipam": ipam }))).add(&at(&container, "net1"))?;
    let [address, _] = second_addresses()?;
    let heard = || lans.far.is_answered(address, Duration::from_millis(600));

    // The container takes the question for a forged one: the way back leads elsewhere.
    reverse_path_filter(&container, true)?;
    ensure!(!heard()?);
    // The first LAN's router takes the answer for a forged one.
    reverse_path_filter(&container, false)?;
    ensure!(!heard()?);
    // Without any such check it arrives, from the wrong side.
    reverse_path_filter(&lans.lan.lan, false)?;
    lans.far.ping(address, SOON)?;
    Ok(())
}

fn the_result_has_the_routes_as_installed(world: &World) -> Result {
    let lans = Lans::new()?;
    let container = lans.lan.container("c1")?;
    let mut newest = conflist(json!({ "sourceRouting": 50 }));
    let ipams = json!({
        "ips": [{ "address": "10.99.0.60/24", "gateway": "10.99.0.1" }],
        "routes": [
            { "dst": "0.0.0.0/0", "priority": 7 },
            { "dst": "10.1.0.0/16", "gw": "10.99.0.2" },
            { "dst": "10.2.0.0/16", "gw": "10.99.0.3", "table": 60 },
        ],
    });
    newest["cniVersion"] = json!("1.1.0");
    let network = given(world, &lans.lan, newest.clone(), &ipams)?;
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    let expected = json!([
        { "dst": "10.99.0.0/24", "table": 50, "scope": 253 },
        { "dst": "0.0.0.0/0", "priority": 7, "table": 50 },
        { "dst": "10.1.0.0/16", "gw": "10.99.0.2" },
        { "dst": "10.1.0.0/16", "gw": "10.99.0.2", "table": 50 },
        { "dst": "10.2.0.0/16", "gw": "10.99.0.3", "table": 60 },
    ]);
    ensure!(result["routes"] == expected, "{}", result["routes"]);
    let there = shown(&container)?;
    for route in [
        "10.99.0.0/24 in 50",
        "0.0.0.0/0 via 10.99.0.1 metric 7 in 50",
        "10.1.0.0/16 via 10.99.0.2 in 254",
        "10.1.0.0/16 via 10.99.0.2 in 50",
        "10.2.0.0/16 via 10.99.0.3 in 60",
    ] {
        ensure!(
            there.iter().any(|it| it == route),
            "{route} is not among {there:?}"
        );
    }
    ensure!(
        !there
            .iter()
            .any(|route| route.starts_with("0.0.0.0/0") && route.ends_with("254")),
        "{there:?}"
    );
    network.check(&attachment)?;
    network.del(&attachment)?;

    // Before 1.1.0 a route has no table to name: each is listed once.
    newest["cniVersion"] = json!("1.0.0");
    let network = given(world, &lans.lan, newest, &ipams)?;
    let result = network.add(&attachment)?;
    let destinations: Vec<&Value> = result["routes"]
        .as_array()
        .context("routes")?
        .iter()
        .map(|route| &route["dst"])
        .collect();
    ensure!(
        destinations == ["0.0.0.0/0", "10.1.0.0/16", "10.2.0.0/16"],
        "{result}"
    );
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

/// The container's routes, each as text.
fn shown(container: &Node) -> Result<Vec<String>> {
    let show = |route: &Route| {
        let via = route
            .gateway
            .map(|gateway| format!(" via {gateway}"))
            .unwrap_or_default();
        let metric = Some(route.metric).filter(|metric| *metric > 0);
        let metric = metric
            .map(|metric| format!(" metric {metric}"))
            .unwrap_or_default();
        format!("{}{via}{metric} in {}", route.dst, route.table)
    };
    Ok(container.routes()?.iter().map(show).collect())
}

fn check_fails_without_the_rules_or_the_routes(world: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let attachment = at(&container, "net1");
    let mut conflist = second(json!({ "sourceRouting": 98 }));
    for version in ["1.0.0", "1.1.0"] {
        conflist["cniVersion"] = json!(version);
        let network = given(world, &lans.lan, conflist.clone(), &gives(60))?;
        network.add(&attachment)?;
        network.check(&attachment)?;
        let netlink = container.netlink()?;
        let refused = |words: &str| -> Result {
            let error = network::cni_error(network.check(&attachment));
            ensure!(
                error.code == 110 && error.msg.contains(words),
                "{version}, {words}: {error:?}"
            );
            Ok(())
        };
        for rule in rules(&container)? {
            netlink.delete_rule(&rule)?;
            refused(&format!("rule from {} to table 98", rule.from.addr()))?;
            netlink.add_rule(&rule)?;
        }
        let mut routes = container.routes()?;
        routes.retain(|route| route.table == 98);
        ensure!(
            routes.len() == 5,
            "default, prefix, and link-local: {routes:?}"
        );
        // Those that need no other first.
        routes.sort_by_key(|route| route.gateway.is_none());
        for route in &routes {
            netlink.delete_route(route)?;
            refused(&format!("route {}", route.dst))?;
            if version == "1.1.0" {
                // In the main table it is of no use.
                let elsewhere = Route {
                    table: Route::MAIN,
                    metric: 5000,
                    ..route.clone()
                };
                netlink.prepend_route(&elsewhere)?;
                refused(&format!("route {}", route.dst))?;
                netlink.delete_route(&elsewhere)?;
            }
            netlink.add_route(route)?;
        }
        network.check(&attachment)?;
        network.del(&attachment)?;
    }
    Ok(())
}

fn del_removes_the_rules_even_if_the_interface_is_gone(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let attachment = at(&container, "net1");
    let network = on_the_second_lan(&lans, json!(true));
    for what in [
        "renamed",
        "removed",
        "another address",
        "handed on",
        "another configuration",
    ] {
        network.add(&attachment)?;
        ensure!(rules(&container)?.len() == 2, "{:?}", rules(&container)?);
        let netlink = container.netlink()?;
        let index = container.link("net1")?.index;
        let mut ends = &network;
        let plain = Network::new(&lans.lan.host, second(json!({ "ipam": ipam(98) })));
        match what {
            "renamed" => {
                container.set_down("net1")?;
                container.rename("net1", "uplink")?;
            }
            "removed" => netlink.delete_link(index)?,
            "another address" => {
                netlink.delete_address(index, "10.98.0.60/24".parse::<ipnet::IpNet>()?)?;
                container.add_address("net1", "10.98.0.61/24".parse()?)?;
            }
            // A pool gives an address again that was given back a moment ago.
            "handed on" => container.add_address("eth0", "10.98.0.60/24".parse()?)?,
            _ => ends = &plain,
        }
        ends.del(&attachment).context(what)?;
        ensure!(
            rules(&container)?.is_empty(),
            "{what}: {:?}",
            rules(&container)?
        );
        if what == "handed on" {
            let eth0 = container.link("eth0")?.index;
            container
                .netlink()?
                .delete_address(eth0, "10.98.0.60/24".parse::<ipnet::IpNet>()?)?;
        }
        ensure!(container.find_link("net1")?.is_none() && container.find_link("uplink")?.is_none());
    }
    Ok(())
}

/// With `hostAccess`, by routes of which the table must know.
fn the_host_is_answered_from_both_families_with_host_access(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let host = &lans.lan.host;
    // Not on the link of the container's, in either family.
    for address in ["10.97.0.2/24", "fd97::2/64"] {
        host.add_address(Lans::MASTER2, address.parse()?)?;
    }
    let allowed = ["10.98.0.0/24", "fd98::/64"];
    let keys = json!({ "ipam": ipam(98), "sourceRouting": true, "hostAccess": allowed });
    let network = Network::new(host, second(keys));
    let attachment = at(&container, "net1");
    network.add(&attachment)?;
    for address in second_addresses()? {
        host.ping(address, SOON)?;
        lans.far.ping(address, SOON)?;
    }
    network.check(&attachment)?;
    network.del(&attachment)
}

fn gc_removes_the_rules(world: &World) -> Result {
    let lans = Lans::new()?;
    let container = lans.lan.container("c1")?;
    let mut conflist = second(json!({ "sourceRouting": true }));
    conflist["cniVersion"] = json!("1.1.0");
    let [stays, goes] = [at(&container, "net1"), at(&container, "net2")];
    given(world, &lans.lan, conflist.clone(), &gives(60))?.add(&stays)?;
    let network = given(world, &lans.lan, conflist, &gives(61))?;
    network.add(&goes)?;
    ensure!(rules(&container)?.len() == 4, "{:?}", rules(&container)?);
    network.gc(&[&stays])?;
    let left: Vec<IpAddr> = rules(&container)?
        .iter()
        .map(|rule| rule.from.addr())
        .collect();
    ensure!(left == second_addresses()?, "{left:?}");
    Ok(())
}

fn a_failed_add_leaves_no_rule(world: &World) -> Result {
    let lans = Lans::new()?;
    let container = lans.lan.container("c1")?;
    // What comes after the rules cannot be done: the name is taken that the host's macvlan would
    // have.
    lans.lan.host.add_bridge("lh-eth1")?;
    let good = json!({ "ips": [{ "address": "10.99.0.60/24" }] });
    let keys = json!({ "sourceRouting": true, "hostAccess": ["10.99.0.0/24"] });
    let network = given(world, &lans.lan, conflist(keys), &good)?;
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(
        error.code == 7 && error.msg.contains("lh-eth1"),
        "{error:?}"
    );
    ensure!(rules(&container)?.is_empty(), "{:?}", rules(&container)?);
    ensure_nothing_left(&container)
}

fn a_table_of_another_interface_is_refused(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let network = on_the_second_lan(&lans, json!(98));
    network.add(&at(&container, "net1"))?;
    let error = network::cni_error(network.add(&at(&container, "net2")));
    ensure!(
        error.code == 7
            && error
                .msg
                .contains("sourceRouting: table 98 is in use for 10.98.0.60"),
        "{error:?}"
    );
    ensure!(container.find_link("net2")?.is_none());
    for address in second_addresses()? {
        lans.far.ping(address, SOON)?;
    }
    network.del(&at(&container, "net1"))?;
    network
        .add(&at(&container, "net2"))
        .context("now it is free")?;
    Ok(())
}

fn an_invalid_table_is_refused(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = lans.lan.container("c1")?;
    for value in [
        json!(254),
        json!(-1),
        json!("main"),
        json!(4_294_967_296_u64),
    ] {
        let network = on_the_second_lan(&lans, value.clone());
        let error = network::cni_error(network.add(&at(&container, "net1")));
        ensure!(
            error.code == 7 && error.msg.contains("sourceRouting"),
            "{value}: {error:?}"
        );
    }
    // It is of no use without addresses.
    let network = Network::new(&lans.lan.host, second(json!({ "sourceRouting": true })));
    let error = network::cni_error(network.add(&at(&container, "net1")));
    ensure!(
        error.code == 7 && error.msg.contains("sourceRouting"),
        "{error:?}"
    );
    ensure_nothing_left(&container)
}
