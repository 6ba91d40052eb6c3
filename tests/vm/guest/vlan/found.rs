//! Links that exist already: an administrator's VLAN, or something else of that name.

use lab::anyhow::ensure;
use lab::serde_json::json;
use lab::{Lan, Result, Test, World, test};

use super::{ID, NAME, Trunk, fixed};
use crate::guest::{SOON, ip};

pub(super) const TESTS: &[Test] = &[
    test!(an_administrators_vlan_is_used_under_any_name_and_kept),
    test!(an_administrators_vlan_that_is_down_is_left_down),
    test!(a_vlan_that_an_administrator_takes_over_is_kept),
    test!(a_link_of_another_kind_with_the_vlans_name_is_reported),
    test!(another_vlan_with_the_vlans_name_is_reported),
    test!(a_vlan_in_another_namespace_is_reported),
    test!(no_vlan_is_made_on_a_parent_that_is_down),
    test!(no_vlan_is_made_on_loopback),
    test!(a_failed_ipam_leaves_no_vlan),
    test!(a_vlan_that_has_an_address_is_kept),
];

fn an_administrators_vlan_is_used_under_any_name_and_kept(_: &World) -> Result {
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

fn an_administrators_vlan_that_is_down_is_left_down(_: &World) -> Result {
    let trunk = Trunk::new()?;
    trunk.administrators("upstairs", ID)?;
    trunk.host().set_down("upstairs")?;
    let error = trunk.refusal(json!({ "vlan": ID, "ipam": { "type": "dhcp" } }))?;
    ensure!(
        error.code == 11 && error.msg.contains("upstairs is down"),
        "{error:?}"
    );
    Ok(())
}

fn a_vlan_that_an_administrator_takes_over_is_kept(_: &World) -> Result {
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

fn a_link_of_another_kind_with_the_vlans_name_is_reported(_: &World) -> Result {
    let trunk = Trunk::new()?;
    ip(trunk.host(), &format!("link add {NAME} type dummy"))?;
    let error = trunk.refusal(json!({ "vlan": ID }))?;
    ensure!(
        error.code == 7 && error.msg.contains("eth1.228 exists and is a dummy"),
        "{error:?}"
    );
    Ok(())
}

fn another_vlan_with_the_vlans_name_is_reported(_: &World) -> Result {
    let trunk = Trunk::new()?;
    trunk.administrators(NAME, 5)?;
    let error = trunk.refusal(json!({ "vlan": ID }))?;
    ensure!(
        error.code == 7 && error.msg.contains("eth1.228 exists and is VLAN 5"),
        "{error:?}"
    );

    // A VLAN with this number, on another device.
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

fn a_vlan_in_another_namespace_is_reported(_: &World) -> Result {
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

fn no_vlan_is_made_on_a_parent_that_is_down(_: &World) -> Result {
    let trunk = Trunk::new()?;
    trunk.host().set_down(Lan::MASTER)?;
    for keys in [json!({ "vlan": ID }), json!({ "master": NAME })] {
        let error = trunk.refusal(keys)?;
        ensure!(
            error.code == 11 && error.msg.contains("eth1 is down (ip link set eth1 up)"),
            "{error:?}"
        );
    }
    Ok(())
}

fn no_vlan_is_made_on_loopback(_: &World) -> Result {
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

fn a_failed_ipam_leaves_no_vlan(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let error =
        trunk.refusal(json!({ "vlan": ID, "ipam": { "type": "static", "addresses": [] } }))?;
    ensure!(error.msg.contains("assigned no address"), "{error:?}");
    trunk.ensure_host_has(&[])
}

fn a_vlan_that_has_an_address_is_kept(_: &World) -> Result {
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
