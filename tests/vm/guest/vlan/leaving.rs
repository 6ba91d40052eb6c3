//! When a VLAN goes: with its last container, however that goes.

use std::fs;

use lab::anyhow::ensure;
use lab::serde_json::json;
use lab::{Attachment, Lan, Result, Test, World, test, until};

use super::{ID, NAME, Trunk, counted};
use crate::guest::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(a_vlan_is_removed_with_its_last_container_and_not_before),
    test!(del_removes_the_vlan_of_a_container_whose_netns_is_gone),
    test!(del_can_be_repeated),
    test!(del_removes_the_vlan_without_any_record),
    test!(gc_removes_only_unused_vlans),
    test!(a_container_in_an_unnamed_netns_keeps_the_vlan),
    test!(del_succeeds_when_the_vlan_is_gone),
];

fn a_vlan_is_removed_with_its_last_container_and_not_before(world: &World) -> Result {
    let trunk = Trunk::new()?;
    let network =
        trunk.network(json!({ "vlan": ID, "ipam": counted(&world.dir().join("addresses")) }));
    let mut there = ["c1", "c2", "c3"]
        .map(|name| trunk.attached(name, &network))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    while let Some((container, attachment)) = there.pop() {
        trunk.ensure_host_has(&[NAME])?;
        container.ping(Lan::ADDRESS.into(), SOON)?;
        network.del(&attachment)?;
    }
    trunk.ensure_host_has(&[])
}

/// As runtimes do: the container ends, its netns with it, and then DEL is called.
fn del_removes_the_vlan_of_a_container_whose_netns_is_gone(world: &World) -> Result {
    let trunk = Trunk::new()?;
    let addresses = counted(&world.dir().join("addresses"));
    for keys in [
        json!({ "vlan": ID, "ipam": addresses }),
        json!({ "master": NAME, "ipam": addresses }),
    ] {
        let network = trunk.network(keys);
        let (container, attachment) = trunk.attached("c1", &network)?;
        let (other, others) = trunk.attached("c2", &network)?;
        container.remove()?;
        network.del(&attachment)?;
        trunk.ensure_host_has(&[NAME])?;
        other.remove()?;
        // Some runtimes do not even say any more which one it was.
        network.del(&Attachment {
            netns: None,
            ..others
        })?;
        trunk.ensure_host_has(&[])?;
    }
    Ok(())
}

fn del_can_be_repeated(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID }));
    let (container, attachment) = trunk.attached("c1", &network)?;
    for _ in 0..2 {
        network.del(&attachment)?;
        trunk.ensure_host_has(&[])?;
    }
    container.remove()?;
    network.del(&attachment)?;
    // Nor does it take a VLAN away that has come since.
    let (_, second) = trunk.attached("c2", &network)?;
    network.del(&attachment)?;
    trunk.ensure_host_has(&[NAME])?;
    network.check(&second)
}

fn del_removes_the_vlan_without_any_record(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID }));
    let (_, attachment) = trunk.attached("c1", &network)?;
    for directory in ["/run/cni", "/var/lib/cni"] {
        if let Err(error) = fs::remove_dir_all(directory) {
            ensure!(
                error.kind() == std::io::ErrorKind::NotFound,
                "{directory}: {error}"
            );
        }
    }
    // A runtime that has lost its cache too.
    trunk.network(json!({ "vlan": ID })).del(&attachment)?;
    trunk.ensure_host_has(&[])
}

fn gc_removes_only_unused_vlans(_: &World) -> Result {
    let trunk = Trunk::new()?;
    trunk.administrators("downstairs", 5)?;
    let network = trunk.network(json!({ "vlan": ID }));
    let other = trunk.network(json!({ "vlan": 7 }));
    let (gone, _) = trunk.attached("c1", &network)?;
    let (_, kept) = trunk.attached("c2", &other)?;
    gone.remove()?;
    // Until the kernel has taken the namespace down, the VLAN may be in use.
    until("GC has removed it", SOON, || {
        trunk.gc(&[&kept]).is_ok()
            && trunk
                .host()
                .find_link(NAME)
                .is_ok_and(|link| link.is_none())
    })?;
    trunk.ensure_host_has(&["downstairs", "eth1.7"])?;
    other.check(&kept)?;
    // An interface that GC itself removes was the last.
    trunk.gc(&[])?;
    trunk.ensure_host_has(&["downstairs"])
}

fn a_container_in_an_unnamed_netns_keeps_the_vlan(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID }));
    let (hidden, _) = trunk.attached("c1", &network)?;
    let alive = hidden.netns().try_clone()?;
    hidden.remove()?;
    let (_, attachment) = trunk.attached("c2", &network)?;
    network.del(&attachment)?;
    trunk.gc(&[])?;
    trunk.ensure_host_has(&[NAME])?;
    drop(alive);
    until("GC has removed it", SOON, || {
        trunk.gc(&[]).is_ok()
            && trunk
                .host()
                .find_link(NAME)
                .is_ok_and(|link| link.is_none())
    })
}

fn del_succeeds_when_the_vlan_is_gone(_: &World) -> Result {
    let trunk = Trunk::new()?;
    let network = trunk.network(json!({ "vlan": ID }));
    let host = trunk.host().netlink()?;
    let (_, attachment) = trunk.attached("c1", &network)?;
    host.delete_link(trunk.host().link(NAME)?.index)?;
    network.del(&attachment)?;
    trunk.ensure_host_has(&[])?;
    let (_, attachment) = trunk.attached("c2", &network)?;
    host.delete_link(trunk.host().link(Lan::MASTER)?.index)?;
    network.del(&attachment)
}
