//! When a client that comes back asks for the address that it had, and when a RELEASE is made up
//! for.

use ipnet::Ipv4Net;
use lab::anyhow::ensure;
use lab::dhcp_server::{Packet, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Result, Test, World, test, until};

use crate::dhcp::set_mtu;
use crate::persistence::ipam_alone;
use crate::scenario::{SOON, Scenario, address};

pub(super) const TESTS: &[Test] = &[
    test!(a_lease_that_is_not_to_be_released_is_confirmed_in_one_round_trip),
    test!(an_address_that_another_station_has_is_not_asked_for_again),
    test!(a_release_that_could_not_be_sent_without_a_daemon_is_sent_by_the_next),
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

fn a_release_that_could_not_be_sent_without_a_daemon_is_sent_by_the_next(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    network.add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    let Scenario { lan, daemon } = scenario;
    let socket = daemon.socket().to_owned();
    daemon.kill()?;
    // Nothing can be sent now. The interface stays, because only its IPAM part ends.
    set_mtu(&container, 68)?;
    ipam_alone("DEL", &container, &socket)?
        .run(&lan.host)?
        .success()?;
    ensure!(
        container.ipv4("eth0")?.is_empty(),
        "the container still has {leased}"
    );
    set_mtu(&container, 1500)?;
    let _daemon = Daemon::start(world, &lan.host)?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(*release.source.ip() == leased, "{release:?}");
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}
