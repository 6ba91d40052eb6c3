//! `hostAccess` on a VLAN: the host's own macvlan sits on it too, and must not be what keeps it.

use std::time::Duration;

use lab::serde_json::json;
use lab::{Attachment, Lan, Result, Test, World, test, until};

use super::{ID, NAME, Trunk, counted, crowd, fixed};
use crate::guest::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(the_host_reaches_containers_on_a_vlan_by_the_address_of_the_device_below),
    test!(gc_removes_vlan_and_host_macvlan_of_containers_that_vanished),
    test!(the_last_of_many_containers_removes_vlan_and_host_macvlan)
        .within(Duration::from_secs(300)),
];

/// The host's macvlan on the VLAN.
const SHIM: &str = "lh-eth1.228";

/// The containers' prefixes, of which the host has no address on the VLAN.
const ALLOWED: [&str; 2] = ["10.99.0.0/24", "fd99::/64"];

fn trunk() -> Result<Trunk> {
    let trunk = Trunk::new()?;
    for address in ["10.50.0.2/24", "fd50::2/64"] {
        trunk.host().add_address(Lan::MASTER, address.parse()?)?;
    }
    Ok(trunk)
}

fn the_host_reaches_containers_on_a_vlan_by_the_address_of_the_device_below(_: &World) -> Result {
    let trunk = trunk()?;
    let addresses = json!([{ "address": "10.99.0.61/24" }, { "address": "fd99::61/64" }]);
    let ipam = json!({ "type": "static", "addresses": addresses });
    let first = trunk.network(json!({ "vlan": ID, "hostAccess": ALLOWED, "ipam": ipam }));
    let second = trunk
        .network(json!({ "master": NAME, "hostAccess": ALLOWED, "ipam": fixed("10.99.0.62/24") }));
    let (one, attachment) = trunk.attached("c1", &first)?;
    let (two, other) = trunk.attached("c2", &second)?;
    trunk.ensure_host_has(&[NAME, SHIM])?;
    for (container, address, host) in [
        (&one, "10.99.0.61", "10.50.0.2"),
        (&one, "fd99::61", "fd50::2"),
        (&two, "10.99.0.62", "10.50.0.2"),
    ] {
        trunk.host().ping(address.parse()?, SOON)?;
        container.ping(host.parse()?, SOON)?;
    }
    first.check(&attachment)?;
    first.del(&attachment)?;
    trunk.ensure_host_has(&[NAME, SHIM])?;
    trunk.host().ping("10.99.0.62".parse()?, SOON)?;
    second.del(&other)?;
    trunk.ensure_host_has(&[])
}

fn gc_removes_vlan_and_host_macvlan_of_containers_that_vanished(world: &World) -> Result {
    let trunk = trunk()?;
    let addresses = counted(&world.dir().join("addresses"));
    let network = trunk.network(json!({ "vlan": ID, "hostAccess": ALLOWED, "ipam": addresses }));
    let (container, _) = trunk.attached("c1", &network)?;
    container.remove()?;
    trunk.ensure_host_has(&[NAME, SHIM])?;
    // The kernel takes the interface down in its own time.
    until("GC leaves nothing", SOON, || {
        trunk.gc(&[]).is_ok() && trunk.ensure_host_has(&[]).is_ok()
    })
}

fn the_last_of_many_containers_removes_vlan_and_host_macvlan(world: &World) -> Result {
    let trunk = trunk()?;
    let addresses = counted(&world.dir().join("addresses"));
    let keys = json!({ "vlan": ID, "hostAccess": ALLOWED, "ipam": addresses });
    let containers = crowd::containers(&trunk, 32)?;
    crowd::each_at_once(&containers, |container| {
        let network = trunk.network(keys.clone());
        let attachment = Attachment::new(container);
        network.add(&attachment)?;
        network.del(&attachment)
    })?;
    crowd::ensure_nothing_left(&trunk, &containers)
}
