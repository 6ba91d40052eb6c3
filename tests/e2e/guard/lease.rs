//! The guard follows a lease, and DHCP, conflict detection and `hostAccess` work under it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::frames::{FrameSocket, Macs, udp};
use lab::serde_json::{Value, json};
use lab::{Attachment, DhcpServer, Lan, Network, Result, Test, World, network, test, until};
use linknet::nft::{Family, Nft};

use super::OTHER;
use crate::scenario::{SOON, Scenario, address, ensure_nothing_left, reported};

pub(super) const TESTS: &[Test] = &[
    test!(a_guarded_container_is_leased_an_address_and_gives_it_back),
    test!(a_guarded_container_asks_whether_its_address_is_used_before_it_gives_it_back),
    test!(the_guard_follows_the_lease_to_another_address),
    test!(a_renewal_restores_the_guard),
    test!(a_guarded_container_looks_for_conflicts),
    test!(a_guarded_add_in_vain_releases_what_it_requested),
    test!(a_guarded_container_and_its_host_reach_each_other),
];

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 101);

/// The conflist of the scenario with a guard, and these keys in its `ipam` section.
fn guarded(scenario: &Scenario, keys: Value) -> Value {
    let mut conflist = scenario.dhcp_with(keys);
    conflist["plugins"][0]["guard"] = json!({ "allow": [] });
    conflist
}

/// Leases that are renewed after a second.
fn brief() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

fn a_guarded_container_is_leased_an_address_and_gives_it_back(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, guarded(&scenario, json!({})));
    let attachment = Attachment::new(&container);
    let leased = reported(&network.add(&attachment)?, &container)?;
    network.check(&attachment)?;
    scenario.lan.lan.ping(leased.into(), SOON)?;
    scenario.wait_for_renewal()?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    ensure_nothing_left(&container)
}

fn a_guarded_container_asks_whether_its_address_is_used_before_it_gives_it_back(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let keys = json!({ "release": "ifUnused" });
    let network = Network::new(&scenario.lan.host, guarded(&scenario, keys));
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    network.del(&attachment)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    ensure_nothing_left(&container)
}

fn the_guard_follows_the_lease_to_another_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, guarded(&scenario, json!({})));
    network.add(&Attachment::new(&container))?;
    let inside = FrameSocket::open(&container, "eth0")?;
    let macs = Macs {
        from: inside.mac,
        to: [0xff; 6],
    };
    let speaks_from = |from| inside.send(&udp(macs, [from, OTHER], [9, 9], b"x"), 0);
    ensure!(speaks_from(FIRST)? && !speaks_from(SECOND)?);
    server.reconfigure(|settings| settings.pool = SECOND..=SECOND);
    server.forget();
    until("the container has another address", SOON, || {
        address(&container).is_ok_and(|address| address == SECOND)
    })?;
    ensure!(!speaks_from(FIRST)? && speaks_from(SECOND)?);
    scenario.lan.lan.ping(SECOND.into(), SOON)?;
    Ok(())
}

fn a_renewal_restores_the_guard(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, guarded(&scenario, json!({})));
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let nft = Nft::open_in(container.netns())?;
    for family in [Family::Netdev, Family::Inet] {
        nft.delete(family, "leasehold-eth0")?;
    }
    until("the guard is back", SOON, || {
        network.check(&attachment).is_ok()
    })?;
    let log = scenario.daemon.log();
    ensure!(
        log.contains("interface restored") && log.contains("guard"),
        "{log}"
    );
    Ok(())
}

fn a_guarded_container_looks_for_conflicts(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let taken = Ipv4Net::new(FIRST, 24)?;
    scenario
        .lan
        .lan
        .add_address(Lan::SERVER_LINK, taken.into())?;
    let container = scenario.lan.container("c1")?;
    let conflist = guarded(&scenario, json!({ "conflictDetection": "fast" }));
    Network::new(&scenario.lan.host, conflist).add(&Attachment::new(&container))?;
    ensure!(
        address(&container)? == SECOND,
        "{:?}",
        container.ipv4("eth0")?
    );
    server.wait_for(MessageType::Decline, 1, SOON)?;
    scenario.lan.lan.ping(SECOND.into(), SOON)?;
    Ok(())
}

fn a_guarded_add_in_vain_releases_what_it_requested(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.when(MessageType::Request).then(Reaction::silence());
    let container = scenario.lan.container("c1")?;
    let keys = json!({ "timeout": "1s", "rapidCommit": false });
    let network = Network::new(&scenario.lan.host, guarded(&scenario, keys));
    let error = network::cni_error(network.add(&Attachment::new(&container)));
    ensure!(error.code == 11, "{error:?}");
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(*release.source.ip() == FIRST, "{release:?}");
    ensure_nothing_left(&container)
}

fn a_guarded_container_and_its_host_reach_each_other(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let host: IpAddr = [10, 99, 0, 2].into();
    let net = Ipv4Net::new([10, 99, 0, 2].into(), 24)?;
    scenario.lan.host.add_address(Lan::MASTER, net.into())?;
    let container = scenario.lan.container("c1")?;
    let mut conflist = guarded(&scenario, json!({}));
    conflist["plugins"][0]["hostAccess"] = json!(true);
    let network = Network::new(&scenario.lan.host, conflist);
    let attachment = Attachment::new(&container);
    let leased = reported(&network.add(&attachment)?, &container)?;
    scenario.lan.host.ping(leased.into(), SOON)?;
    container.ping(host, SOON)?;
    network.check(&attachment)?;
    network.del(&attachment).context("DEL")
}
