//! One host on two LANs that use the same addresses. A container on each is known by the same name,
//! and each server knows its own.

use lab::anyhow::ensure;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{Value, json};
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};

use super::{by_name, web};
use crate::scenario::{SOON, Scenario, address};

pub(super) const TESTS: &[Test] = &[
    test!(a_client_of_another_lan_is_another_client),
    test!(del_releases_while_the_client_of_another_lan_asks_for_an_address),
    test!(del_without_a_daemon_releases_although_another_lan_has_the_address_too),
];

/// Two LANs with a server each, and the network of the second one.
struct TwoLans {
    scenario: Scenario,
    servers: [DhcpServer; 2],
    conflists: [Value; 2],
}

impl TwoLans {
    fn new(world: &World) -> Result<TwoLans> {
        let scenario = Scenario::new(world)?;
        let lan = &scenario.lan;
        let other = lan.container("lan2")?;
        lan.host.add_veth("eth2", (&other, Lan::SERVER_LINK))?;
        lan.host.set_up("eth2")?;
        other.set_up(Lan::SERVER_LINK)?;
        other.add_address(Lan::SERVER_LINK, Lan::NET.into())?;
        until("the cable is live", SOON, || {
            lan.host.link("eth2").is_ok_and(|link| link.carrier)
        })?;
        let servers = [
            DhcpServer::start(&lan.lan, Settings::default())?,
            DhcpServer::start(&other, Settings::default())?,
        ];
        let mut first = by_name(scenario.daemon.socket());
        // Unlike "name", it leaves the network's name out.
        first["plugins"][0]["ipam"]["clientId"] = json!({ "fromArg": "K8S_POD_NAME" });
        let mut second = first.clone();
        second["name"] = json!("lan2");
        second["plugins"][0]["master"] = json!("eth2");
        Ok(TwoLans {
            scenario,
            servers,
            conflists: [first, second],
        })
    }

    fn networks(&self) -> [Network<'_>; 2] {
        let host = &self.scenario.lan.host;
        let [first, second] = self.conflists.clone();
        [Network::new(host, first), Network::new(host, second)]
    }

    fn containers(&self) -> Result<[Node; 2]> {
        let lan = &self.scenario.lan;
        Ok([lan.container("c1")?, lan.container("c2")?])
    }
}

fn a_client_of_another_lan_is_another_client(world: &World) -> Result {
    let lans = TwoLans::new(world)?;
    let [first, second] = lans.networks();
    let [one, other] = lans.containers()?;
    first.add(&web(&one))?;
    second.add(&web(&other))?;
    ensure!(
        address(&one)? == address(&other)?,
        "both LANs use the same addresses"
    );
    first.check(&web(&one))?;
    second.check(&web(&other))?;
    first.del(&web(&one))?;
    until("the lease is given back", SOON, || {
        lans.servers[0].leases().is_empty()
    })?;
    second.check(&web(&other))?;
    ensure!(lans.servers[1].leases().len() == 1);
    Ok(())
}

fn del_releases_while_the_client_of_another_lan_asks_for_an_address(world: &World) -> Result {
    let lans = TwoLans::new(world)?;
    let [first, second] = lans.networks();
    let [one, other] = lans.containers()?;
    first.add(&web(&one))?;
    let discover = lans.servers[1].when(MessageType::Discover);
    discover.then(Reaction::silence());
    let asking = second
        .prepare("ADD", 0, &web(&other), None)?
        .start(&lans.scenario.lan.host)?;
    lans.servers[1].wait_for(MessageType::Discover, 1, SOON)?;
    first.del(&web(&one))?;
    until("the lease is given back", SOON, || {
        lans.servers[0].leases().is_empty()
    })?;
    second.del(&web(&other))?;
    ensure!(!asking.finish()?.status.success());
    Ok(())
}

fn del_without_a_daemon_releases_although_another_lan_has_the_address_too(world: &World) -> Result {
    let lans = TwoLans::new(world)?;
    let [one, other] = lans.containers()?;
    let TwoLans {
        scenario: Scenario { lan, daemon },
        servers,
        conflists,
    } = lans;
    let [first, second] = conflists.map(|conflist| Network::new(&lan.host, conflist));
    first.add(&web(&one))?;
    second.add(&web(&other))?;
    daemon.kill()?;
    first.del(&web(&one))?;
    until("the lease is given back", SOON, || {
        servers[0].leases().is_empty()
    })?;
    ensure!(servers[1].leases().len() == 1);
    let _daemon = Daemon::start(world, &lan.host)?;
    second.check(&web(&other))
}
