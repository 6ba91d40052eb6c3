//! Who can talk to whom, in each mode.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use ipnet::IpNet;
use lab::anyhow::ensure;
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, network, test};

use super::addresses;
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(in_mode_bridge_containers_talk).needs(&[packages::GO_PLUGINS]),
    test!(in_mode_private_they_never_talk).needs(&[packages::GO_PLUGINS]),
    test!(in_mode_vepa_they_talk_through_a_switch_that_sends_frames_back)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(in_mode_passthru_there_is_one).needs(&[packages::GO_PLUGINS]),
    test!(in_mode_source_only_the_listed_are_heard).needs(&[packages::GO_PLUGINS]),
    test!(on_a_macvlan_of_the_hosts_the_parent_is_the_device_below).needs(&[packages::GO_PLUGINS]),
    test!(servers_see_the_containers_own_address).needs(&[packages::GO_PLUGINS]),
];

/// Long enough for ARP and an answer on this cable, many times over.
const A_MOMENT: Duration = Duration::from_millis(400);

/// Two containers, `10.99.0.61` and `.62`, each of which reaches the LAN.
fn two(lan: &Lan, keys: Value) -> Result<[Node; 2]> {
    let containers = [lan.container("c1")?, lan.container("c2")?];
    for (container, address) in containers.iter().zip(["10.99.0.61/24", "10.99.0.62/24"]) {
        attach(lan, container, &keys, address)?;
        container.ping(Lan::ADDRESS.into(), SOON)?;
    }
    Ok(containers)
}

fn attach(lan: &Lan, container: &Node, keys: &Value, address: &str) -> Result {
    let mut keys = keys.clone();
    keys["ipam"] = addresses(&[address]);
    Network::new(&lan.host, conflist(keys)).add(&network::Attachment::new(container))?;
    Ok(())
}

fn in_mode_bridge_containers_talk(_: &World) -> Result {
    let lan = Lan::new()?;
    let [one, two] = two(&lan, json!({ "mode": "bridge" }))?;
    one.ping("10.99.0.62".parse()?, SOON)?;
    two.ping("10.99.0.61".parse()?, SOON)?;
    Ok(())
}

fn in_mode_private_they_never_talk(_: &World) -> Result {
    let lan = Lan::new()?;
    hairpinning_bridge(&lan, true)?;
    let [one, _two] = two(&lan, json!({ "mode": "private" }))?;
    ensure!(one.ping("10.99.0.62".parse()?, A_MOMENT).is_err(), "private, even where frames are sent back");
    Ok(())
}

fn in_mode_vepa_they_talk_through_a_switch_that_sends_frames_back(_: &World) -> Result {
    let lan = Lan::new()?;
    hairpinning_bridge(&lan, false)?;
    let [one, _two] = two(&lan, json!({ "mode": "vepa" }))?;
    ensure!(one.ping("10.99.0.62".parse()?, A_MOMENT).is_err(), "an ordinary switch sends no frame back");
    hairpin(&lan, true)?;
    one.ping("10.99.0.62".parse()?, SOON)?;
    Ok(())
}

fn in_mode_passthru_there_is_one(_: &World) -> Result {
    let lan = Lan::new()?;
    let keys = json!({ "mode": "passthru" });
    let (first, second) = (lan.container("c1")?, lan.container("c2")?);
    attach(&lan, &first, &keys, "10.99.0.61/24")?;
    first.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(attach(&lan, &second, &keys, "10.99.0.62/24").is_err());
    ensure_nothing_left(&second)?;
    first.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn in_mode_source_only_the_listed_are_heard(_: &World) -> Result {
    let lan = Lan::new()?;
    let server = lan.lan.link(Lan::SERVER_LINK)?.mac.map(|mac| mac.to_string());
    let listening = lan.container("c1")?;
    attach(&lan, &listening, &json!({ "mode": "source", "sourceMacs": [server] }), "10.99.0.61/24")?;
    listening.ping(Lan::ADDRESS.into(), SOON)?;
    let deaf = lan.container("c2")?;
    attach(&lan, &deaf, &json!({ "mode": "source", "sourceMacs": ["02:00:00:00:00:99"] }), "10.99.0.62/24")?;
    ensure!(deaf.ping(Lan::ADDRESS.into(), A_MOMENT).is_err());
    Ok(())
}

fn on_a_macvlan_of_the_hosts_the_parent_is_the_device_below(_: &World) -> Result {
    let lan = Lan::new()?;
    let host = lan.host.netlink()?;
    let parent = lan.host.link(Lan::MASTER)?;
    let shim = linknet::NewMacvlan { up: true, ..linknet::NewMacvlan::new("shim", parent.index) };
    host.add_macvlan(&shim, lan.host.netns(), &host)?;
    let container = lan.container("c1")?;
    let keys = json!({ "master": "shim", "ipam": addresses(&["10.99.0.61/24"]) });
    let network = Network::new(&lan.host, conflist(keys));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    ensure!(container.link("eth0")?.parent == Some(parent.index));
    network.check(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

/// Nothing is routed or translated on the way, so nothing need be masqueraded; the key for that means nothing here.
fn servers_see_the_containers_own_address(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    let beyond = Ipv4Addr::new(198, 51, 100, 1); // what the router routes to
    lan.lan.add_address("lo", IpNet::from(IpAddr::V4(beyond)))?;
    let container = lan.container("c1")?;
    let ipam = json!({
        "type": "static",
        "addresses": [{ "address": "10.99.0.61/24", "gateway": Lan::ADDRESS }],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let network = Network::new(&lan.host, conflist(json!({ "ipMasq": true, "ipam": ipam })));
    network.add(&network::Attachment::new(&container))?;
    for server in [Lan::ADDRESS, beyond] {
        let listener = lan.lan.run(|| TcpListener::bind((server, 0)))??;
        let address = listener.local_addr()?;
        let client = container.run(|| TcpStream::connect_timeout(&address, SOON))??;
        let (_, seen) = listener.accept()?;
        ensure!(
            seen == client.local_addr()? && seen.ip() == IpAddr::from([10, 99, 0, 61]),
            "{server} sees {seen}"
        );
    }
    Ok(())
}

/// Puts a bridge between the cable and the LAN's address.
fn hairpinning_bridge(lan: &Lan, on: bool) -> Result {
    let netlink = lan.lan.netlink()?;
    netlink.add_bridge("br0")?;
    let (bridge, port) = (lan.lan.link("br0")?, lan.lan.link(Lan::SERVER_LINK)?);
    netlink.delete_address(port.index, Lan::NET)?;
    netlink.set_master(port.index, Some(bridge.index))?;
    netlink.set_up(bridge.index)?;
    lan.lan.add_address("br0", Lan::NET.into())?;
    hairpin(lan, on)
}

fn hairpin(lan: &Lan, on: bool) -> Result {
    let state = if on { "on" } else { "off" };
    lan.lan.output(&["bridge", "link", "set", "dev", Lan::SERVER_LINK, "hairpin", state])?;
    Ok(())
}
