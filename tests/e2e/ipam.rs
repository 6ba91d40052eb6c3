//! macvlan with other IPAM plugins than ours, and with none.

use lab::anyhow::ensure;
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Lan, Network, Result, Test, World, network, test};

use crate::scenario::{SOON, conflist, default_gateways, ensure_nothing_left, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(host_local_gives_the_addresses).needs(&[packages::GO_PLUGINS]),
    test!(static_gives_the_addresses).needs(&[packages::GO_PLUGINS]),
    test!(without_ipam_the_interface_is_plain_ethernet),
    test!(an_interface_is_made_with_its_mode_mac_and_mtu),
];

fn host_local_gives_the_addresses(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let ipam = json!({
        "type": "host-local",
        "dataDir": world.dir().join("host-local"),
        "ranges": [[{ "subnet": "10.99.0.0/24", "rangeStart": "10.99.0.50", "gateway": "10.99.0.1" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure!(
        reported(&result, &container)?.to_string() == "10.99.0.50",
        "{result}"
    );
    ensure!(
        default_gateways(&container)? == [std::net::IpAddr::V4(Lan::ADDRESS)],
        "{:?}",
        container.routes()?
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    let left: Vec<_> = std::fs::read_dir(world.dir().join("host-local/lan"))?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    ensure!(
        !left.iter().any(|name| name == "10.99.0.50"),
        "host-local still has the address: {left:?}"
    );
    Ok(())
}

fn static_gives_the_addresses(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    let ipam = json!({
        "type": "static",
        "addresses": [
            { "address": "10.99.0.60/24", "gateway": "10.99.0.1" },
            { "address": "fd99::60/64", "gateway": "fd99::1" },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }, { "dst": "198.51.100.0/24", "gw": "10.99.0.2" }],
        "dns": { "nameservers": ["10.99.0.1"], "search": ["example.com"] },
    });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure!(
        result["ips"].as_array().is_some_and(|ips| ips.len() == 2),
        "{result}"
    );
    ensure!(
        result["dns"]["search"] == json!(["example.com"]),
        "what IPAM says of DNS is passed on: {result}"
    );
    // IPv6 works at once: duplicate address detection is over when ADD returns.
    container.ping(Lan::ADDRESS6.into(), SOON)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(
        default_gateways(&container)?.len() == 2,
        "{:?}",
        container.routes()?
    );
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

fn without_ipam_the_interface_is_plain_ethernet(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, conflist(json!({})));
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure!(
        result
            .get("ips")
            .is_none_or(|ips| ips.as_array().is_some_and(Vec::is_empty)),
        "{result}"
    );
    let link = container.link("eth0")?;
    ensure!(link.up && container.ipv4("eth0")?.is_empty(), "{link:?}");
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

fn an_interface_is_made_with_its_mode_mac_and_mtu(_: &World) -> Result {
    let lan = Lan::new()?;
    for mode in ["bridge", "private", "vepa", "passthru"] {
        let container = lan.container(&format!("c-{mode}"))?;
        let keys =
            json!({ "mode": mode, "mtu": 1400, "mac": "02:00:00:00:00:17", "cniVersion": "0.4.0" });
        let network = Network::new(&lan.host, conflist(keys));
        let attachment = network::Attachment::new(&container);
        network.add(&attachment)?;
        let link = container.link("eth0")?;
        let made = link
            .macvlan
            .as_ref()
            .and_then(|macvlan| macvlan.mode)
            .map(|mode| mode.to_string());
        ensure!(made.as_deref() == Some(mode), "{link:?}");
        ensure!(link.mtu == 1400, "{link:?}");
        ensure!(
            link.mac
                .is_some_and(|mac| mac.to_string() == "02:00:00:00:00:17"),
            "{link:?}"
        );
        network.check(&attachment)?;
        network.del(&attachment)?;
        ensure_nothing_left(&container)?;
    }
    Ok(())
}
