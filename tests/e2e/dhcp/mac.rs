//! The interface gets another MAC after ADD, as from `tuning`, KubeVirt or `ip link set`.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Packet, Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};
use linknet::Mac;

use super::{client_id, requested};
use crate::scenario::{SOON, Scenario, address, decoded};

pub(super) const TESTS: &[Test] = &[
    test!(with_another_mac_the_lease_is_confirmed_and_kept),
    test!(a_client_identified_by_its_mac_leases_again_under_the_new_one),
    test!(a_client_without_identifier_leases_again_under_the_new_mac),
    test!(a_container_whose_old_mac_another_gets_asks_under_its_new_one),
    test!(while_no_server_answers_another_mac_is_noticed),
    test!(another_attachments_interface_is_never_taken_for_ones_own),
];

const OTHER_MAC: &str = "02:00:00:00:00:55";

fn brief() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

fn change_mac(container: &Node) -> Result {
    let index = container.link("eth0")?.index;
    Ok(container.netlink()?.set_mac(index, OTHER_MAC.parse()?)?)
}

fn chaddr(packet: &Packet) -> Result<Mac> {
    let octets: [u8; 6] = decoded(packet)?.chaddr().try_into()?;
    Ok(Mac(octets))
}

fn with_another_mac_the_lease_is_confirmed_and_kept(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let conflist = scenario.dhcp();
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, conflist);
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let leased = address(&container)?;
    let discover = server.wait_for(MessageType::Discover, 1, SOON)?;
    change_mac(&container)?;
    until("the lease is renewed with the new MAC", SOON, || {
        let log = daemon.log();
        let noticed = log.find("another MAC").unwrap_or(log.len());
        log[noticed..].matches("lease renewed").count() >= 2
    })?;
    let requests = server.received_of(MessageType::Request);
    for request in &requests {
        ensure!(client_id(request) == client_id(&discover), "{request:?}");
    }
    let last = requests.last().context("a REQUEST")?;
    ensure!(chaddr(last)?.to_string() == OTHER_MAC, "{last:?}");
    ensure!(address(&container)? == leased);

    // The next daemon goes on with it, and DEL gives the address back.
    daemon.kill()?;
    let daemon = Daemon::start(world, &lan.host)?;
    until("the next daemon renews", SOON, || {
        daemon.log().contains("lease renewed")
    })?;
    ensure!(!daemon.log().contains("another MAC"), "{}", daemon.log());
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

fn a_client_identified_by_its_mac_leases_again_under_the_new_one(world: &World) -> Result {
    leases_again_under_the_new_mac(world, "mac")
}

fn a_client_without_identifier_leases_again_under_the_new_mac(world: &World) -> Result {
    leases_again_under_the_new_mac(world, "none")
}

fn leases_again_under_the_new_mac(world: &World, identifier: &str) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let keys = json!({ "clientId": identifier });
    let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    network.add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    let first = server.wait_for(MessageType::Discover, 1, SOON)?;
    change_mac(&container)?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(
        chaddr(&release)? == chaddr(&first)? && client_id(&release) == client_id(&first),
        "{release:?}"
    );
    let second = server.wait_for(MessageType::Discover, 2, SOON)?;
    ensure!(chaddr(&second)?.to_string() == OTHER_MAC, "{second:?}");
    ensure!(requested(&second) == Some(leased), "{second:?}");
    // The address may not have been taken off the interface in between.
    until("the address is leased again", SOON, || {
        server.leases().len() == 1 && address(&container).is_ok_and(|now| now == leased)
    })?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    let log = scenario.daemon.log();
    let lost = log.lines().find(|line| line.contains("address lost"));
    let lost = lost.context("an event")?;
    ensure!(
        lost.contains("WARN") && lost.contains("another MAC"),
        "{lost}"
    );
    Ok(())
}

fn a_container_whose_old_mac_another_gets_asks_under_its_new_one(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let conflist = scenario.dhcp_with(json!({ "clientId": "mac" }));
    let [one, other] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, conflist.clone());
    network.add(&Attachment::new(&one))?;
    let leased = address(&one)?;
    let mac = one.link("eth0")?.mac.context("an Ethernet link")?;
    change_mac(&one)?;
    let mut with_mac = conflist;
    with_mac["plugins"][0]["mac"] = json!(mac.to_string());
    Network::new(&scenario.lan.host, with_mac).add(&Attachment::new(&other))?;
    ensure!(address(&other)? == leased, "the server goes by the MAC");
    until("the first container has another address", SOON, || {
        address(&one).is_ok_and(|address| address != leased)
    })
    .with_context(|| scenario.daemon.log())?;
    one.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(
        server.received_of(MessageType::Release).is_empty() && server.leases().len() == 2,
        "{}",
        server.transcript()
    );
    Ok(())
}

fn while_no_server_answers_another_mac_is_noticed(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    server.when(MessageType::Request).then(Reaction::silence());
    server.wait_for(MessageType::Request, 2, SOON)?;
    change_mac(&container)?;
    until("a REQUEST has the new MAC", Duration::from_secs(10), || {
        let requests = server.received_of(MessageType::Request);
        requests
            .last()
            .is_some_and(|last| chaddr(last).is_ok_and(|mac| mac.to_string() == OTHER_MAC))
    })
}

fn another_attachments_interface_is_never_taken_for_ones_own(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    container.set_alias("eth0", "leasehold:eth1/c2/lan")?;
    change_mac(&container)?;
    until("the lease is dropped", SOON, || {
        let log = scenario.daemon.log();
        log.lines().any(|line| {
            line.contains("lease dropped: its interface is gone") && line.contains("WARN")
        })
    })?;
    drop(server);
    Ok(())
}
