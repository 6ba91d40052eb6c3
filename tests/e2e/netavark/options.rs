//! What a user asks for a network or for one container, and its effect.

use lab::anyhow::ensure;
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::netavark::Container;
use lab::serde_json::{Value, json};
use lab::suite::netavark::NETAVARK;
use lab::{Lan, Node, Result, Test, World, test};
use linknet::MacvlanMode;

use super::Podman;
use crate::scenario::{SOON, address, decoded, default_gateways, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(address_mac_and_interface_name_are_those_that_are_asked_for).needs(&[NETAVARK]),
    test!(the_server_is_told_the_host_name_or_else_the_containers_name).needs(&[NETAVARK]),
    test!(a_name_stands_for_the_container_when_it_is_recreated).needs(&[NETAVARK]),
    test!(an_internal_network_has_no_way_out).needs(&[NETAVARK]),
    test!(routes_and_metrics_are_those_of_the_network).needs(&[NETAVARK]),
    test!(routes_that_refuse_packets_come_and_go_with_the_container).needs(&[NETAVARK]),
    test!(keys_of_the_network_and_of_the_container_take_effect).needs(&[NETAVARK]),
    test!(the_parent_may_be_the_networks_interface).needs(&[NETAVARK]),
];

fn address_mac_and_interface_name_are_those_that_are_asked_for(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let options = json!({
        "static_ips": ["10.99.0.150", "10.99.0.151"],
        "static_mac": "02:11:22:33:44:55",
        "interface_name": "lan0",
    });
    let container = Container::new(&node, &network, options);
    let status = podman.setup(&container)?;
    let interface = &status["lan"]["interfaces"]["lan0"];
    ensure!(interface["mac_address"] == "02:11:22:33:44:55", "{status}");
    // A lease is for one.
    let subnets = json!([{ "ipnet": "10.99.0.150/24", "gateway": "10.99.0.1" }]);
    ensure!(interface["subnets"] == subnets, "{status}");
    let link = node.link("lan0")?;
    let mac = link.mac.map(|mac| mac.to_string());
    ensure!(mac.as_deref() == Some("02:11:22:33:44:55"), "{link:?}");
    podman.end(&node, &container)
}

fn the_server_is_told_the_host_name_or_else_the_containers_name(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let short_id = Container::new(&node, &network, json!({}))
        .short_id()
        .to_owned();
    for (options, expected) in [
        (json!({}), Some("web")),
        (json!({ "aliases": [short_id] }), Some("web")),
        (json!({ "aliases": ["www", short_id, "db"] }), Some("db")),
        (
            json!({ "aliases": [short_id, "db.example.com"] }),
            Some("db"),
        ),
        (
            json!({ "aliases": [short_id, "db"], "options": { "hostname": "false" } }),
            None,
        ),
        (json!({ "options": { "hostname": "mail" } }), Some("mail")),
        (
            json!({ "options": { "hostname": "{\"fromArg\":\"K8S_POD_NAME\"}" } }),
            Some("web"),
        ),
    ] {
        let container = Container::new(&node, &network, options.clone());
        let before = podman.server.received_of(MessageType::Discover).len();
        podman.setup(&container)?;
        let discover = podman
            .server
            .wait_for(MessageType::Discover, before + 1, SOON)?;
        let told = decoded(&discover)?.opts().get(OptionCode::Hostname);
        let expected = expected.map(|name| DhcpOption::Hostname(name.to_owned()));
        ensure!(told == expected.as_ref(), "{options}: {told:?}");
        podman.end(&node, &container)?;
    }
    Ok(())
}

fn a_name_stands_for_the_container_when_it_is_recreated(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({ "clientId": "name", "mac": "stable" }))?;
    // The MAC and the client identifier, which the server knows it by.
    let run = |id: char, name: &str| -> Result<(Value, Option<DhcpOption>)> {
        let node = podman.lan.container("netns")?;
        let container = Container {
            id: id.to_string().repeat(64),
            name: name.to_owned(),
            ..Container::new(&node, &network, json!({}))
        };
        podman.server.take_received();
        let status = podman.setup(&container)?;
        let request = podman.server.wait_for(MessageType::Request, 1, SOON)?;
        let client_id = decoded(&request)?.opts().get(OptionCode::ClientIdentifier);
        let mac = status["lan"]["interfaces"]["eth0"]["mac_address"].clone();
        let known_by = (mac, client_id.cloned());
        podman.end(&node, &container)?;
        node.remove()?;
        Ok(known_by)
    };
    let first = run('a', "web")?;
    let other = run('b', "db")?;
    let again = run('c', "web")?;
    ensure!(first == again && first.1.is_some(), "{first:?} {again:?}");
    ensure!(other.0 != first.0 && other.1 != first.1, "{other:?}");
    Ok(())
}

