//! Sysctls of the container's interface, by Debian's `tuning` after macvlan.

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::Map;
use lab::suite::packages;
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, network, test};
use linknet::sysctl;

use super::conflist;
use crate::scenario::{SOON, ensure_nothing_left, reported};

pub(super) const TESTS: &[Test] =
    &[test!(tuning_sets_the_sysctls_of_the_interface_alone).needs(&[packages::GO_PLUGINS])];

/// Each as the example has it.
const SETTINGS: [(&str, &str, &str); 5] = [
    ("ipv4", "arp_notify", "1"),
    ("ipv4", "arp_ignore", "1"),
    ("ipv4", "arp_announce", "2"),
    ("ipv4", "rp_filter", "2"),
    ("ipv6", "accept_ra", "0"),
];

fn tuning_sets_the_sysctls_of_the_interface_alone(world: &World) -> Result {
    let lan = Lan::new()?;
    let _daemon = Daemon::start_at_default_path(world, &lan.host)?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let example = conflist("tuning")?;
    let listed = example["plugins"][1]["sysctl"]
        .as_object()
        .map_or(0, Map::len);
    ensure!(listed == SETTINGS.len(), "the example has {listed} sysctls");

    let network = Network::new(&lan.host, example.clone());
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    reported(&result, &container)?;
    for (family, name, value) in SETTINGS {
        let found = setting(&container, family, "eth0", name)?;
        ensure!(found == value, "net.{family}.conf.eth0.{name} is {found}");
    }
    container.ping(Lan::ADDRESS.into(), SOON)?;
    // Not tuning's own, which in Debian's version knows IFNAME at ADD alone.
    network
        .prepare("CHECK", 0, &attachment, Some(&result))?
        .run(&lan.host)?
        .success()?;

    // Only tuning sets them, and on this interface alone.
    let untuned = lan.container("c2")?;
    let mut alone = example;
    alone["plugins"]
        .as_array_mut()
        .context("plugins")?
        .truncate(1);
    let without = Network::new(&lan.host, alone);
    without.add(&network::Attachment::new(&untuned))?;
    for (node, link) in [
        (&untuned, "eth0"),
        (&container, "lo"),
        (&lan.host, Lan::MASTER),
    ] {
        let found = [
            setting(node, "ipv4", link, "arp_ignore")?,
            setting(node, "ipv4", link, "arp_announce")?,
        ];
        ensure!(found == ["0", "0"], "{link} in {}: {found:?}", node.name());
    }

    without.del(&network::Attachment::new(&untuned))?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

fn setting(node: &Node, family: &str, link: &str, name: &str) -> Result<String> {
    Ok(node.run(|| sysctl::get(&[family, "conf", link, name]))??)
}
