//! Networks whose addresses Podman assigns, and networks without addresses.

use lab::anyhow::ensure;
use lab::netavark::Container;
use lab::serde_json::{Value, json};
use lab::suite::netavark::NETAVARK;
use lab::{Lan, Netavark, Result, Test, World, test};

use super::{subnets, without_driver};
use crate::host_access::ensure_host_is_clean;
use crate::scenario::{SOON, address, default_gateways, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(the_addresses_that_podman_has_allocated_are_configured).needs(&[NETAVARK]),
    test!(a_pool_without_a_way_out).needs(&[NETAVARK]),
    test!(the_host_reaches_an_address_of_the_pool).needs(&[NETAVARK]),
    test!(without_ipam_there_is_only_an_interface).needs(&[NETAVARK]),
];

/// There is no daemon, and no server: nobody asks them.
fn created(lan: &Lan, netavark: &Netavark, fields: Value, options: Value) -> Result<Value> {
    let mut asked = lab::netavark::network("pool", without_driver(fields));
    asked["options"] = json!({ "parent": Lan::MASTER });
    if let (Value::Object(all), Value::Object(options)) = (&mut asked["options"], options) {
        all.extend(options);
    }
    let (created, told) = netavark.create(&lan.host, &asked)?;
    ensure!(told.is_empty(), "{told}");
    Ok(created)
}

fn the_addresses_that_podman_has_allocated_are_configured(world: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let netavark = Netavark::new(world)?;
    let fields = json!({
        "ipv6_enabled": true,
        "subnets": [
            { "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" },
            { "subnet": "fd99::/64", "gateway": "fd99::1" },
        ],
        "routes": [{ "destination": "10.50.0.0/16", "gateway": "10.99.0.2" }],
    });
    let network = created(&lan, &netavark, fields, json!({ "priority": "50" }))?;
    ensure!(
        network["ipam_options"]["driver"] == "host-local",
        "{network}"
    );
    let node = lan.container("web")?;
    let options = json!({ "static_ips": ["10.99.0.193", "fd99::7", "10.99.0.194"] });
    let container = Container::new(&node, &network, options);
    let status = netavark.setup(&lan.host, &container)?;
    let expected = json!([
        { "ipnet": "10.99.0.193/24", "gateway": "10.99.0.1" },
        { "ipnet": "fd99::7/64", "gateway": "fd99::1" },
        { "ipnet": "10.99.0.194/24", "gateway": "10.99.0.1" },
    ]);
    ensure!(subnets(&status, "pool") == expected, "{status}");
    for answering in ["10.99.0.193", "fd99::7", "10.99.0.194"] {
        lan.lan.ping(answering.parse()?, SOON)?;
    }
    let mut routes = node.routes()?;
    routes.retain(|route| route.gateway.is_some());
    let metrics = routes
        .iter()
        .map(|route| (route.dst.to_string(), route.metric));
    let mut metrics: Vec<(String, u32)> = metrics.collect();
    metrics.sort();
    let expected = ["0.0.0.0/0", "10.50.0.0/16", "::/0"].map(|dst| (dst.to_owned(), 50));
    ensure!(metrics == expected, "{metrics:?}");

    netavark.teardown(&lan.host, &container)?;
    ensure_nothing_left(&node)
}

fn a_pool_without_a_way_out(world: &World) -> Result {
    let lan = Lan::new()?;
    let netavark = Netavark::new(world)?;
    let subnet = json!([{ "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" }]);
    let own = json!({ "static_ips": ["10.99.0.193"] });
    for (internal, options, gateway) in [
        (true, json!({}), Value::Null),
        (
            false,
            json!({ "no_default_route": "true" }),
            json!("10.99.0.1"),
        ),
    ] {
        let fields = json!({ "internal": internal, "subnets": subnet });
        let network = created(&lan, &netavark, fields, options)?;
        let node = lan.container("web")?;
        let container = Container::new(&node, &network, own.clone());
        let status = netavark.setup(&lan.host, &container)?;
        let reported = subnets(&status, "pool")[0]["gateway"].clone();
        ensure!(reported == gateway, "{status}");
        let gateways = default_gateways(&node)?;
        ensure!(gateways.is_empty(), "{gateways:?}");
        lan.lan.ping(address(&node)?.into(), SOON)?;
        netavark.teardown(&lan.host, &container)?;
        ensure_nothing_left(&node)?;
        node.remove()?;
    }
    Ok(())
}

fn the_host_reaches_an_address_of_the_pool(world: &World) -> Result {
    let lan = Lan::new()?;
    let netavark = Netavark::new(world)?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    let fields = json!({ "subnets": [{ "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" }] });
    let network = created(&lan, &netavark, fields, json!({ "hostAccess": "true" }))?;
    let node = lan.container("web")?;
    let own = json!({ "static_ips": ["10.99.0.193"] });
    let container = Container::new(&node, &network, own);
    netavark.setup(&lan.host, &container)?;
    lan.host.ping(address(&node)?.into(), SOON)?;
    netavark.teardown(&lan.host, &container)?;
    ensure_nothing_left(&node)?;
    ensure_host_is_clean(&lan.host)
}

fn without_ipam_there_is_only_an_interface(world: &World) -> Result {
    let lan = Lan::new()?;
    let netavark = Netavark::new(world)?;
    let asked = json!({ "ipam_options": { "driver": "none" } });
    let asked = lab::netavark::network("lan", asked);
    let (mut network, _) = netavark.create(&lan.host, &asked)?;
    ensure!(network["ipam_options"]["driver"] == "none", "{network}");
    network["network_interface"] = Lan::MASTER.into();
    let node = lan.container("web")?;
    let own = json!({ "static_mac": "02:11:22:33:44:55" });
    let container = Container::new(&node, &network, own);
    let status = netavark.setup(&lan.host, &container)?;
    let interface = &status["lan"]["interfaces"]["eth0"];
    ensure!(interface["mac_address"] == "02:11:22:33:44:55", "{status}");
    ensure!(interface["subnets"] == json!([]), "{status}");
    ensure!(node.link("eth0")?.up && node.ipv4("eth0")?.is_empty());
    netavark.teardown(&lan.host, &container)?;
    ensure_nothing_left(&node)
}
