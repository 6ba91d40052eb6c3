//! A container moves under its name from one host to another.

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::suite::packages::IPROUTE2;
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};
use nix::sys::signal::Signal;

use super::{by_name, cut_off, ensure_kept, reconnect, web};
use crate::persistence::ipam_alone;
use crate::scenario::{SOON, address, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(a_del_after_the_move_keeps_the_lease),
    test!(a_del_before_the_move_releases_the_address_and_the_name_gets_it_again),
    test!(a_forced_removal_after_the_move_keeps_the_lease),
    test!(a_gc_after_the_move_keeps_the_lease),
    test!(a_del_after_the_move_without_a_daemon_keeps_the_lease),
    test!(a_daemon_that_was_away_during_the_move_keeps_the_lease).needs(&[IPROUTE2]),
    test!(two_dels_at_once_release_the_address),
    test!(after_a_move_there_and_back_the_last_del_releases_the_address),
];

/// The sockets of the hosts' daemons.
pub(super) const SOCKETS: [&str; 2] = ["first.sock", "second.sock"];

/// Two hosts, and the server.
pub(super) struct Hosts {
    pub(super) lan: Lan,
    pub(super) second: Node,
    pub(super) server: DhcpServer,
}

impl Hosts {
    /// With a daemon on each.
    pub(super) fn new(world: &World) -> Result<(Hosts, [Daemon; 2])> {
        let (lan, second) = Lan::with_two_hosts()?;
        let daemons = [
            Daemon::start_on(world, &lan.host, SOCKETS[0])?,
            Daemon::start_on(world, &second, SOCKETS[1])?,
        ];
        let server = DhcpServer::start(&lan.lan, Settings::default())?;
        let hosts = Hosts {
            lan,
            second,
            server,
        };
        Ok((hosts, daemons))
    }

    /// The network as each host has it.
    pub(super) fn networks(&self, [first, second]: &[Daemon; 2]) -> [Network<'_>; 2] {
        let conflist = |daemon: &Daemon| {
            let mut conflist = by_name(daemon.socket());
            conflist["cniVersion"] = json!("1.1.0");
            conflist
        };
        [
            Network::new(&self.lan.host, conflist(first)),
            Network::new(&self.second, conflist(second)),
        ]
    }

    /// `web` on the first host, and then on the second too.
    pub(super) fn moved(&self, networks: &[Network; 2]) -> Result<[Node; 2]> {
        let nodes = [self.lan.container("c1")?, self.lan.container("c2")?];
        for (network, container) in networks.iter().zip(&nodes) {
            network.add(&web(container))?;
        }
        ensure!(
            address(&nodes[0])? == address(&nodes[1])?,
            "the server knows the client by its name"
        );
        Ok(nodes)
    }

    /// The container on the second host has its lease.
    pub(super) fn ensure_kept(&self, [_, second]: &[Network; 2], container: &Node) -> Result {
        ensure_kept(&self.server, container, second, &self.lan)?;
        second.check(&web(container))
    }
}

fn a_del_after_the_move_keeps_the_lease(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, new] = hosts.moved(&networks)?;
    let [first, second] = &networks;
    first.del(&web(&old))?;
    ensure_nothing_left(&old)?;
    hosts.ensure_kept(&networks, &new)?;
    ensure!(
        daemons[0].log().contains("uses it on the LAN"),
        "{}",
        daemons[0].log()
    );
    second.del(&web(&new))?;
    hosts.server.wait_for(MessageType::Release, 1, SOON)?;
    Ok(())
}

fn a_del_before_the_move_releases_the_address_and_the_name_gets_it_again(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let [old, new] = [hosts.lan.container("c1")?, hosts.lan.container("c2")?];
    let [first, second] = hosts.networks(&daemons);
    first.add(&web(&old))?;
    let leased = address(&old)?;
    first.del(&web(&old))?;
    hosts.server.wait_for(MessageType::Release, 1, SOON)?;
    second.add(&web(&new))?;
    ensure!(address(&new)? == leased, "it was {leased}");
    second.check(&web(&new))
}

