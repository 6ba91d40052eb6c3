//! A container is replaced under its name on the same host.

use std::time::Duration;

use ipnet::Ipv4Net;
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};

use super::{by_name, ensure_kept, web};
use crate::scenario::{SOON, Scenario, address, default_gateways, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(a_late_del_keeps_the_lease_of_the_container_that_replaced_it),
    test!(the_container_that_is_replaced_loses_the_address_before_the_other_has_it),
    test!(a_container_that_is_replaced_is_no_conflict),
    test!(a_container_without_an_address_stops_asking_for_its_successors),
    test!(a_late_gc_keeps_the_lease_of_the_container_that_replaced_it),
    test!(del_releases_nothing_while_its_replacement_asks_for_an_address),
    test!(a_failed_add_keeps_the_lease_of_the_container_that_it_was_to_replace),
    test!(an_add_that_is_killed_while_it_probes_gives_the_lease_back_to_the_container_before),
    test!(the_last_holder_of_a_name_releases_its_address),
    test!(release_says_whether_the_server_is_told),
];

fn a_late_del_keeps_the_lease_of_the_container_that_replaced_it(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let network = Network::new(&scenario.lan.host, by_name(scenario.daemon.socket()));
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    network.add(&web(&new))?;
    network.del(&web(&old))?;
    ensure_nothing_left(&old)?;
    ensure_kept(&server, &new, &network, &scenario.lan)?;
    network.check(&web(&new))?;
    scenario.wait_for_renewal()?;
    ensure_kept_after_renewal(&server, &new)
}

fn ensure_kept_after_renewal(server: &DhcpServer, container: &Node) -> Result {
    let leased = address(container)?;
    ensure!(server.leases().iter().any(|lease| lease.address == leased));
    Ok(())
}

fn the_container_that_is_replaced_loses_the_address_before_the_other_has_it(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, by_name(scenario.daemon.socket()));
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    let leased = address(&old)?;
    network.add(&web(&new))?;
    ensure!(
        address(&new)? == leased,
        "the server knows the client by its name"
    );
    ensure!(
        old.ipv4("eth0")?.is_empty() && default_gateways(&old)?.is_empty(),
        "two containers have {leased}"
    );
    let error = network::cni_error(network.check(&web(&old)));
    ensure!(error.msg.contains("is missing"), "{error:?}");
    network.check(&web(&new))?;
    ensure!(
        scenario
            .daemon
            .log()
            .contains("under the same client identifier"),
        "{}",
        scenario.daemon.log()
    );
    Ok(())
}

fn a_container_that_is_replaced_is_no_conflict(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let mut conflist = by_name(scenario.daemon.socket());
    conflist["plugins"][0]["ipam"]["conflictDetection"] = json!("fast");
    let network = Network::new(&scenario.lan.host, conflist);
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    let leased = address(&old)?;
    network.add(&web(&new))?;
    ensure!(address(&new)? == leased, "it was {leased}");
    let declined = server.received_of(MessageType::Decline);
    ensure!(declined.is_empty(), "{}", server.transcript());
    Ok(())
}

fn a_container_without_an_address_stops_asking_for_its_successors(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let network = Network::new(&scenario.lan.host, by_name(scenario.daemon.socket()));
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    let mac = old.link("eth0")?.mac.context("an Ethernet interface")?;
    let discover = server.when(MessageType::Discover).from(mac.octets());
    discover.then(Reaction::silence());
    server.forget();
    until("the old container has lost its address", SOON, || {
        old.ipv4("eth0").is_ok_and(|addresses| addresses.is_empty())
    })?;
    network.add(&web(&new))?;
    // The server answers again, and would offer the same client the same address.
    server.behave();
    let log = scenario.daemon.log();
    ensure!(log.contains("lease dropped: another container"), "{log}");
    ensure_kept(&server, &new, &network, &scenario.lan)
}

fn a_late_gc_keeps_the_lease_of_the_container_that_replaced_it(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let mut conflist = by_name(scenario.daemon.socket());
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::new(&scenario.lan.host, conflist);
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    network.add(&web(&new))?;
    network.gc(&[&web(&new)])?;
    ensure_nothing_left(&old)?;
    ensure_kept(&server, &new, &network, &scenario.lan)
}

