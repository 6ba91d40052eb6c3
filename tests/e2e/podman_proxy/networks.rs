//! A container on several networks, and the keys of a network.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::{Packet, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::serde_json::{Value, json};
use lab::{DhcpServer, Lan, Node, Result, Test, World, test, until};
use linknet::Route;
use nix::mount::{MsFlags, mount};

use super::messages::NetworkConfig;
use super::{Podman, config};
use crate::scenario::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(two_networks_of_a_container_with_one_server_have_a_lease_each),
    test!(a_restarted_container_keeps_both_addresses_in_any_order),
    test!(a_default_route_of_another_network_stays),
    test!(keys_of_the_parents_file_count),
    test!(a_bad_file_is_named_in_the_error),
];

fn client_id(packet: &Packet) -> Result<&[u8]> {
    match packet.option(OptionCode::ClientIdentifier) {
        Some(DhcpOption::ClientIdentifier(id)) => Some(&id[..]),
        _ => None,
    }
    .context("a client identifier")
}

/// A container with two interfaces on the LAN.
fn with_two_interfaces(podman: &Podman, name: &str) -> Result<(Node, [NetworkConfig; 2])> {
    let container = podman.container(name)?;
    let host = &podman.lan.host;
    host.add_macvlan(Lan::MASTER, (&container, "eth1"))?;
    let configs = [config(&container, "eth0")?, config(&container, "eth1")?];
    Ok((container, configs))
}

fn leased(container: &Node, ifname: &str) -> Result<Ipv4Addr> {
    let all = container.ipv4(ifname)?;
    let address = all.first().context("an address")?;
    Ok(address.addr())
}

fn two_networks_of_a_container_with_one_server_have_a_lease_each(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let (container, [first, second]) = with_two_interfaces(&podman, "c1")?;
    let other = podman.container("c2")?;
    podman.proxy.lease(&first)?;
    podman.proxy.lease(&second)?;
    podman.proxy.lease(&config(&other, "eth0")?)?;
    ensure!(server.leases().len() == 3, "{:?}", server.leases());
    let discovers = server.received_of(MessageType::Discover);
    let [of_first, of_second, of_other] = &discovers[..] else {
        bail!("{}", server.transcript());
    };
    let plain = [&[0], first.container_id.as_bytes()].concat();
    ensure!(client_id(of_first)? == plain);
    let own = [&plain, &b"/netavark.eth1/eth1"[..]].concat();
    ensure!(client_id(of_second)? == own, "{:?}", client_id(of_second)?);
    ensure!(client_id(of_other)?.len() == plain.len());
    let addresses = [leased(&container, "eth0")?, leased(&container, "eth1")?];
    podman.proxy.teardown(&first)?;
    ensure!(container.ipv4("eth0")?.is_empty());
    ensure!(leased(&container, "eth1")? == addresses[1]);
    until("one of them is given back", SOON, || {
        server.leases().len() == 2
    })
}

/// netavark 1.x sets networks up in the order of a hash map.
fn a_restarted_container_keeps_both_addresses_in_any_order(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let _server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let (container, [first, second]) = with_two_interfaces(&podman, "c1")?;
    podman.proxy.lease(&second)?;
    podman.proxy.lease(&first)?;
    let before = [leased(&container, "eth0")?, leased(&container, "eth1")?];
    podman.proxy.teardown(&first)?;
    podman.proxy.teardown(&second)?;
    let podman = podman.killed_and_started(world)?;
    for (start, order) in [("s1", [0, 1]), ("s2", [1, 0])] {
        let (container, mut configs) = with_two_interfaces(&podman, start)?;
        for config in &mut configs {
            config.container_id.clone_from(&first.container_id);
        }
        for number in order {
            podman.proxy.lease(&configs[number])?;
        }
        let now = [leased(&container, "eth0")?, leased(&container, "eth1")?];
        ensure!(now == before, "{start}: {before:?} became {now:?}");
        for config in &configs {
            podman.proxy.teardown(config)?;
        }
    }
    Ok(())
}

fn a_default_route_of_another_network_stays(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let _server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    // As of a bridge network of netavark's, whose default route has the same metric.
    container.add_veth("eth9", (&podman.lan.host, "veth9"))?;
    podman.lan.host.set_up("veth9")?;
    container.set_up("eth9")?;
    container.add_address("eth9", "10.88.0.7/16".parse()?)?;
    let gateway: IpAddr = "10.88.0.1".parse()?;
    let anywhere: IpNet = "0.0.0.0/0".parse()?;
    let bridge = Route {
        metric: 100,
        ..Route::new(anywhere, container.link("eth9")?.index).via(gateway)
    };
    let netlink = container.netlink()?;
    netlink.add_route(&bridge)?;
    let config = config(&container, "eth0")?;
    let lease = podman.proxy.lease(&config)?;
    ensure!(lease.gateways == [Lan::ADDRESS.to_string()], "{lease:?}");
    let gateways = || crate::scenario::default_gateways(&container);
    let both = gateways()?;
    ensure!(
        both.contains(&gateway) && both.contains(&Lan::ADDRESS.into()),
        "{both:?}"
    );
    podman.proxy.teardown(&config)?;
    ensure!(gateways()? == [gateway]);
    Ok(())
}

fn keys_of_the_parents_file_count(world: &World) -> Result {
    write_file(
        "netavark.eth1",
        &json!({ "hostname": "of-file", "clientId": "name", "priority": 7, "suppress": ["dns"] }),
    )?;
    write_file("lan", &json!({ "hostname": "of-another" }))?;
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    let lease = podman.proxy.lease(&config(&container, "eth0")?)?;
    ensure!(lease.dns_servers.is_empty(), "{lease:?}");
    let discover = server.wait_for(MessageType::Discover, 1, SOON)?;
    let hostname = discover.option(OptionCode::Hostname);
    ensure!(
        hostname == Some(&DhcpOption::Hostname("of-file".into())),
        "{hostname:?}"
    );
    let id = client_id(&discover)?;
    ensure!(id == b"\0c1/netavark.eth1/eth0", "{}", id.escape_ascii());
    let routes = container.routes()?;
    let default = routes.iter().find(|route| route.dst.prefix_len() == 0);
    ensure!(default.is_some_and(|route| route.metric == 7), "{routes:?}");
    Ok(())
}

fn a_bad_file_is_named_in_the_error(world: &World) -> Result {
    write_file("netavark.eth1", &json!({ "onChange": "perhaps" }))?;
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    let failed = podman.proxy.refused(&config(&container, "eth0")?)?;
    ensure!(failed.code == 3, "{failed:?}");
    for part in ["netavark.eth1.json", "onChange"] {
        ensure!(failed.text.contains(part), "{failed:?}");
    }
    ensure!(server.received().is_empty());
    Ok(())
}

/// Writes a network's file, in an `/etc` of the world's own.
fn write_file(network: &str, content: &Value) -> Result {
    const DIRECTORY: &str = "/etc/leasehold/networks.d";
    if fs::metadata(DIRECTORY).is_err() {
        let none = None::<&str>;
        mount(none, "/etc", Some("tmpfs"), MsFlags::empty(), none)?;
        fs::create_dir_all(DIRECTORY)?;
    }
    Ok(fs::write(
        format!("{DIRECTORY}/{network}.json"),
        content.to_string(),
    )?)
}
