//! With Debian's other plugins, before and after in one list.

use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::{Package, packages};
use lab::{Lan, Network, Result, Test, World, network, test};

use super::addresses;
use crate::scenario::{SOON, conflist, ensure_nothing_left};

const IPTABLES: Package = Package::new("iptables", "iptables");

pub(super) const TESTS: &[Test] = &[
    test!(works_after_loopback_and_before_tuning).needs(&[packages::GO_PLUGINS]),
    test!(works_before_sbr).needs(&[packages::GO_PLUGINS]),
    test!(works_before_portmap_and_firewall).needs(&[packages::GO_PLUGINS, IPTABLES]),
];

/// macvlan with addresses of both families in a list with others.
fn chained(before: &[Value], after: &[Value]) -> Value {
    let ipam = json!({
        "type": "static",
        "addresses": [
            { "address": "10.99.0.60/24", "gateway": "10.99.0.1" },
            { "address": "fd99::60/64", "gateway": "fd99::1" },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    });
    list(ipam, before, after)
}

fn list(ipam: Value, before: &[Value], after: &[Value]) -> Value {
    let mut list = conflist(json!({ "ipam": ipam }));
    let macvlan = list["plugins"][0].clone();
    list["plugins"] = before
        .iter()
        .cloned()
        .chain([macvlan])
        .chain(after.iter().cloned())
        .collect();
    list
}

fn works_after_loopback_and_before_tuning(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    let tuning = json!({
        "type": "tuning",
        "mac": "02:00:00:00:00:55",
        "sysctl": { "net.ipv4.conf.eth0.rp_filter": "2" },
    });
    let network = Network::new(
        &lan.host,
        chained(&[json!({ "type": "loopback" })], &[tuning]),
    );
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;

    // loopback's interface and address, then ours with tuning's MAC.
    ensure!(
        result["interfaces"][0]["name"] == "lo" && result["interfaces"][1]["name"] == "eth0",
        "{result}"
    );
    ensure!(
        result["interfaces"][1]["mac"] == "02:00:00:00:00:55",
        "{result}"
    );
    let of_interface = |index: u64| -> Vec<&Value> {
        let ips = result["ips"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        ips.iter()
            .filter(|ip| ip["interface"] == index)
            .map(|ip| &ip["address"])
            .collect()
    };
    ensure!(of_interface(0).contains(&&json!("127.0.0.1/8")), "{result}");
    ensure!(
        of_interface(1) == [&json!("10.99.0.60/24"), &json!("fd99::60/64")],
        "{result}"
    );

    ensure!(container.link("eth0")?.mac == Some("02:00:00:00:00:55".parse()?));
    network.check(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    // tuning sets the interface down to change its MAC, and the IPv6 address lives through that.
    container.ping(Lan::ADDRESS6.into(), SOON)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

/// sbr moves the interface's routes to a table of their own, and leaves the result as it was.
fn works_before_sbr(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, chained(&[], &[json!({ "type": "sbr" })]));
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure!(
        result["ips"].as_array().is_some_and(|ips| ips.len() == 2),
        "{result}"
    );
    let moved = container
        .routes()?
        .into_iter()
        .find(|route| route.gateway == Some(Lan::ADDRESS.into()));
    ensure!(
        moved.context("a default route")?.table != linknet::Route::MAIN,
        "sbr has moved it"
    );
    network
        .check(&attachment)
        .context("CHECK allows what a later plugin has done")?;
    lan.lan.ping("10.99.0.60".parse()?, SOON)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

fn works_before_portmap_and_firewall(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let after = [
        json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": false }),
        json!({ "type": "firewall", "backend": "iptables" }),
    ];
    let ipam = || addresses(&["10.99.0.60/24"]);
    let network = Network::new(&lan.host, list(ipam(), &[], &after));
    let mut attachment = network::Attachment::new(&container);
    attachment.capabilities.insert(
        "portMappings".to_owned(),
        json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]),
    );
    let alone = Network::new(&lan.host, list(ipam(), &[], &[]));
    let mut expected = alone.add(&attachment)?;
    alone.del(&attachment)?;
    let mut result = network.add(&attachment)?;
    expected["interfaces"][0]["mac"] = result["interfaces"][0]["mac"].clone();
    // Some plugins write empty values, and some omit them.
    for result in [&mut result, &mut expected] {
        result
            .as_object_mut()
            .context("an object")?
            .retain(|_, value| *value != json!({}));
    }
    ensure!(result == expected, "{result}\nrather than\n{expected}");
    // Not portmap's own, which in Debian's version looks for an IPv6 mapping that it has not made.
    for plugin in [0, 2] {
        network
            .prepare("CHECK", plugin, &attachment, Some(&result))?
            .run(&lan.host)?
            .success()?;
    }
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}
