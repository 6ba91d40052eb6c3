//! What is there already: a VLAN of an administrator's, or something else in its place.

use lab::anyhow::ensure;
use lab::serde_json::json;
use lab::{Lan, Result, Test, World, test};

use super::{ID, NAME, Trunk, fixed};
use crate::guest::{SOON, ip};

pub(super) const TESTS: &[Test] = &[
    test!(an_administrators_is_used_under_any_name_and_stays),
    test!(an_administrators_that_is_down_is_left_so),
    test!(one_that_an_administrator_takes_over_stays),
    test!(another_kind_of_link_of_its_name_is_named),
    test!(another_vlan_of_its_name_is_named),
    test!(a_vlan_in_another_namespace_is_in_the_way),
    test!(a_parent_that_is_down_can_have_none),
    test!(loopback_can_have_none),
    test!(a_failed_ipam_leaves_none),
    test!(one_that_is_used_otherwise_stays),
];

fn an_administrators_is_used_under_any_name_and_stays(_: &World) -> Result {
    for name in ["upstairs", NAME] {
        let trunk = Trunk::new()?;
        let made = trunk.administrators(name, ID)?;
        let network = trunk.network(json!({ "vlan": ID, "ipam": fixed("10.99.0.61/24") }));
        let (container, attachment) = trunk.attached("c1", &network)?;
        ensure!(
            container.link("eth0")?.parent == Some(made.index),
            "{:?}",
            container.link("eth0")?
        );
        trunk.ensure_host_has(&[name])?;
        container.ping(Lan::ADDRESS.into(), SOON)?;
        network.check(&attachment)?;
        network.del(&attachment)?;
        trunk.gc(&[])?;
        let left = trunk.host().link(name)?;
        ensure!(
            (left.index, left.alias) == (made.index, None),
            "not as it was: {name}"
        );
        container.remove()?;
        for node in [trunk.lan.host, trunk.lan.lan] {
            node.remove()?;
        }
    }
    Ok(())
}

fn an_administrators_that_is_down_is_left_so(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let made = trunk.administrators("upstairs", ID)?;
    trunk.host().netlink()?.set_down(made.index)?;
    let error = trunk.refusal(json!({ "vlan": ID, "ipam": { "type": "dhcp" } }))?;
    ensure!(
        error.code == 11 && error.msg.contains("upstairs is down"),
        "{error:?}"
    );
    Ok(())
}

fn one_that_an_administrator_takes_over_stays(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID }));
    let (_, attachment) = trunk.attached("c1", &network)?;
    trunk
        .host()
        .output(&["ip", "link", "set", NAME, "alias", ""])?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    trunk.gc(&[])?;
    trunk.ensure_host_has(&[NAME])
}

fn another_kind_of_link_of_its_name_is_named(_: &World) -> Result {
    let trunk = Trunk::new()?;
    ip(trunk.host(), &format!("link add {NAME} type dummy"))?;
    let error = trunk.refusal(json!({ "vlan": ID }))?;
    ensure!(
        error.code == 7 && error.msg.contains("eth1.228 exists and is a dummy"),
        "{error:?}"
    );
    Ok(())
}

fn another_vlan_of_its_name_is_named(_: &World) -> Result {
    let trunk = Trunk::new()?;
    trunk.administrators(NAME, 5)?;
    let error = trunk.refusal(json!({ "vlan": ID }))?;
    ensure!(
        error.code == 7 && error.msg.contains("eth1.228 exists and is VLAN 5"),
        "{error:?}"
    );

    // The same number, on another device.
    ip(trunk.host(), "link add eth2 type dummy")?;
    ip(
        trunk.host(),
        "link add link eth2 name eth1.7 type vlan id 7",
    )?;
    let error = trunk.refusal(json!({ "vlan": 7 }))?;
    ensure!(
        error.code == 7
            && error
                .msg
                .contains("eth1.7 exists and is VLAN 7 of another device"),
        "{error:?}"
    );
    // By its own name it is a parent as any other.
    ip(trunk.host(), "link set eth2 up")?;
    trunk.attached("c1", &trunk.network(json!({ "master": "eth1.7" })))?;
    Ok(())
}

fn a_vlan_in_another_namespace_is_in_the_way(_: &World) -> Result {
    let trunk = Trunk::new()?;
    trunk.administrators("moved", ID)?;
    ip(trunk.host(), "link set moved netns lan")?;
    let error = trunk.refusal(json!({ "vlan": ID }))?;
    ensure!(
        error.code == 7 && error.msg.contains("another network namespace"),
        "{error:?}"
    );
    Ok(())
}

fn a_parent_that_is_down_can_have_none(_: &World) -> Result {
    let trunk = Trunk::new()?;
    trunk
        .host()
        .netlink()?
        .set_down(trunk.host().link(Lan::MASTER)?.index)?;
    for keys in [json!({ "vlan": ID }), json!({ "master": NAME })] {
        let error = trunk.refusal(keys)?;
        ensure!(
            error.code == 11 && error.msg.contains("eth1 is down (ip link set eth1 up)"),
            "{error:?}"
        );
    }
    Ok(())
}

fn loopback_can_have_none(_: &World) -> Result {
    let trunk = Trunk::new()?;
    for keys in [
        json!({ "master": "lo", "vlan": ID }),
        json!({ "master": "lo.228" }),
    ] {
        let error = trunk.refusal(keys)?;
        ensure!(
            error.code == 7 && error.msg.contains("lo is the loopback device"),
            "{error:?}"
        );
    }
    Ok(())
}

fn a_failed_ipam_leaves_none(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let error =
        trunk.refusal(json!({ "vlan": ID, "ipam": { "type": "static", "addresses": [] } }))?;
    ensure!(error.msg.contains("gave no address"), "{error:?}");
    trunk.ensure_host_has(&[])
}

fn one_that_is_used_otherwise_stays(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID }));
    let (_, attachment) = trunk.attached("c1", &network)?;
    trunk.host().add_address(NAME, "192.0.2.7/24".parse()?)?;
    network.del(&attachment)?;
    trunk.ensure_host_has(&[NAME])?;
    trunk.gc(&[])?;
    trunk.ensure_host_has(&[NAME])?;
    // And no longer.
    let host = trunk.host().netlink()?;
    host.delete_address(
        trunk.host().link(NAME)?.index,
        "192.0.2.7/24".parse::<ipnet::IpNet>()?,
    )?;
    trunk.gc(&[])?;
    trunk.ensure_host_has(&[])
}
