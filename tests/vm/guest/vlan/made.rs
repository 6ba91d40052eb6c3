//! How a VLAN is made.

use std::fs;
use std::net::Ipv4Addr;

use attachment::{HostLock, OwnerMark};
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{
    Attachment, Daemon, DhcpServer, Lan, Network, Result, Test, World, deadline, test, until,
};
use linknet::{NewMacvlan, Vlan};

use super::{ID, NAME, Trunk, fixed};
use crate::guest::{SOON, conflist};
use crate::macvlan::script;

pub(super) const TESTS: &[Test] = &[
    test!(a_new_vlan_is_up_has_its_parents_mtu_and_carries_traffic),
    test!(both_ways_to_configure_a_vlan_share_it),
    test!(a_list_of_masters_may_name_a_vlan),
    test!(a_lease_over_a_vlan_is_released_before_the_vlan_is_removed),
    test!(passthru_takes_a_vlan_for_one_container),
    test!(a_too_long_vlan_name_is_shortened),
    test!(a_parent_inside_the_container_has_its_vlan_there),
    test!(a_vlan_follows_its_parent_to_a_larger_mtu),
    test!(a_vlan_that_was_set_down_is_set_up_again),
    test!(the_hosts_lock_is_free_while_ipam_runs),
];

/// IPAM's DEL of what a killed ADD has left may take as long as its daemon does.
fn the_hosts_lock_is_free_while_ipam_runs(world: &World) -> Result {
    let trunk = Trunk::new()?;
    let container = trunk.lan.container("c1")?;
    let mark = OwnerMark::new(&cni::Attachment::new("c1", "lan", "eth0")?);
    let left_behind = NewMacvlan {
        group: mark.group,
        ..NewMacvlan::new("eth0", trunk.host().link(Lan::MASTER)?.index)
    };
    let host = trunk.host().netlink()?;
    host.add_macvlan(&left_behind, container.netns(), &container.netlink()?)?;
    let (started, go_on) = (world.dir().join("started"), world.dir().join("go-on"));
    let body = format!(
        "cat >/dev/null\n\
         [ $CNI_COMMAND = DEL ] || {{ echo '{}'; exit; }}\n\
         : >{}\n\
         until [ -e {} ]; do sleep 0.1; done\n",
        json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.99.0.60/24" }] }),
        started.display(),
        go_on.display(),
    );
    let path = script(world, "slow", &body)?;
    let conflist = conflist(json!({ "vlan": ID, "ipam": { "type": "slow" } }));
    let network = Network::with_path(trunk.host(), conflist, path);
    let attachment = Attachment::new(&container);
    let add = network
        .prepare("ADD", 0, &attachment, None)?
        .start(trunk.host())?;
    until("IPAM's DEL runs", SOON, || started.exists())?;
    HostLock::acquire_within(deadline(SOON))?;
    fs::write(&go_on, "")?;
    add.finish()?.success()?;
    network.del(&attachment)
}

fn a_new_vlan_is_up_has_its_parents_mtu_and_carries_traffic(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let cable = trunk.host().link(Lan::MASTER)?;
    trunk.host().netlink()?.set_mtu(cable.index, 1400)?;
    let network = trunk.network(json!({ "vlan": ID, "ipam": fixed("10.99.0.61/24") }));
    let (container, attachment) = trunk.attached("c1", &network)?;

    let vlan = trunk.host().link(NAME)?;
    ensure!(
        vlan.vlan
            == Some(Vlan {
                id: ID,
                protocol: Vlan::C_TAG
            }),
        "{vlan:?}"
    );
    ensure!(
        vlan.parent == Some(cable.index) && vlan.up && vlan.mtu == 1400,
        "{vlan:?}"
    );
    ensure!(
        vlan.alias.as_deref() == Some("leasehold:vlan") && vlan.group == 0,
        "{vlan:?}"
    );
    ensure!(
        container.link("eth0")?.parent == Some(vlan.index),
        "{:?}",
        container.link("eth0")?
    );
    ensure!(
        container.link("eth0")?.mtu == 1400,
        "{:?}",
        container.link("eth0")?
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    trunk.modern(json!({ "vlan": ID })).status()?;

    network.del(&attachment)?;
    trunk.ensure_host_has(&[])
}

fn both_ways_to_configure_a_vlan_share_it(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let by_key = trunk.network(json!({ "vlan": ID, "ipam": fixed("10.99.0.61/24") }));
    let by_name = trunk.network(json!({ "master": NAME, "ipam": fixed("10.99.0.62/24") }));
    for [(first, one), (second, two)] in [
        [(&by_key, "c1"), (&by_name, "c2")],
        [(&by_name, "c3"), (&by_key, "c4")],
    ] {
        let (container, first_attachment) = trunk.attached(one, first)?;
        let (_, second_attachment) = trunk.attached(two, second)?;
        trunk.ensure_host_has(&[NAME])?;
        let other = if one == "c1" {
            Ipv4Addr::new(10, 99, 0, 62)
        } else {
            Ipv4Addr::new(10, 99, 0, 61)
        };
        container.ping(other.into(), SOON)?;
        first.check(&first_attachment)?;
        second.check(&second_attachment)?;
        first.del(&first_attachment)?;
        trunk.ensure_host_has(&[NAME])?;
        second.check(&second_attachment)?;
        second.del(&second_attachment)?;
        trunk.ensure_host_has(&[])?;
    }
    Ok(())
}

fn a_list_of_masters_may_name_a_vlan(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "master": ["enp3s0.228", NAME, Lan::MASTER] }));
    let (_, attachment) = trunk.attached("c1", &network)?;
    trunk.ensure_host_has(&[NAME])?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    trunk.ensure_host_has(&[])
}

