//! `onChange`: a container gets no other address than the one that ADD returned.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::ensure;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{MessageType, OptionCode};
use lab::network::cni_error;
use lab::serde_json::json;
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};

use super::requested;
use crate::scenario::{SOON, Scenario, address, default_gateways, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(a_kept_address_is_lost_without_another_until_it_is_granted_again),
    test!(an_address_that_expired_is_not_replaced_either),
    test!(with_down_the_interface_is_down_while_the_address_is_lost),
    test!(a_new_daemon_takes_no_other_address_either),
    test!(del_while_the_interface_is_down_leaves_nothing),
    test!(check_says_that_the_address_is_lost_and_which),
];

/// A server that grants addresses for a second until they are to be renewed, by rapid commit too.
fn brief() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        rapid_commit: true,
        ..Settings::default()
    }
}

/// Has the server refuse every address that it granted, and grant others instead.
fn renumber(server: &DhcpServer) {
    server.forget();
    server.reconfigure(|settings| {
        settings.pool = [10, 99, 0, 200].into()..=[10, 99, 0, 210].into();
    });
}

/// Has the server grant the addresses from before again, and waits until the container has its own.
fn number_back(server: &DhcpServer, container: &Node, kept: Ipv4Addr) -> Result {
    server.forget();
    server.reconfigure(|settings| settings.pool = Settings::default().pool);
    until("the address is back", Duration::from_secs(40), || {
        address(container).is_ok_and(|now| now == kept)
    })
}

fn has_no_address(container: &Node) -> bool {
    container.ipv4("eth0").is_ok_and(|all| all.is_empty())
}

fn is_up(container: &Node) -> bool {
    container.link("eth0").is_ok_and(|link| link.up)
}

fn wait_until_down(container: &Node) -> Result {
    until("the interface is down", Duration::from_secs(10), || {
        !is_up(container)
    })
}

/// Waits until another address was offered, and no address is left.
fn wait_for_loss(daemon: &Daemon, container: &Node) -> Result {
    until("another address is offered", SOON, || {
        daemon
            .log()
            .contains("another address offered, and not taken")
    })?;
    until("the address is gone", SOON, || has_no_address(container))
}

/// Fails if the client took, or asked for, another address than this one after it had it.
fn ensure_no_other_was_asked_for(server: &DhcpServer, kept: Ipv4Addr) -> Result {
    for request in server.received_of(MessageType::Request) {
        let asked = requested(&request);
        ensure!(asked.is_none_or(|asked| asked == kept), "{request:?}");
    }
    let discovers = server.received_of(MessageType::Discover);
    // The first one was ADD's.
    for discover in &discovers[1..] {
        ensure!(requested(discover) == Some(kept), "{discover:?}");
        let rapid = discover.option(OptionCode::from(80));
        ensure!(rapid.is_none(), "the server would choose: {discover:?}");
    }
    Ok(())
}

fn a_kept_address_is_lost_without_another_until_it_is_granted_again(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "onChange": "keep" })),
    );
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let kept = address(&container)?;
    renumber(&server);
    wait_for_loss(&scenario.daemon, &container)?;
    let log = scenario.daemon.log();
    let words = format!("address={kept} offered=10.99.0.200 server={}", Lan::ADDRESS);
    ensure!(log.contains(&words) && log.contains("NAK from"), "{log}");
    ensure!(is_up(&container));
    server.wait_for(MessageType::Discover, 4, Duration::from_secs(20))?;
    ensure!(has_no_address(&container) && server.leases().is_empty());
    number_back(&server, &container, kept)?;
    ensure_no_other_was_asked_for(&server, kept)?;
    network.check(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.del(&attachment)?;
    until("the address is released", SOON, || {
        server.leases().is_empty()
    })
}

