//! Parents of the kinds that an administrator makes, and one that is no parent.

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Result, Test, World, test, until};
use linknet::NewVlan;

use super::{SOON, conflist, ip};

pub(super) const TESTS: &[Test] = &[
    test!(a_vlan_made_by_the_administrator_is_a_parent),
    test!(a_bond_is_a_parent_and_its_failover_goes_unnoticed),
    test!(a_dummy_is_a_parent_for_containers_among_themselves),
    test!(an_ipvlan_that_occupies_the_parent_is_named),
];

fn a_vlan_made_by_the_administrator_is_a_parent(world: &World) -> Result {
    let lan = Lan::new()?;
    for (node, name, parent) in [
        (&lan.host, "upstairs", Lan::MASTER),
        (&lan.lan, "eth0.5", Lan::SERVER_LINK),
    ] {
        let parent = node.link(parent)?.index;
        node.netlink()?.add_vlan(&NewVlan {
            name,
            parent,
            id: 5,
            up: true,
            group: 0,
        })?;
    }
    // Without an address beside the VLAN, whatever arrives has come over it.
    ip(&lan.lan, "addr flush dev eth0")?;
    lan.lan.add_address("eth0.5", Lan::NET.into())?;
    let server = DhcpServer::start_on(&lan.lan, "eth0.5", Settings::default())?;
    let daemon = Daemon::start(world, &lan.host)?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let network = Network::new(
        &lan.host,
        conflist(json!({ "master": "upstairs", "ipam": ipam })),
    );

    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;
    ensure!(
        lan.host.find_link("upstairs")?.is_some(),
        "the administrator's VLAN is gone"
    );
    Ok(())
}

fn a_bond_is_a_parent_and_its_failover_goes_unnoticed(world: &World) -> Result {
    let lan = Lan::new()?;
    // Two cables between a bond and a switch.
    lan.host.add_veth("eth2", (&lan.lan, "eth2far"))?;
    lan.lan.add_bridge("switch")?;
    for port in [Lan::SERVER_LINK, "eth2far"] {
        lan.lan.add_bridge_port("switch", port)?;
    }
    for link in [Lan::SERVER_LINK, "eth2far", "switch"] {
        lan.lan.set_up(link)?;
    }
    ip(&lan.lan, "addr flush dev eth0")?;
    lan.lan.add_address("switch", Lan::NET.into())?;
    ip(
        &lan.host,
        "link add bond0 type bond mode active-backup miimon 100",
    )?;
    for port in [Lan::MASTER, "eth2"] {
        ip(&lan.host, &format!("link set {port} down"))?;
        ip(&lan.host, &format!("link set {port} master bond0"))?;
    }
    ip(&lan.host, "link set bond0 up")?;

    let server = DhcpServer::start_on(&lan.lan, "switch", Settings::default())?;
    let daemon = Daemon::start(world, &lan.host)?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let network = Network::new(
        &lan.host,
        conflist(json!({ "master": "bond0", "ipam": ipam })),
    );
    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    lan.host.set_down(Lan::MASTER)?;
    container
        .ping(Lan::ADDRESS.into(), SOON)
        .context("over the other port")?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;

    // The bond's ports are its own.
    let port = Network::new(&lan.host, conflist(json!({ "master": "eth2" })));
    let error = port
        .prepare("ADD", 0, &attachment, None)?
        .run(&lan.host)?
        .error()?;
    ensure!(
        error.code == 7 && error.msg.contains("eth2 is a port of bond bond0"),
        "{error:?}"
    );
    ensure!(error.details.contains("use bond0 as master"), "{error:?}");
    Ok(())
}

fn a_dummy_is_a_parent_for_containers_among_themselves(_: &World) -> Result {
    let lan = Lan::new()?;
    ip(&lan.host, "link add dummy0 type dummy")?;
    ip(&lan.host, "link set dummy0 up")?;
    let network = |address: &str| {
        let ipam = json!({ "type": "static", "addresses": [{ "address": address }] });
        Network::new(
            &lan.host,
            conflist(json!({ "master": "dummy0", "ipam": ipam })),
        )
    };
    let [one, two] = [lan.container("c1")?, lan.container("c2")?];
    network("10.7.0.1/24").add(&Attachment::new(&one))?;
    network("10.7.0.2/24").add(&Attachment::new(&two))?;
    one.ping([10, 7, 0, 2].into(), SOON)?;
    Ok(())
}

fn an_ipvlan_that_occupies_the_parent_is_named(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    ip(
        &lan.host,
        "link add link eth1 name ipvl0 type ipvlan mode l2",
    )?;
    let network = Network::new(&lan.host, conflist(json!({})));
    let attachment = Attachment::new(&container);
    let error = network
        .prepare("ADD", 0, &attachment, None)?
        .run(&lan.host)?
        .error()?;
    ensure!(
        error.code == 7 && error.msg.contains("eth1 carries ipvlan ipvl0"),
        "{error:?}"
    );
    // Where it cannot be seen from here, a container's, it is guessed.
    ip(&lan.host, "link set ipvl0 netns c1")?;
    let error = network
        .prepare("ADD", 0, &attachment, None)?
        .run(&lan.host)?
        .error()?;
    ensure!(
        error.code == 7
            && error
                .details
                .contains("does a container have an ipvlan on it?"),
        "{error:?}"
    );
    // And with it gone, the way is free.
    ip(&container, "link del ipvl0")?;
    network.add(&attachment)?;
    Ok(())
}
