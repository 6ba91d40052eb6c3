//! Parents of every kind that this kernel has: what the LAN sees through them, and what becomes of
//! them.

use std::time::Duration;

use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, network, test, until};
use linknet::NewMacvlan;

use super::{addresses, given, plug, script};
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(a_bridge_reaches_what_is_behind_its_ports).needs(&[packages::GO_PLUGINS]),
    test!(for_a_macvlan_as_master_the_parent_is_the_device_below).needs(&[packages::GO_PLUGINS]),
    test!(a_parent_inside_the_container_reaches_its_own_lan).needs(&[packages::GO_PLUGINS]),
    test!(a_passthru_container_takes_its_parents_traffic_until_del).needs(&[packages::GO_PLUGINS]),
    test!(promiscuity_is_restored_by_del),
    test!(promiscuity_is_restored_after_a_failed_add),
    test!(promiscuity_is_restored_after_a_killed_add),
    test!(promiscuity_is_restored_when_the_container_vanishes),
    test!(promiscuity_set_by_the_administrator_is_kept).needs(&[packages::IPROUTE2]),
    test!(a_smaller_mtu_of_the_parent_applies_to_its_macvlans_and_check_accepts_that),
    test!(a_larger_mtu_of_the_parent_leaves_its_macvlans_as_they_are),
];