fn an_address_that_expired_is_not_replaced_either(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        lease_time: Some(Duration::from_secs(2)),
        ..brief()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "onChange": "keep" })),
    );
    network.add(&Attachment::new(&container))?;
    let kept = address(&container)?;
    server.when(MessageType::Request).then(Reaction::silence());
    renumber(&server);
    wait_for_loss(&scenario.daemon, &container)?;
    let log = scenario.daemon.log();
    ensure!(log.contains("address lost: expired"), "{log}");
    server.behave();
    number_back(&server, &container, kept)?;
    ensure_no_other_was_asked_for(&server, kept)
}

fn with_down_the_interface_is_down_while_the_address_is_lost(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "onChange": "down" })),
    );
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let kept = address(&container)?;
    renumber(&server);
    wait_for_loss(&scenario.daemon, &container)?;
    wait_until_down(&container)?;
    until("the log says so", SOON, || {
        scenario.daemon.log().contains("interface set down")
    })?;
    // It is asked for again, although nothing can be sent from an interface that is down.
    let before = server.received_of(MessageType::Discover).len();
    server.wait_for(MessageType::Discover, before + 1, Duration::from_secs(20))?;
    wait_until_down(&container)?;
    number_back(&server, &container, kept)?;
    ensure!(is_up(&container));
    ensure_no_other_was_asked_for(&server, kept)?;
    let gateways = default_gateways(&container)?;
    ensure!(gateways == [Lan::ADDRESS], "{gateways:?}");
    network.check(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    // It stays up.
    let renewals = || scenario.daemon.log().matches("lease renewed").count();
    let before = renewals();
    until("a renewal", SOON, || renewals() > before)?;
    ensure!(is_up(&container));
    Ok(())
}

fn a_new_daemon_takes_no_other_address_either(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let conflist = scenario.dhcp_with(json!({ "onChange": "down" }));
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, conflist);
    network.add(&Attachment::new(&container))?;
    let kept = address(&container)?;
    daemon.kill()?;
    renumber(&server);
    // The lease is active; then it is lost.
    let daemon = Daemon::start(world, &lan.host)?;
    wait_for_loss(&daemon, &container)?;
    // The next one sets it up to send anything.
    wait_until_down(&container)?;
    daemon.kill()?;
    let daemon = Daemon::start(world, &lan.host)?;
    wait_for_loss(&daemon, &container)?;
    wait_until_down(&container)?;
    number_back(&server, &container, kept)?;
    ensure!(is_up(&container));
    ensure_no_other_was_asked_for(&server, kept)
}

fn del_while_the_interface_is_down_leaves_nothing(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "onChange": "down" })),
    );
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    renumber(&server);
    wait_for_loss(&scenario.daemon, &container)?;
    wait_until_down(&container)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    // The next container of the name is given whatever there is.
    network.add(&attachment)?;
    ensure!(address(&container)?.octets()[3] >= 200);
    Ok(())
}

fn check_says_that_the_address_is_lost_and_which(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    let conflist = scenario.dhcp_with(json!({ "onChange": "keep" }));
    let network = Network::new(&scenario.lan.host, conflist.clone());
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let kept = address(&container)?;
    renumber(&server);
    wait_for_loss(&scenario.daemon, &container)?;
    let words = format!("no server has granted {kept} again");
    let of_macvlan = cni_error(network.check(&attachment));
    ensure!(
        of_macvlan.code == 110 && of_macvlan.details.contains(&words),
        "{of_macvlan:?}"
    );
    let mut ipam_alone = conflist;
    ipam_alone["plugins"][0]["type"] = json!("dhcp");
    let dhcp = Network::new(&scenario.lan.host, ipam_alone);
    let result = network.cached(&attachment);
    let call = dhcp.prepare("CHECK", 0, &attachment, result.as_ref())?;
    let error = call.run(&scenario.lan.host)?.error()?;
    ensure!(error.code == 120 && error.msg.contains(&words), "{error:?}");
    ensure!(
        error.details.contains("onChange: keep")
            && error.details.contains("not the address that must stay"),
        "{error:?}"
    );
    Ok(())
}
