//! A late DEL of a container that does not hear its successor: silence proves nothing, so nothing is
//! released.

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{Value, json};
use lab::suite::packages::IPROUTE2;
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test};

use super::two_hosts::Hosts;
use super::{by_name, cut_off, ensure_kept, reconnect, web};
use crate::scenario::address;

pub(super) const TESTS: &[Test] = &[
    test!(a_late_del_of_a_container_with_a_bridge_of_its_own_keeps_the_lease),
    test!(a_late_del_of_a_container_that_is_cut_off_keeps_the_lease).needs(&[IPROUTE2]),
    test!(a_late_del_in_mode_source_keeps_the_lease),
    test!(a_late_del_keeps_the_lease_of_another_daemons_container_in_mode_private),
    test!(without_a_daemon_del_says_why_it_releases_nothing),
];

fn a_late_del_of_a_container_with_a_bridge_of_its_own_keeps_the_lease(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, new] = hosts.moved(&networks)?;
    old.add_bridge("br0")?;
    old.set_up("br0")?;
    old.add_bridge_port("br0", "eth0")?;
    networks[0].del(&web(&old))?;
    hosts.ensure_kept(&networks, &new)
}

fn a_late_del_of_a_container_that_is_cut_off_keeps_the_lease(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, new] = hosts.moved(&networks)?;
    cut_off(&hosts.lan.host)?;
    networks[0].del(&web(&old))?;
    reconnect(&hosts.lan.host)?;
    let log = daemons[0].log();
    ensure!(log.contains("gets no answers to ARP requests"), "{log}");
    hosts.ensure_kept(&networks, &new)
}

/// The network by name, with these keys for macvlan.
fn network<'a>(host: &'a Node, daemon: &Daemon, keys: &Value) -> Network<'a> {
    let mut conflist = by_name(daemon.socket());
    for (key, value) in keys.as_object().into_iter().flatten() {
        conflist["plugins"][0][key] = value.clone();
    }
    Network::new(host, conflist)
}

fn a_late_del_in_mode_source_keeps_the_lease(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let server = hosts.lan.lan.link(Lan::SERVER_LINK)?.mac;
    let server = server.context("an Ethernet link")?.to_string();
    let keys = json!({ "mode": "source", "sourceMacs": [server] });
    let first = network(&hosts.lan.host, &daemons[0], &keys);
    let second = network(&hosts.second, &daemons[1], &json!({}));
    let [old, new] = [hosts.lan.container("c1")?, hosts.lan.container("c2")?];
    first.add(&web(&old))?;
    second.add(&web(&new))?;
    first.del(&web(&old))?;
    let log = daemons[0].log();
    ensure!(log.contains("mode source does not hear all"), "{log}");
    ensure_kept(&hosts.server, &new, &second, &hosts.lan)
}

fn a_late_del_keeps_the_lease_of_another_daemons_container_in_mode_private(
    world: &World,
) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let daemons = [
        Daemon::start_on(world, &lan.host, "first.sock")?,
        Daemon::start_on(world, &lan.host, "second.sock")?,
    ];
    let keys = json!({ "mode": "private" });
    let [first, second] =
        [&daemons[0], &daemons[1]].map(|daemon| network(&lan.host, daemon, &keys));
    let [old, new] = [lan.container("c1")?, lan.container("c2")?];
    first.add(&web(&old))?;
    second.add(&web(&new))?;
    ensure!(address(&old)? == address(&new)?, "one client, one address");
    first.del(&web(&old))?;
    ensure_kept(&server, &new, &second, &lan)
}

fn without_a_daemon_del_says_why_it_releases_nothing(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let daemon = Daemon::start(world, &lan.host)?;
    let network = network(&lan.host, &daemon, &json!({ "mode": "private" }));
    let container = lan.container("c1")?;
    network.add(&web(&container))?;
    daemon.kill()?;
    let outcome = network
        .prepare("DEL", 0, &web(&container), None)?
        .run(&lan.host)?;
    ensure!(
        outcome.stderr.contains("mode private does not hear all"),
        "{outcome:?}"
    );
    outcome.success()?;
    ensure!(server.leases().len() == 1, "{}", server.transcript());
    Ok(())
}