/// ADD and CHECK on this parent, a ping, and DEL.
fn ensure_joins(lan: &Lan, container: &Node, master: &str) -> Result {
    let keys = json!({ "master": master, "ipam": addresses(&["10.99.0.61/24"]) });
    let network = Network::new(&lan.host, conflist(keys));
    let attachment = network::Attachment::new(container);
    network.add(&attachment)?;
    ensure!(
        container.link("eth0")?.parent == Some(lan.host.link(real(master))?.index),
        "{master}"
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(container)
}

/// The device that the kernel puts a macvlan on.
fn real(master: &str) -> &str {
    if master == "shim" {
        Lan::MASTER
    } else {
        master
    }
}

/// A bridge on the host with the cable as its port.
fn bridge(lan: &Lan) -> Result {
    lan.host.add_bridge("br0")?;
    lan.host.add_bridge_port("br0", Lan::MASTER)?;
    lan.host.set_up("br0")
}

fn a_bridge_reaches_what_is_behind_its_ports(_: &World) -> Result {
    let lan = Lan::new()?;
    bridge(&lan)?;
    ensure_joins(&lan, &lan.container("c1")?, "br0")
}

fn for_a_macvlan_as_master_the_parent_is_the_device_below(_: &World) -> Result {
    let lan = Lan::new()?;
    let host = lan.host.netlink()?;
    let parent = lan.host.link(Lan::MASTER)?;
    let shim = NewMacvlan {
        up: true,
        ..NewMacvlan::new("shim", parent.index)
    };
    host.add_macvlan(&shim, lan.host.netns(), &host)?;
    ensure_joins(&lan, &lan.container("c1")?, "shim")?;
    ensure!(
        lan.host.find_link("shim")?.is_some(),
        "it is the host's, and stays"
    );
    Ok(())
}

fn a_parent_inside_the_container_reaches_its_own_lan(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    plug(&lan, &container, "up0")?;
    lan.lan.add_address("c1-up0", "10.98.0.1/24".parse()?)?;
    let keys =
        json!({ "master": "up0", "linkInContainer": true, "ipam": addresses(&["10.98.0.61/24"]) });
    let network = Network::new(&lan.host, conflist(keys));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    container.ping("10.98.0.1".parse()?, SOON)?;
    network.check(&attachment)?;
    ensure!(
        container.link("up0")?.promiscuity == 1,
        "{:?}",
        container.link("up0")?
    );
    network.del(&attachment)?;
    ensure!(container.find_link("eth0")?.is_none() && container.link("up0")?.promiscuity == 0);
    Ok(())
}

/// The host is off the cable meanwhile, and is asked for its MAC with another one.
fn a_passthru_container_takes_its_parents_traffic_until_del(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host
        .add_address(Lan::MASTER, IpNet::new("10.99.0.2".parse()?, 24)?)?;
    lan.host.ping(Lan::ADDRESS.into(), SOON)?;
    let before = lan.host.link(Lan::MASTER)?;
    let container = lan.container("c1")?;
    let keys = json!({ "mode": "passthru", "mac": "02:00:00:00:00:17", "ipam": addresses(&["10.99.0.61/24"]) });
    let network = Network::new(&lan.host, conflist(keys));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(lan.host.link(Lan::MASTER)?.mac == container.link("eth0")?.mac);
    ensure!(
        !lan.host
            .is_answered(Lan::ADDRESS.into(), Duration::from_millis(400))?
    );
    network.del(&attachment)?;
    until("the parent is as before", SOON, || {
        lan.host.link(Lan::MASTER).is_ok_and(|now| now == before)
    })?;
    lan.host.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

/// How many want the host's links to be promiscuous, by name.
fn promiscuity(lan: &Lan) -> Result<Vec<(String, u32, bool)>> {
    let links = lan.host.links()?;
    Ok(links
        .into_iter()
        .map(|link| (link.name, link.promiscuity, link.promiscuous))
        .collect())
}

/// The kernel releases a parent a moment after the macvlan is gone.
fn ensure_as_before(lan: &Lan, before: &[(String, u32, bool)]) -> Result {
    until("promiscuity is as before", SOON, || {
        promiscuity(lan).is_ok_and(|now| now == before)
    })
    .with_context(|| format!("{before:?} before, {:?} now", promiscuity(lan)))
}

/// veth and bridge filter no unicast: for a second MAC the kernel has them take everything.
/// Passthru asks for that anywhere, unless told not to.
fn promiscuity_is_restored_by_del(_: &World) -> Result {
    let lan = Lan::new()?;
    let cable = promiscuity(&lan)?;
    let modes = [
        (json!({ "mode": "bridge" }), 1),
        (json!({ "mode": "private" }), 1),
        (json!({ "mode": "vepa" }), 1),
        (json!({ "mode": "source" }), 1),
        (json!({ "mode": "passthru" }), 1),
        (json!({ "mode": "passthru", "nopromisc": true }), 0),
    ];
    for (keys, wanted) in &modes {
        ensure_promiscuous(&lan, Lan::MASTER, keys, *wanted).with_context(|| keys.to_string())?;
        ensure_as_before(&lan, &cable)?;
    }
    bridge(&lan)?;
    let bridged = promiscuity(&lan)?;
    for (keys, wanted) in &modes {
        ensure_promiscuous(&lan, "br0", keys, *wanted)
            .with_context(|| format!("bridge, {keys}"))?;
        ensure_as_before(&lan, &bridged)?;
    }
    Ok(())
}

/// One container, and a second where there may be one: the driver is asked once for both.
fn ensure_promiscuous(lan: &Lan, master: &str, keys: &Value, wanted: u32) -> Result {
    let mut keys = keys.clone();
    keys["master"] = json!(master);
    let before = lan.host.link(master)?.promiscuity;
    let network = Network::new(&lan.host, conflist(keys.clone()));
    let exclusive = keys["mode"] == "passthru";
    let containers: Vec<Node> = ["c1", "c2"][..if exclusive { 1 } else { 2 }]
        .iter()
        .map(|name| lan.container(name))
        .collect::<Result<_>>()?;
    for container in &containers {
        network.add(&network::Attachment::new(container))?;
        let now = lan.host.link(master)?.promiscuity;
        ensure!(
            now == before + wanted,
            "{now} want {master} to be promiscuous, {before} did before"
        );
    }
    for container in containers {
        network.del(&network::Attachment::new(&container))?;
        container.remove()?;
    }
    Ok(())
}

fn promiscuity_is_restored_after_a_failed_add(world: &World) -> Result {
    let lan = Lan::new()?;
    let before = promiscuity(&lan)?;
    let path = script(
        world,
        "broken",
        "cat >/dev/null\necho '{\"code\":123,\"msg\":\"no\"}'\nexit 1\n",
    )?;
    for mode in ["bridge", "passthru"] {
        let container = lan.container(mode)?;
        let keys = json!({ "mode": mode, "ipam": { "type": "broken" } });
        let network = Network::with_path(&lan.host, conflist(keys), path.clone());
        let error = network::cni_error(network.add(&network::Attachment::new(&container)));
        ensure!(error.code == 123, "{error}");
        ensure_nothing_left(&container)?;
        ensure_as_before(&lan, &before)?;
    }
    Ok(())
}

fn promiscuity_is_restored_after_a_killed_add(world: &World) -> Result {
    let lan = Lan::new()?;
    let before = promiscuity(&lan)?;
    let path = script(
        world,
        "slow",
        "cat >/dev/null\n[ $CNI_COMMAND != ADD ] || exec sleep 1000\n",
    )?;
    for mode in ["bridge", "passthru"] {
        let container = lan.container(mode)?;
        let keys = json!({ "mode": mode, "ipam": { "type": "slow" } });
        let network = Network::with_path(&lan.host, conflist(keys), path.clone());
        let attachment = network::Attachment::new(&container);
        let add = network
            .prepare("ADD", 0, &attachment, None)?
            .start(&lan.host)?;
        until("the interface is there", SOON, || {
            container.find_link("eth0").is_ok_and(|link| link.is_some())
        })?;
        add.kill()?;
        ensure!(promiscuity(&lan)? != before, "half an ADD is there");
        network.del(&attachment)?;
        ensure_nothing_left(&container)?;
        ensure_as_before(&lan, &before)?;
    }
    Ok(())
}

fn promiscuity_is_restored_when_the_container_vanishes(_: &World) -> Result {
    let lan = Lan::new()?;
    let before = promiscuity(&lan)?;
    for mode in ["bridge", "passthru"] {
        let container = lan.container(mode)?;
        let network = Network::new(&lan.host, conflist(json!({ "mode": mode })));
        network.add(&network::Attachment::new(&container))?;
        ensure!(promiscuity(&lan)? != before);
        container.remove()?;
        ensure_as_before(&lan, &before)?;
    }
    Ok(())
}

fn promiscuity_set_by_the_administrator_is_kept(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host
        .output(&["ip", "link", "set", "dev", Lan::MASTER, "promisc", "on"])?;
    let before = promiscuity(&lan)?;
    ensure!(
        before.contains(&(Lan::MASTER.to_owned(), 1, true)),
        "{before:?}"
    );
    for keys in [json!({ "mode": "bridge" }), json!({ "mode": "passthru" })] {
        ensure_promiscuous(&lan, Lan::MASTER, &keys, 1)?;
        ensure_as_before(&lan, &before)?;
    }
    Ok(())
}

/// A network whose results tell an MTU.
fn telling<'a>(world: &World, lan: &'a Lan, keys: Value) -> Result<Network<'a>> {
    let mut list = conflist(keys);
    list["cniVersion"] = json!("1.1.0");
    given(
        world,
        lan,
        list,
        &json!({ "ips": [{ "address": "10.99.0.61/24" }] }),
    )
}