fn del_releases_nothing_while_its_replacement_asks_for_an_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, by_name(scenario.daemon.socket()));
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    let leased = address(&old)?;
    let asked = server.received_of(MessageType::Request).len();
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::silence());
    let add = network
        .prepare("ADD", 0, &web(&new), None)?
        .start(&scenario.lan.host)?;
    server.wait_for(MessageType::Request, asked + 1, SOON)?;
    network.del(&web(&old))?;
    add.finish()?.success()?;
    ensure!(address(&new)? == leased, "it was {leased}");
    ensure_kept(&server, &new, &network, &scenario.lan)
}

fn a_failed_add_keeps_the_lease_of_the_container_that_it_was_to_replace(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, by_name(scenario.daemon.socket()));
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    let asked = server.received_of(MessageType::Request).len();
    server.when(MessageType::Request).then(Reaction::silence());
    let add = network
        .prepare("ADD", 0, &web(&new), None)?
        .start(&scenario.lan.host)?;
    server.wait_for(MessageType::Request, asked + 1, SOON)?;
    network.del(&web(&new))?;
    let error = add.finish()?.error()?;
    ensure!(error.msg.contains("DEL"), "{error:?}");
    server.behave();
    ensure_kept(&server, &old, &network, &scenario.lan)
}

fn an_add_that_is_killed_while_it_probes_gives_the_lease_back_to_the_container_before(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let conflist = by_name(scenario.daemon.socket());
    let mut slow = conflist.clone();
    slow["plugins"][0]["ipam"]["conflictDetection"] = json!("rfc5227");
    let host = &scenario.lan.host;
    let [network, slow] = [conflist, slow].map(|conflist| Network::new(host, conflist));
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    let leased = address(&old)?;
    let adding = slow.prepare("ADD", 0, &web(&new), None)?.start(host)?;
    until("the address is the other's", SOON, || {
        old.ipv4("eth0").is_ok_and(|addresses| addresses.is_empty())
    })?;
    let asked = server.received_of(MessageType::Request).len();
    adding.kill()?;
    slow.del(&web(&new))?;
    until("the address is back", SOON, || {
        address(&old).is_ok_and(|address| address == leased)
    })
    .with_context(|| scenario.daemon.log())?;
    // The server may not agree.
    server.wait_for(MessageType::Request, asked + 1, SOON)?;
    network.check(&web(&old))?;
    ensure_kept(&server, &old, &network, &scenario.lan)
}

fn the_last_holder_of_a_name_releases_its_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, by_name(scenario.daemon.socket()));
    let [old, new] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&web(&old))?;
    network.add(&web(&new))?;
    network.del(&web(&old))?;
    network.del(&web(&new))?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

fn release_says_whether_the_server_is_told(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    // Each container has an address that another station takes while it is there.
    let mut told = 0;
    for (name, release, is_used, is_released) in [
        ("c1", json!(true), true, true),
        ("c2", json!("ifUnused"), true, false),
        ("c3", json!("ifUnused"), false, true),
        ("c4", json!(false), false, false),
    ] {
        let container = scenario.lan.container(name)?;
        let network = Network::new(
            &scenario.lan.host,
            scenario.dhcp_with(json!({ "release": release })),
        );
        network.add(&Attachment::new(&container))?;
        let leased = address(&container)?;
        let other = Ipv4Net::new(leased, 24)?;
        if is_used {
            let lan = &scenario.lan.lan;
            lan.add_address(Lan::SERVER_LINK, other.into())?;
        }
        network.del(&Attachment::new(&container))?;
        if is_used {
            let lan = &scenario.lan.lan;
            let index = lan.link(Lan::SERVER_LINK)?.index;
            lan.netlink()?.delete_address(index, other)?;
        }
        if is_released {
            told += 1;
            let release = server.wait_for(MessageType::Release, told, SOON)?;
            ensure!(*release.source.ip() == leased, "{name}: {release:?}");
        }
        let is_leased = || server.leases().iter().any(|lease| lease.address == leased);
        until("the server is told, or not", SOON, || {
            is_leased() != is_released
        })?;
        ensure!(
            server.received_of(MessageType::Release).len() == told,
            "{name}: {}",
            server.transcript()
        );
    }
    Ok(())
}
