//! A rogue DHCP server, an ARP liar and an address thief, in a container with a guard and in one
//! without.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::frames::{FrameSocket, Macs, arp};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};

use super::{OTHER, OWN, container, guarded};
use crate::macvlan::knows_no_other_mac;
use crate::scenario::{SOON, Scenario, reported};

pub(super) const TESTS: &[Test] = &[
    test!(a_guarded_container_is_no_dhcp_server).needs(&[packages::GO_PLUGINS]),
    test!(a_guarded_container_does_not_lie_about_the_gateway).needs(&[packages::GO_PLUGINS]),
    test!(a_guarded_container_cannot_use_anothers_address).needs(&[packages::GO_PLUGINS]),
];

/// Time enough for what must not happen.
const A_WHILE: Duration = Duration::from_secs(1);

fn a_guarded_container_is_no_dhcp_server(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let (lan, pool) = (&scenario.lan, Ipv4Addr::new(10, 99, 0, 200));
    let rogue = Settings {
        address: OWN,
        pool: pool..=pool,
        ..Settings::default()
    };
    let victim = lan.container("victim")?;
    let attachment = Attachment::new(&victim);
    let network = Network::new(&lan.host, scenario.dhcp_with(json!({ "timeout": "1s" })));

    let guarded = container(lan, "guarded", json!(true))?;
    let _rogue = DhcpServer::start(&guarded, rogue.clone())?;
    let error = network::cni_error(network.add(&attachment));
    ensure!(error.code == 11, "{error:?}");
    Network::new(&lan.host, super::guarded(json!(true), &[])).del(&Attachment::new(&guarded))?;

    let unguarded = container(lan, "unguarded", json!(false))?;
    let _rogue = DhcpServer::start(&unguarded, rogue)?;
    let leased = reported(&network.add(&attachment)?, &victim)?;
    ensure!(leased == pool, "{leased}");
    Ok(())
}

/// Tells the victim that the gateway has the liar's MAC.
fn lie(liar: &Node, victim: &Node) -> Result {
    let socket = FrameSocket::open(liar, "eth0")?;
    let to = victim.link("eth0")?.mac.context("a MAC")?.octets();
    let macs = Macs {
        from: socket.mac,
        to,
    };
    for operation in [1, 2] {
        socket.send(&arp(macs, operation, Lan::ADDRESS, OTHER), 0)?;
    }
    Ok(())
}

fn a_guarded_container_does_not_lie_about_the_gateway(_: &World) -> Result {
    let lan = Lan::new()?;
    let victim = lan.container("victim")?;
    let conflist = guarded(json!(true), &["10.99.0.60/24"]);
    Network::new(&lan.host, conflist).add(&Attachment::new(&victim))?;
    victim.ping(Lan::ADDRESS.into(), SOON)?;
    let gateway = Lan::ADDRESS.to_string();
    let mac = lan.lan.link(Lan::SERVER_LINK)?.mac.context("a MAC")?;
    let believes_the_truth = || knows_no_other_mac(&victim, &gateway, &mac.to_string());

    let conflist = |guard: Value, address| guarded(guard, &[address]);
    let guarded = lan.container("guarded")?;
    let network = Network::new(&lan.host, conflist(json!(true), "10.99.0.51/24"));
    network.add(&Attachment::new(&guarded))?;
    let unguarded = lan.container("unguarded")?;
    let network = Network::new(&lan.host, conflist(json!(false), "10.99.0.52/24"));
    network.add(&Attachment::new(&unguarded))?;

    lie(&guarded, &victim)?;
    // Behind the lie, something that arrives.
    guarded.ping(OTHER.into(), SOON)?;
    ensure!(
        believes_the_truth(),
        "the victim believes a guarded container"
    );
    lie(&unguarded, &victim)?;
    until("the victim believes the unguarded one", SOON, || {
        !believes_the_truth()
    })
}

fn a_guarded_container_cannot_use_anothers_address(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = |guard: Value, address| guarded(guard, &[address]);
    let guarded = lan.container("guarded")?;
    let network = Network::new(&lan.host, conflist(json!(true), "10.99.0.51/24"));
    network.add(&Attachment::new(&guarded))?;
    guarded.add_address("eth0", "10.99.0.60/24".parse()?)?;
    ensure!(
        !lan.lan.is_answered(OTHER.into(), A_WHILE)?,
        "the guarded one answers"
    );
    lan.lan.ping([10, 99, 0, 51].into(), SOON)?;
    let unguarded = lan.container("unguarded")?;
    let network = Network::new(&lan.host, conflist(json!(false), "10.99.0.52/24"));
    network.add(&Attachment::new(&unguarded))?;
    unguarded.add_address("eth0", "10.99.0.60/24".parse()?)?;
    lan.lan.ping(OTHER.into(), SOON)?;
    Ok(())
}