fn a_lease_over_a_vlan_is_released_before_the_vlan_is_removed(world: &World) -> Result {
    let trunk = Trunk::new()?;
    let server = DhcpServer::start_on(&trunk.lan.lan, Trunk::SERVER_LINK, Settings::default())?;
    let daemon = Daemon::start(world, trunk.host())?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": daemon.socket() });
    let network = trunk.network(json!({ "vlan": ID, "ipam": ipam }));
    let (container, attachment) = trunk.attached("c1", &network)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    trunk.ensure_host_has(&[])?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

fn passthru_takes_a_vlan_for_one_container(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network =
        trunk.network(json!({ "vlan": ID, "mode": "passthru", "ipam": fixed("10.99.0.61/24") }));
    let (container, attachment) = trunk.attached("c1", &network)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    let error = trunk.refusal(json!({ "vlan": ID }))?;
    ensure!(
        error.code == 7 && error.msg.contains("eth0 in /run/netns/c1"),
        "{error:?}"
    );
    network.check(&attachment)?;
    network.del(&attachment)?;
    trunk.ensure_host_has(&[])
}

fn a_too_long_vlan_name_is_shortened(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let long = "enx525400000001";
    trunk.host().set_down(Lan::MASTER)?; // to be renamed before Linux 6.2
    trunk.host().rename(Lan::MASTER, long)?;
    trunk.host().set_up(long)?;
    let network =
        trunk.network(json!({ "master": long, "vlan": ID, "ipam": fixed("10.99.0.61/24") }));
    let (container, attachment) = trunk.attached("c1", &network)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    let vlan = trunk
        .host()
        .links()?
        .into_iter()
        .find(|link| link.vlan.is_some())
        .context("a VLAN")?;
    ensure!(
        vlan.name.len() <= 15 && vlan.name.ends_with(".228"),
        "{vlan:?}"
    );
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure!(
        trunk.host().links()?.len() == 2,
        "{:?}",
        trunk.host().links()?
    );
    Ok(())
}

fn a_parent_inside_the_container_has_its_vlan_there(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let container = trunk.lan.container("c1")?;
    container.add_veth("trunk", (&container, "far"))?;
    for end in ["trunk", "far"] {
        container.set_up(end)?;
    }
    let network = trunk.network(json!({ "master": "trunk", "vlan": 7, "linkInContainer": true }));
    let attachment = Attachment::new(&container);
    let names = || -> Result<Vec<String>> {
        Ok(container
            .links()?
            .into_iter()
            .map(|link| link.name)
            .collect())
    };
    let before = names()?;
    network.add(&attachment)?;
    ensure!(
        container.link("trunk.7")?.up,
        "{:?}",
        container.link("trunk.7")?
    );
    trunk.ensure_host_has(&[])?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure!(names()? == before, "{:?}", names()?);
    Ok(())
}

fn a_vlan_follows_its_parent_to_a_larger_mtu(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID }));
    trunk.attached("c1", &network)?;
    let cable = trunk.host().link(Lan::MASTER)?.index;
    trunk.host().netlink()?.set_mtu(cable, 9000)?;
    let large = trunk.network(json!({ "vlan": ID, "mtu": 9000 }));
    let (container, attachment) = trunk.attached("c2", &large)?;
    ensure!(container.link("eth0")?.mtu == 9000 && trunk.host().link(NAME)?.mtu == 9000);
    large.check(&attachment)?;

    let error = trunk.refusal(json!({ "vlan": ID, "mtu": 9001 }))?;
    ensure!(
        error.code == 7 && error.msg.contains("9001 is more than the 9000 of eth1"),
        "{error:?}"
    );
    Ok(())
}

fn a_vlan_that_was_set_down_is_set_up_again(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID, "ipam": fixed("10.99.0.61/24") }));
    trunk.attached("c1", &trunk.network(json!({ "vlan": ID })))?;
    trunk.host().set_down(NAME)?;
    let (container, _) = trunk.attached("c2", &network)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}
