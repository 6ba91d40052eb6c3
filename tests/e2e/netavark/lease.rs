//! Networks whose addresses the LAN's DHCP server assigns.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::ensure;
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType};
use lab::netavark::Container;
use lab::serde_json::json;
use lab::suite::netavark::NETAVARK;
use lab::{Daemon, Lan, Result, Test, World, test};

use super::{Podman, subnets};
use crate::scenario::{SOON, address, default_gateways};

pub(super) const TESTS: &[Test] = &[
    test!(a_container_is_attached_and_detached).needs(&[NETAVARK]),
    test!(podman_is_told_the_name_servers_and_search_domains_unless_they_are_not_wanted)
        .needs(&[NETAVARK]),
    test!(a_reloaded_network_keeps_address_and_mac).needs(&[NETAVARK]),
    test!(a_restarted_container_keeps_its_address).needs(&[NETAVARK]),
    test!(a_lease_outlives_the_daemon).needs(&[NETAVARK]),
    test!(a_container_on_two_networks_has_an_address_on_each).needs(&[NETAVARK]),
];

fn a_container_is_attached_and_detached(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));

    let status = podman.setup(&container)?;
    let leased = address(&node)?;
    let expected = json!([{ "ipnet": format!("{leased}/24"), "gateway": "10.99.0.1" }]);
    ensure!(subnets(&status, "lan") == expected, "{status}");
    let mac = node.link("eth0")?.mac.map(|mac| mac.to_string());
    let reported = &status["lan"]["interfaces"]["eth0"]["mac_address"];
    ensure!(*reported == json!(mac), "{status}");
    ensure!(
        default_gateways(&node)? == [Lan::ADDRESS],
        "{:?}",
        node.routes()?
    );
    podman.lan.lan.ping(leased.into(), SOON)?;

    podman.end(&node, &container)?;
    // netavark repeats what has failed.
    podman.teardown(&container)
}

fn podman_is_told_the_name_servers_and_search_domains_unless_they_are_not_wanted(
    world: &World,
) -> Result {
    let settings = Settings {
        options: vec![
            DhcpOption::Router(vec![Lan::ADDRESS]),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 99, 0, 53)]),
            DhcpOption::DomainName("lan.example".to_owned()),
        ],
        ..Settings::default()
    };
    let podman = Podman::with_server(world, settings)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    let status = podman.setup(&container)?;
    let servers = &status["lan"]["dns_server_ips"];
    ensure!(*servers == json!(["10.99.0.53"]), "{status}");
    let domains = &status["lan"]["dns_search_domains"];
    ensure!(*domains == json!(["lan.example"]), "{status}");
    podman.end(&node, &container)?;

    let without = Container::new(&node, &network, json!({ "options": { "dns": "false" } }));
    let status = podman.setup(&without)?;
    for field in ["dns_server_ips", "dns_search_domains"] {
        ensure!(status["lan"][field] == json!([]), "{status}");
    }
    podman.end(&node, &without)
}

/// `podman network reload` is a teardown, and a setup with what the status said.
fn a_reloaded_network_keeps_address_and_mac(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    let before = podman.setup(&container)?;
    podman.end(&node, &container)?;
    // Somebody else could get it now.
    let other = podman.lan.container("other")?;
    podman.setup(&Container::new(
        &other,
        &network,
        json!({ "static_ips": ["10.99.0.120"] }),
    ))?;

    let interface = &before["lan"]["interfaces"]["eth0"];
    let leased = interface["subnets"][0]["ipnet"].as_str();
    let leased = leased.and_then(|net| net.split_once('/')).map(|(it, _)| it);
    let again = json!({ "static_ips": [leased], "static_mac": interface["mac_address"] });
    let after = podman.setup(&Container::new(&node, &network, again))?;
    ensure!(after == before, "{before} {after}");
    Ok(())
}

fn a_restarted_container_keeps_its_address(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let node = podman.lan.container("web")?;
        let container = Container::new(&node, &network, json!({}));
        podman.setup(&container)?;
        addresses.push(address(&node)?);
        podman.end(&node, &container)?;
        node.remove()?;
        // It would be the next one that the server assigns.
        let other = podman.lan.container("other")?;
        let other_container = Container::new(&other, &network, json!({}));
        podman.setup(&other_container)?;
        podman.end(&other, &other_container)?;
        other.remove()?;
    }
    addresses.dedup();
    ensure!(addresses.len() == 1, "{addresses:?}");
    Ok(())
}

fn a_lease_outlives_the_daemon(world: &World) -> Result {
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let mut podman = Podman::with_server(world, settings)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    podman.setup(&container)?;
    let leased = address(&node)?;
    podman.daemon.process().kill()?;
    podman.server.take_received();
    podman.daemon = Daemon::start_at_default_path(world, &podman.lan.host)?;
    podman.server.wait_for(MessageType::Request, 1, SOON)?;
    podman.lan.lan.ping(leased.into(), SOON)?;
    ensure!(address(&node)? == leased, "{}", podman.daemon.log());
    podman.end(&node, &container)
}

fn a_container_on_two_networks_has_an_address_on_each(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let fields = json!({ "subnets": [{ "subnet": "10.98.0.0/24", "gateway": "10.98.0.1" }] });
    let fields = super::without_driver(fields);
    let pool = podman.create("pool", fields, json!({ "metric": "500" }))?;
    let node = podman.lan.container("web")?;
    let mut container = Container::new(&node, &network, json!({}));
    let second = json!({ "interface_name": "eth1", "static_ips": ["10.98.0.7"] });
    container.networks.push((pool, second));
    let status = podman.setup(&container)?;
    ensure!(status["lan"]["interfaces"]["eth0"].is_object(), "{status}");
    ensure!(status["pool"]["interfaces"]["eth1"].is_object(), "{status}");
    podman.lan.lan.ping(address(&node)?.into(), SOON)?;
    let second = node.ipv4("eth1")?;
    ensure!(second[0].to_string() == "10.98.0.7/24", "{second:?}");
    let mut defaults = node.routes()?;
    defaults.retain(|route| route.dst.prefix_len() == 0);
    defaults.sort_by_key(|route| route.metric);
    let defaults = defaults.iter().map(|route| (route.metric, route.gateway));
    let defaults: Vec<_> = defaults.collect();
    let expected = [
        (0, Some(Lan::ADDRESS.into())),
        (500, Some(Ipv4Addr::new(10, 98, 0, 1).into())),
    ];
    ensure!(defaults == expected, "{defaults:?}");
    podman.end(&node, &container)
}
