//! The parent's carrier goes and comes back.

use std::time::Duration;

use lab::anyhow::ensure;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{MessageType, OptionCode};
use lab::network::cni_error;
use lab::{Attachment, DhcpServer, Lan, Network, Result, Test, World, test, until};

use nix::sys::signal::Signal;

use super::requested;
use crate::persistence::{attach_without_lease, ipam_alone};
use crate::scenario::{SOON, Scenario, address, decoded};

pub(super) const TESTS: &[Test] = &[
    test!(leases_are_confirmed_when_the_carrier_returns),
    test!(replugged_into_another_network_a_container_gets_a_new_address),
    test!(an_unanswered_confirmation_keeps_the_lease),
    test!(an_add_asks_at_once_when_the_carrier_comes),
    test!(an_add_ends_when_its_interface_disappears),
    test!(a_container_without_an_address_asks_at_once_when_the_carrier_returns),
    test!(more_changes_of_links_than_the_daemon_can_read_do_not_end_it),
];

/// Pulls the cable out at the far end and puts it in again.
fn replug(scenario: &Scenario) -> Result {
    let carrier = |wanted| {
        scenario
            .lan
            .host
            .link(Lan::MASTER)
            .is_ok_and(|link| link.carrier == wanted)
    };
    scenario.lan.lan.set_down(Lan::SERVER_LINK)?;
    until("the carrier is gone", SOON, || carrier(false))?;
    scenario.lan.lan.set_up(Lan::SERVER_LINK)?;
    until("the carrier is back", SOON, || carrier(true))
}

fn leases_are_confirmed_when_the_carrier_returns(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let containers = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    for container in &containers {
        network.add(&Attachment::new(container))?;
    }
    let discovers = server.received_of(MessageType::Discover).len();
    let requests = server.received_of(MessageType::Request).len();
    replug(&scenario)?;
    for (nth, container) in (requests + 1..).zip(&containers) {
        let request = server.wait_for(MessageType::Request, nth, SOON)?;
        // INIT-REBOOT: to all, from nowhere, for the address that it had (RFC 2131 §4.3.2).
        ensure!(request.destination.ip().is_broadcast(), "{request:?}");
        ensure!(
            decoded(&request)?.ciaddr().is_unspecified() && requested(&request).is_some(),
            "{request:?}"
        );
        ensure!(
            request.option(OptionCode::ServerIdentifier).is_none(),
            "{request:?}"
        );
        ensure!(
            container.ipv4("eth0")?.len() == 1,
            "the address is used meanwhile"
        );
        network.check(&Attachment::new(container))?;
    }
    until("both are confirmed", SOON, || {
        scenario.daemon.log().matches("lease renewed").count() == 2
    })?;
    ensure!(
        server.received_of(MessageType::Discover).len() == discovers,
        "{}",
        server.transcript()
    );
    Ok(())
}

fn replugged_into_another_network_a_container_gets_a_new_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    server.forget();
    server.reconfigure(|settings| {
        settings.pool = [10, 99, 0, 200].into()..=[10, 99, 0, 210].into();
    });
    replug(&scenario)?;
    until("the address is of the other network", SOON, || {
        address(&container).is_ok_and(|now| now.octets()[3] >= 200)
    })?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn an_unanswered_confirmation_keeps_the_lease(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let leased = address(&container)?;
    server.when(MessageType::Request).then(Reaction::silence());
    replug(&scenario)?;
    server.wait_for(MessageType::Request, 3, Duration::from_secs(8))?;
    network.check(&attachment)?;
    ensure!(
        address(&container)? == leased,
        "RFC 2131 §3.2: what is left of the lease may be used"
    );
    server.behave();
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

/// How many messages of one kind come without an answer before the pauses between them are long.
const MANY: usize = 5;

fn an_add_asks_at_once_when_the_carrier_comes(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.when(MessageType::Discover).then(Reaction::silence());
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let add = network
        .prepare("ADD", 0, &Attachment::new(&container), None)?
        .start(&scenario.lan.host)?;
    // The next one would come after some seconds.
    let last = server.wait_for(MessageType::Discover, MANY - 1, Duration::from_secs(12))?;
    server.behave();
    replug(&scenario)?;
    let next = server.wait_for(MessageType::Discover, MANY, SOON)?;
    ensure!(
        decoded(&next)?.xid() != decoded(&last)?.xid(),
        "a DISCOVER of a new exchange: {next:?}"
    );
    add.finish()?.success().map(drop)
}

fn an_add_ends_when_its_interface_disappears(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    attach_without_lease(&scenario, &container)?;
    server.when(MessageType::Discover).then(Reaction::silence());
    let asked = server.received_of(MessageType::Discover).len();
    let add = ipam_alone("ADD", &container, scenario.daemon.socket())?.start(&scenario.lan.host)?;
    server.wait_for(MessageType::Discover, asked + 1, SOON)?;
    let index = container.link("eth0")?.index;
    container.netlink()?.delete_link(index)?;
    let error = cni_error(add.finish()?.success());
    ensure!(
        error.code == 5 && error.msg.contains("eth0"),
        "it is known soon, and not at the end of ADD's time: {error:?}"
    );
    Ok(())
}

fn a_container_without_an_address_asks_at_once_when_the_carrier_returns(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        lease_time: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(Reaction::silence());
    }
    until("the address is lost", SOON, || {
        container
            .ipv4("eth0")
            .is_ok_and(|addresses| addresses.is_empty())
    })?;
    let sent = server.received_of(MessageType::Discover).len() + 3;
    let last = server.wait_for(MessageType::Discover, sent, Duration::from_secs(12))?;
    server.behave();
    replug(&scenario)?;
    let next = server.wait_for(MessageType::Discover, sent + 1, SOON)?;
    ensure!(
        decoded(&next)?.xid() != decoded(&last)?.xid(),
        "a DISCOVER of a new exchange: {next:?}"
    );
    until("there is an address again", SOON, || {
        address(&container).is_ok()
    })
}

/// The kernel drops notifications that the daemon does not read in time. Then it lists the links,
/// which fails here, as it does while links come and go all the time.
fn more_changes_of_links_than_the_daemon_can_read_do_not_end_it(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let daemon = scenario.daemon.process();
    let pid = daemon.pid().to_string();
    daemon.signal(Signal::SIGSTOP)?;
    let host = &scenario.lan.host;
    for _ in 0..300 {
        host.set_down("lo")?;
        host.set_up("lo")?;
    }
    host.output(&["prlimit", "--pid", &pid, "--nofile=5:"])?;
    daemon.signal(Signal::SIGCONT)?;
    until("it cannot list the links", SOON, || {
        scenario.daemon.log().contains("cannot watch the carriers")
    })?;
    host.output(&["prlimit", "--pid", &pid, "--nofile=1024:"])?;

    let requests = server.received_of(MessageType::Request).len();
    until(
        "a returning carrier is noticed again",
        Duration::from_secs(30),
        || replug(&scenario).is_ok() && server.received_of(MessageType::Request).len() > requests,
    )
}
