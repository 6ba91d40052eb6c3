//! A lease after ADD: it is renewed, extended by a server that has replaced the first, or lost.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Packet;
use lab::dhcproto::v4::MessageType;
use lab::servers::{Config, Kind, UnknownLease};
use lab::{Attachment, Lan, Network, Node, Result, Test, World, tests_of_each, until};

use super::{listener, node_on_the_lan};
use crate::scenario::{SOON, Scenario, address, decoded, reported};

pub(super) fn tests() -> Vec<Test> {
    [
        tests_of_each!(logs_a_renewal_at_t1),
        tests_of_each!(is_asked_by_unicast_to_extend_a_lease),
        tests_of_each!(extends_the_leases_of_a_server_it_has_replaced, |server| {
            server.unknown_lease == UnknownLease::ExtendedOrRefused
        }),
        tests_of_each!(renumbers_and_the_container_follows),
    ]
    .concat()
}

/// For what happens after a few seconds of a lease.
const LEASE_EVENT_TIMEOUT: Duration = Duration::from_secs(15);

/// Leases whose T1 comes as soon as the server allows, and T2 long after it.
fn early_t1(server: &Kind) -> Config {
    Config {
        t1: Some(server.shortest_t1),
        t2: Some(Duration::from_secs(60)),
        ..Config::default()
    }
}

fn logs_a_renewal_at_t1(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let running = server.start(world, &scenario.lan.lan, &early_t1(server))?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let leased = reported(&network.add(&attachment)?, &container)?;
    until(
        "the server has logged a renewal",
        LEASE_EVENT_TIMEOUT,
        || running.log().matches(server.logs_acknowledged).count() >= 2,
    )?;
    until("the server holds the lease", SOON, || running.holds(leased))
        .with_context(|| running.leases())?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    until("the server has taken the lease back", SOON, || {
        !running.holds(leased)
    })
}

fn is_asked_by_unicast_to_extend_a_lease(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = server.start(world, &scenario.lan.lan, &early_t1(server))?;
    let listener = listener(&scenario.lan.lan)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    let renewal = listener.wait_for(MessageType::Request, 2, LEASE_EVENT_TIMEOUT)?;
    ensure!(is_renewal(&renewal, leased)?, "{renewal:?}");
    scenario.wait_for_renewal()?;
    ensure!(
        address(&container)? == leased,
        "{:?}",
        container.ipv4("eth0")?
    );
    Ok(())
}

/// RFC 2131 §4.3.2: from the address, to the server, with ciaddr.
fn is_renewal(request: &Packet, leased: Ipv4Addr) -> Result<bool> {
    let addresses = (
        *request.source.ip(),
        *request.destination.ip(),
        decoded(request)?.ciaddr(),
    );
    Ok(addresses == (leased, Lan::ADDRESS, leased))
}

/// The second server has another address and none of the first's leases, so only REBINDING reaches
/// it.
fn extends_the_leases_of_a_server_it_has_replaced(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let config = Config {
        t1: Some(server.shortest_t1),
        t2: Some(server.shortest_t1 + Duration::from_secs(1)),
        ..Config::default()
    };
    let first = server.start(world, &scenario.lan.lan, &config)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    drop(first);
    readdress(&scenario.lan.lan, Lan::NET, "10.99.0.2/24".parse()?)?;
    let listener = listener(&node_on_the_lan(&scenario, "listener")?)?;
    let second = server.start(world, &scenario.lan.lan, &config)?;
    until("the lease is extended", LEASE_EVENT_TIMEOUT, || {
        scenario.daemon.log().contains("lease renewed") && second.holds(leased)
    })?;
    ensure!(
        address(&container)? == leased,
        "{:?}",
        container.ipv4("eth0")?
    );
    let is_rebinding = |request: &Packet| {
        request.destination.ip().is_broadcast()
            && decoded(request).is_ok_and(|message| message.ciaddr() == leased)
    };
    ensure!(
        listener
            .received_of(MessageType::Request)
            .iter()
            .any(is_rebinding),
        "{}",
        listener.transcript()
    );
    Ok(())
}

fn readdress(lan: &Node, old: ipnet::Ipv4Net, new: ipnet::Ipv4Net) -> Result {
    lan.netlink()?
        .delete_address(lan.link(Lan::SERVER_LINK)?.index, old)?;
    lan.add_address(Lan::SERVER_LINK, new.into())
}

/// The server comes back with another range and without its leases.
fn renumbers_and_the_container_follows(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let second = Duration::from_secs(1);
    let (t1, t2) = (server.shortest_t1, server.shortest_t1 + second);
    let config = Config {
        lease_time: server.shortest_lease.max(t2 + second),
        t1: Some(t1),
        t2: Some(t2),
        ..Config::default()
    };
    let first = server.start(world, &scenario.lan.lan, &config)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    drop(first);
    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    let renumbered = server.start(world, &scenario.lan.lan, &Config { pool, ..config })?;
    until(
        "the address is of the new range",
        LEASE_EVENT_TIMEOUT,
        || address(&container).is_ok_and(|now| now.octets()[3] >= 200),
    )
    .with_context(|| renumbered.log())?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    let reason = match server.unknown_lease {
        UnknownLease::ExtendedOrRefused => "address lost: NAK from 10.99.0.1",
        UnknownLease::Ignored => "address lost: expired",
    };
    let log = scenario.daemon.log();
    ensure!(log.contains(reason), "{log}");
    Ok(())
}
