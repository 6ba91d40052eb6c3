//! Addresses that another host uses.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{Attachment, DhcpServer, Lan, Network, Result, Test, World, deadline, test, until};
use linknet::ArpSocket;

use super::requested;
use crate::scenario::{SOON, Scenario, address};

pub(super) const TESTS: &[Test] = &[
    test!(an_address_in_use_is_declined_and_another_is_leased),
    test!(fast_conflict_detection_probes_for_200_milliseconds),
    test!(conflict_detection_by_rfc5227_takes_four_to_nine_seconds),
    test!(a_replacement_address_is_probed_too),
    test!(an_address_that_the_server_gives_twice_is_declined),
    test!(conflicts_are_not_looked_for_unless_configured),
];

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 101);

/// Gives this address to a host on the LAN.
fn occupy(scenario: &Scenario, address: Ipv4Addr) -> Result {
    scenario
        .lan
        .lan
        .add_address(Lan::SERVER_LINK, ipnet::Ipv4Net::new(address, 24)?.into())
}

fn an_address_in_use_is_declined_and_another_is_leased(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    occupy(&scenario, FIRST)?;
    let container = scenario.lan.container("c1")?;
    let keys = json!({ "conflictDetection": "fast" });
    Network::new(&scenario.lan.host, scenario.dhcp_with(keys)).add(&Attachment::new(&container))?;
    ensure!(
        address(&container)? == SECOND,
        "{:?}",
        container.ipv4("eth0")?
    );
    let decline = server.wait_for(MessageType::Decline, 1, SOON)?;
    ensure!(requested(&decline) == Some(FIRST), "{decline:?}");
    ensure!(
        scenario.daemon.log().contains("declined"),
        "{}",
        scenario.daemon.log()
    );
    Ok(())
}

fn fast_conflict_detection_probes_for_200_milliseconds(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let index = scenario.lan.lan.link(Lan::SERVER_LINK)?.index;
    let tap = scenario.lan.lan.run(|| ArpSocket::open(index))??;
    let container = scenario.lan.container("c1")?;
    let keys = json!({ "conflictDetection": "fast" });
    Network::new(&scenario.lan.host, scenario.dhcp_with(keys)).add(&Attachment::new(&container))?;
    let returned = Instant::now();
    let acknowledged = server.sent().last().context("an ACK")?.at;
    let probing = returned.duration_since(acknowledged);
    ensure!(probing >= Duration::from_millis(200), "{probing:?}");
    // Three probes, and the announcement after them.
    let mac = container.link("eth0")?.mac;
    for nth in 1..=4 {
        until(&format!("packet {nth}"), SOON, || {
            tap.contender(FIRST).is_ok_and(|from| from == mac)
        })?;
    }
    Ok(())
}

fn conflict_detection_by_rfc5227_takes_four_to_nine_seconds(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let keys = json!({ "conflictDetection": "rfc5227" });
    Network::new(&scenario.lan.host, scenario.dhcp_with(keys)).add(&Attachment::new(&container))?;
    let returned = Instant::now();
    let acknowledged = server.sent().last().context("an ACK")?.at;
    // Two pauses of a second at least between three probes, and two seconds after them.
    let probing = returned.duration_since(acknowledged);
    ensure!(
        probing >= Duration::from_secs(4) && probing < deadline(Duration::from_secs(9)),
        "{probing:?}"
    );
    Ok(())
}

fn a_replacement_address_is_probed_too(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let keys = json!({ "conflictDetection": "fast" });
    Network::new(&scenario.lan.host, scenario.dhcp_with(keys)).add(&Attachment::new(&container))?;
    occupy(&scenario, Ipv4Addr::new(10, 99, 0, 200))?;
    server.reconfigure(|settings| {
        settings.pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    });
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::nak());
    server.forget();
    let second = Ipv4Addr::new(10, 99, 0, 201);
    until(
        "the address that is free is leased",
        Duration::from_secs(10),
        || address(&container).is_ok_and(|now| now == second),
    )?;
    server.wait_for(MessageType::Decline, 1, SOON)?;
    Ok(())
}

fn an_address_that_the_server_gives_twice_is_declined(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let [one, other] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    network.add(&Attachment::new(&one))?;
    server.forget();
    network.add(&Attachment::new(&other))?;
    ensure!(
        address(&one)? == FIRST && address(&other)? == SECOND,
        "{}",
        server.transcript()
    );
    let decline = server.wait_for(MessageType::Decline, 1, SOON)?;
    ensure!(requested(&decline) == Some(FIRST), "{decline:?}");
    let log = scenario.daemon.log();
    ensure!(log.contains("another container has leased it"), "{log}");
    Ok(())
}

fn conflicts_are_not_looked_for_unless_configured(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    occupy(&scenario, FIRST)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    ensure!(
        address(&container)? == FIRST,
        "{:?}",
        container.ipv4("eth0")?
    );
    ensure!(
        server.received_of(MessageType::Decline).is_empty(),
        "{}",
        server.transcript()
    );
    Ok(())
}