fn an_internal_network_has_no_way_out(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.create("lan", json!({ "internal": true }), json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    let status = podman.setup(&container)?;
    let gateways = default_gateways(&node)?;
    ensure!(gateways.is_empty(), "{gateways:?}");
    let subnet = &status["lan"]["interfaces"]["eth0"]["subnets"][0];
    ensure!(subnet["ipnet"].is_string(), "{status}");
    podman.lan.lan.ping(address(&node)?.into(), SOON)?;
    podman.end(&node, &container)
}

fn routes_and_metrics_are_those_of_the_network(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let fields = json!({ "routes": [
        { "destination": "10.50.0.0/16", "gateway": "10.99.0.2", "metric": 7 },
        { "destination": "10.51.0.0/16", "gateway": "10.99.0.3", "metric": null },
    ] });
    let network = podman.create("lan", fields, json!({ "metric": "200" }))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    podman.setup(&container)?;
    let found = routes_through_a_gateway(&node)?;
    let expected = [
        "0.0.0.0/0 via 10.99.0.1 metric 200",
        "10.50.0.0/16 via 10.99.0.2 metric 7",
        "10.51.0.0/16 via 10.99.0.3 metric 200",
    ];
    ensure!(found == expected, "{found:?}");
    podman.end(&node, &container)?;

    let options = json!({ "options": { "no_default_route": "true" } });
    let container = Container::new(&node, &network, options);
    podman.setup(&container)?;
    let found = routes_through_a_gateway(&node)?;
    ensure!(found == expected[1..], "{found:?}");
    podman.end(&node, &container)
}

/// netavark 2 has such routes, and calls the driver with them.
fn routes_that_refuse_packets_come_and_go_with_the_container(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let fields = json!({ "routes": [
        { "destination": "10.50.0.0/16", "route_type": "blackhole" },
        { "destination": "10.51.0.0/16", "route_type": "unreachable", "metric": 9 },
        { "destination": "10.52.0.0/16", "gateway": "10.99.0.3", "route_type": "unicast" },
    ] });
    let network = podman.create("lan", fields, json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    let (netavark, host) = (&podman.netavark, &podman.lan.host);
    netavark.run_driver(host, "setup", &container)?;
    let refusing = || -> Result<Vec<String>> {
        let (_, found) = node.netlink()?.routes_and_refused()?;
        let described = found
            .iter()
            .map(|route| format!("{} {} metric {}", route.kind, route.dst, route.metric));
        Ok(described.filter(|it| it.contains(" 10.5")).collect())
    };
    let expected = [
        "blackhole 10.50.0.0/16 metric 0",
        "unreachable 10.51.0.0/16 metric 9",
    ];
    ensure!(refusing()? == expected, "{:?}", refusing()?);
    let through = routes_through_a_gateway(&node)?;
    let expected = "10.52.0.0/16 via 10.99.0.3 metric 0";
    ensure!(through.iter().any(|it| it == expected), "{through:?}");

    netavark.run_driver(host, "teardown", &container)?;
    ensure!(refusing()?.is_empty(), "{:?}", refusing()?);
    ensure_nothing_left(&node)
}

fn routes_through_a_gateway(node: &Node) -> Result<Vec<String>> {
    let described = node.routes()?.into_iter().filter_map(|route| {
        let gateway = route.gateway?;
        Some(format!(
            "{} via {gateway} metric {}",
            route.dst, route.metric
        ))
    });
    let mut described: Vec<String> = described.collect();
    described.sort();
    Ok(described)
}

fn keys_of_the_network_and_of_the_container_take_effect(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let host: ipnet::IpNet = "10.99.0.2/24".parse()?;
    podman.lan.host.add_address(Lan::MASTER, host)?;
    let network = podman.network(json!({ "mtu": "1400", "hostAccess": "true" }))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    podman.setup(&container)?;
    let link = node.link("eth0")?;
    ensure!(link.mtu == 1400, "{link:?}");
    podman.lan.host.ping(address(&node)?.into(), SOON)?;
    podman.end(&node, &container)?;

    let options = json!({ "options": { "hostAccess": "false", "mode": "private" } });
    let container = Container::new(&node, &network, options);
    podman.setup(&container)?;
    let link = node.link("eth0")?;
    let mode = link.macvlan.as_ref().and_then(|macvlan| macvlan.mode);
    ensure!(mode == Some(MacvlanMode::Private), "{link:?}");
    ensure!(link.mtu == 1400, "{link:?}");
    podman.end(&node, &container)
}

fn the_parent_may_be_the_networks_interface(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let asked = lab::netavark::network(
        "lan",
        json!({ "network_interface": Lan::MASTER, "options": null }),
    );
    let (network, _) = podman.netavark.create(&podman.lan.host, &asked)?;
    ensure!(network["network_interface"] == Lan::MASTER, "{network}");
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    podman.setup(&container)?;
    podman.end(&node, &container)
}