fn a_smaller_mtu_of_the_parent_applies_to_its_macvlans_and_check_accepts_that(
    world: &World,
) -> Result {
    let lan = Lan::new()?;
    let parent = lan.host.link(Lan::MASTER)?.index;
    let resize = |mtu| -> Result { Ok(lan.host.netlink()?.set_mtu(parent, mtu)?) };
    let (follows, configured) = (lan.container("c1")?, lan.container("c2")?);
    let network = telling(world, &lan, json!({}))?;
    let attachment = network::Attachment::new(&follows);
    let result = network.add(&attachment)?;
    ensure!(result["interfaces"][0]["mtu"] == 1500, "{result}");
    let with_mtu = telling(world, &lan, json!({ "mtu": 1400 }))?;
    let its_attachment = network::Attachment::new(&configured);
    with_mtu.add(&its_attachment)?;

    resize(1400)?;
    ensure!(follows.link("eth0")?.mtu == 1400 && configured.link("eth0")?.mtu == 1400);
    network.check(&attachment)?;
    with_mtu.check(&its_attachment)?;

    resize(1300)?;
    ensure!(follows.link("eth0")?.mtu == 1300 && configured.link("eth0")?.mtu == 1300);
    network.check(&attachment)?;
    with_mtu.check(&its_attachment)?;

    // It does not grow again by itself.
    resize(1500)?;
    ensure!(follows.link("eth0")?.mtu == 1300);
    network.check(&attachment)?;
    Ok(())
}

fn a_larger_mtu_of_the_parent_leaves_its_macvlans_as_they_are(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = telling(world, &lan, json!({}))?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    lan.host
        .netlink()?
        .set_mtu(lan.host.link(Lan::MASTER)?.index, 9000)?;
    ensure!(container.link("eth0")?.mtu == 1500);
    network.check(&attachment)?;
    // As an administrator may have it follow.
    container
        .netlink()?
        .set_mtu(container.link("eth0")?.index, 9000)?;
    network.check(&attachment)
}