fn a_forced_removal_after_the_move_keeps_the_lease(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, new] = hosts.moved(&networks)?;
    let attachment = web(&old);
    old.remove()?;
    let [first, _] = &networks;
    until("the daemon notices", SOON, || {
        daemons[0].log().contains("lease dropped")
    })?;
    first.del(&attachment)?;
    hosts.ensure_kept(&networks, &new)
}

fn a_gc_after_the_move_keeps_the_lease(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, new] = hosts.moved(&networks)?;
    let [first, second] = &networks;
    // The hosts of this world see each other's containers, but have no leases for them.
    first.gc(&[&web(&new)])?;
    ensure!(
        daemons[0].log().contains("uses it on the LAN"),
        "{}",
        daemons[0].log()
    );
    second.gc(&[&web(&new)])?;
    hosts.ensure_kept(&networks, &new)?;
    first.del(&web(&old))?;
    ensure!(hosts.server.received_of(MessageType::Release).is_empty());
    Ok(())
}

fn a_del_after_the_move_without_a_daemon_keeps_the_lease(world: &World) -> Result {
    let (hosts, mut daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, new] = hosts.moved(&networks)?;
    daemons[0].process().kill()?;
    let [first, _] = &networks;
    first.del(&web(&old))?;
    ensure_nothing_left(&old)?;
    hosts.ensure_kept(&networks, &new)?;
    // Nor does the next daemon release it.
    daemons[0] = Daemon::start_on(world, &hosts.lan.host, SOCKETS[0])?;
    let [first, _] = &networks;
    first.status()?;
    ensure!(hosts.server.received_of(MessageType::Release).is_empty());
    Ok(())
}

fn a_daemon_that_was_away_during_the_move_keeps_the_lease(world: &World) -> Result {
    let (hosts, mut daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, new] = hosts.moved(&networks)?;
    daemons[0].process().kill()?;
    // Nothing gets through now, so the next daemon has to ask.
    cut_off(&hosts.lan.host)?;
    ipam_alone("DEL", &old, daemons[0].socket())?
        .run(&hosts.lan.host)?
        .success()?;
    reconnect(&hosts.lan.host)?;
    daemons[0] = Daemon::start_on(world, &hosts.lan.host, SOCKETS[0])?;
    until("the daemon has asked the LAN", SOON, || {
        daemons[0].log().contains("uses it on the LAN")
    })?;
    hosts.ensure_kept(&networks, &new)
}

fn two_dels_at_once_release_the_address(world: &World) -> Result {
    let (hosts, mut daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let nodes = [&hosts.lan.host, &hosts.second];
    let containers = [hosts.lan.container("c1")?, hosts.lan.container("c2")?];
    // Their questions need not meet each time.
    for _ in 0..5 {
        for (network, container) in networks.iter().zip(&containers) {
            network.add(&web(container))?;
        }
        for daemon in &mut daemons {
            daemon.process().signal(Signal::SIGSTOP)?;
        }
        let mut calls = Vec::new();
        for ((network, container), host) in networks.iter().zip(&containers).zip(nodes) {
            let call = network.prepare("DEL", 0, &web(container), None)?;
            calls.push(call.start(host)?);
        }
        until("both DELs are under way", SOON, || {
            let mut addresses = containers.iter().map(|container| container.ipv4("eth0"));
            addresses.all(|addresses| addresses.is_ok_and(|addresses| addresses.is_empty()))
        })?;
        for daemon in &mut daemons {
            daemon.process().signal(Signal::SIGCONT)?;
        }
        for call in calls {
            call.finish()?.success()?;
        }
        until("the lease is given back", SOON, || {
            hosts.server.leases().is_empty()
        })
        .with_context(|| daemons[0].log() + &daemons[1].log())?;
    }
    Ok(())
}

fn after_a_move_there_and_back_the_last_del_releases_the_address(world: &World) -> Result {
    let (hosts, daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let [old, away] = hosts.moved(&networks)?;
    let [first, second] = &networks;
    first.del(&web(&old))?;
    let back = hosts.lan.container("c3")?;
    first.add(&web(&back))?;
    ensure!(
        address(&back)? == address(&away)?,
        "one client, one address"
    );
    second.del(&web(&away))?;
    ensure_kept(&hosts.server, &back, first, &hosts.lan)?;
    first.del(&web(&back))?;
    hosts.server.wait_for(MessageType::Release, 1, SOON)?;
    Ok(())
}
