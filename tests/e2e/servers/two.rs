//! A server and a second one, which is dnsmasq, on the same LAN.

use std::net::Ipv4Addr;

use lab::anyhow::ensure;
use lab::serde_json::json;
use lab::servers::{Config, DNSMASQ, Kind, Server};
use lab::{Attachment, Lan, Network, Result, Test, World, tests_of_each, until};

use super::node_on_the_lan;
use crate::scenario::{SOON, Scenario, address, reported};

pub(super) fn tests() -> Vec<Test> {
    let tests = [
        tests_of_each!(and_a_second_server_give_one_lease_between_them),
        tests_of_each!(is_not_used_if_the_configuration_denies_it),
    ]
    .concat();
    tests.into_iter().map(|test| test.needs(NEEDS)).collect()
}

const NEEDS: &[lab::suite::Package] = &[DNSMASQ.package];

fn and_a_second_server_give_one_lease_between_them(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let first = server.start(world, &scenario.lan.lan, &Config::default())?;
    let second = second_server(world, &scenario)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let leased = reported(&network.add(&attachment)?, &container)?;
    let (lender, other) = if leased.octets()[3] < 200 {
        (&first, &second)
    } else {
        (&second, &first)
    };
    until("the lender has it on file", SOON, || lender.holds(leased))?;
    ensure!(!other.holds(leased), "both think that they lent {leased}");
    network.del(&attachment)?;
    until("it is given back", SOON, || !lender.holds(leased))
}

fn is_not_used_if_the_configuration_denies_it(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let _first = server.start(world, &scenario.lan.lan, &Config::default())?;
    let _second = second_server(world, &scenario)?;
    for (name, denied, range) in [
        ("c1", Lan::ADDRESS, 200..=210),
        ("c2", SECOND_ADDRESS, 100..=199),
    ] {
        let container = scenario.lan.container(name)?;
        let keys = json!({ "servers": { "deny": [denied] } });
        Network::new(&scenario.lan.host, scenario.dhcp_with(keys))
            .add(&Attachment::new(&container))?;
        ensure!(
            range.contains(&address(&container)?.octets()[3]),
            "{:?}",
            container.ipv4("eth0")?
        );
    }
    Ok(())
}

const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// Gives addresses from .200 on, on a node of its own on the LAN.
fn second_server(world: &World, scenario: &Scenario) -> Result<Server> {
    let node = node_on_the_lan(scenario, "lan2")?;
    node.add_address(
        Lan::SERVER_LINK,
        ipnet::Ipv4Net::new(SECOND_ADDRESS, 24)?.into(),
    )?;
    let config = Config {
        pool: Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210),
        ..Config::default()
    };
    DNSMASQ.start(world, &node, &config)
}
