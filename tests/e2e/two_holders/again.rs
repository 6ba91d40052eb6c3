//! When a client that comes back asks for the address that it had.

use ipnet::Ipv4Net;
use lab::anyhow::ensure;
use lab::dhcp_server::{Packet, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{Attachment, DhcpServer, Lan, Network, Result, Test, World, test};

use crate::scenario::{Scenario, address};

pub(super) const TESTS: &[Test] = &[
    test!(a_lease_that_is_not_to_be_released_is_confirmed_in_one_round_trip),
    test!(an_address_that_another_station_has_is_not_asked_for_again),
];

fn a_lease_that_is_not_to_be_released_is_confirmed_in_one_round_trip(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let attachment = Attachment::new(&container);
    let keys = json!({ "release": false });
    let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    network.add(&attachment)?;
    let leased = address(&container)?;
    network.del(&attachment)?;
    let discovers = server.received_of(MessageType::Discover).len();
    network.add(&attachment)?;
    ensure!(address(&container)? == leased, "it was {leased}");
    ensure!(
        server.received_of(MessageType::Discover).len() == discovers,
        "{}",
        server.transcript()
    );
    Ok(())
}

fn an_address_that_another_station_has_is_not_asked_for_again(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let attachment = Attachment::new(&container);
    let keys = json!({ "release": "ifUnused" });
    let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    network.add(&attachment)?;
    let leased = Ipv4Net::new(address(&container)?, 24)?;
    let lan = &scenario.lan.lan;
    lan.add_address(Lan::SERVER_LINK, leased.into())?;
    network.del(&attachment)?;
    let heard = server.received().len();
    network.add(&attachment)?;
    let first = server.received().get(heard).and_then(Packet::kind);
    ensure!(
        first == Some(MessageType::Discover),
        "{}",
        server.transcript()
    );
    Ok(())
}
