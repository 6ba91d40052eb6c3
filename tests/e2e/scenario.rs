//! The beginning of most tests: a LAN, a daemon, a conflist; and questions about a container's
//! interface.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::Packet;
use lab::dhcproto::v4::Message;
use lab::serde_json::{Value, json};
use lab::{Daemon, Lan, Node, Result, World, until};
use linknet::nft::{Family, Nft};

/// Bounds the wait for anything that takes a few packets.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A LAN with the daemon under test on its host.
pub(crate) struct Scenario {
    pub(crate) lan: Lan,
    pub(crate) daemon: Daemon,
}

impl Scenario {
    pub(crate) fn new(world: &World) -> Result<Scenario> {
        Scenario::with_daemon(world, &[])
    }

    /// Like [`Scenario::new`], with further arguments for the daemon.
    pub(crate) fn with_daemon(world: &World, arguments: &[&str]) -> Result<Scenario> {
        let lan = Lan::new()?;
        let daemon = Daemon::start_with(world, &lan.host, arguments)?;
        Ok(Scenario { lan, daemon })
    }

    /// Waits until the daemon has applied a renewal.
    pub(crate) fn wait_for_renewal(&self) -> Result {
        until("a lease is renewed", SOON, || {
            self.daemon.log().contains("lease renewed")
        })
    }

    /// A conflist with macvlan on the LAN and dhcp for its addresses.
    pub(crate) fn dhcp(&self) -> Value {
        self.dhcp_with(json!({}))
    }

    /// Like [`Scenario::dhcp`], with further keys in the `ipam` section.
    pub(crate) fn dhcp_with(&self, keys: Value) -> Value {
        let mut ipam = json!({ "type": "dhcp", "daemonSocketPath": self.daemon.socket() });
        merge(&mut ipam, keys);
        conflist(json!({ "ipam": ipam }))
    }
}

/// A conflist with macvlan on the LAN, and these keys in it.
pub(crate) fn conflist(keys: Value) -> Value {
    let mut macvlan = json!({ "type": "macvlan", "master": Lan::MASTER, "mode": "bridge" });
    merge(&mut macvlan, keys);
    json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [macvlan] })
}

fn merge(object: &mut Value, keys: Value) {
    if let (Value::Object(object), Value::Object(keys)) = (object, keys) {
        object.extend(keys);
    }
}

/// How many descriptors of containers' network namespaces a process has.
pub(crate) fn netns_held_by(pid: nix::unistd::Pid) -> Result<usize> {
    // Known by device: a descriptor's link may name the path that it was opened by.
    let own = fs::metadata(format!("/proc/{pid}/ns/net"))?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let files = descriptors.filter_map(|descriptor| fs::metadata(descriptor.path()).ok());
    Ok(files
        .filter(|file| file.dev() == own.dev() && file.ino() != own.ino())
        .count())
}

/// The only IPv4 address of `eth0` in the container.
pub(crate) fn address(container: &Node) -> Result<Ipv4Addr> {
    let all = container.ipv4("eth0")?;
    ensure!(
        all.len() == 1,
        "{} should have one IPv4 address: {all:?}",
        container.name()
    );
    Ok(all[0].addr())
}

/// The address in an ADD result, which must be the one in the container.
pub(crate) fn reported(result: &Value, container: &Node) -> Result<Ipv4Addr> {
    let text = result["ips"][0]["address"]
        .as_str()
        .context("an address in the result")?;
    let there = container.ipv4("eth0")?;
    ensure!(
        there.iter().any(|net| net.to_string() == text),
        "result says {text}, the interface has {there:?}"
    );
    address(container)
}

/// Gateways of the container's default routes.
pub(crate) fn default_gateways(container: &Node) -> Result<Vec<IpAddr>> {
    let routes = container.routes()?;
    Ok(routes
        .iter()
        .filter(|route| route.dst.prefix_len() == 0)
        .filter_map(|route| route.gateway)
        .collect())
}

/// The message in a packet, which must be well-formed.
pub(crate) fn decoded(packet: &Packet) -> Result<&Message> {
    packet
        .message
        .as_ref()
        .map_err(|problem| anyhow!("{problem}: {packet:?}"))
}

/// Fails unless the container is as before its ADD: no interface but `lo`, and no guard.
pub(crate) fn ensure_nothing_left(container: &Node) -> Result {
    let names: Vec<String> = container
        .links()?
        .into_iter()
        .map(|link| link.name)
        .collect();
    ensure!(
        names == ["lo"],
        "left behind in {}: {names:?}",
        container.name()
    );
    for family in [Family::Netdev, Family::Inet] {
        // A kernel without nf_tables has none.
        let tables = Nft::open_in(container.netns()).and_then(|nft| nft.tables(family));
        let tables = tables.unwrap_or_default();
        ensure!(
            tables.is_empty(),
            "left behind in {}: {tables:?}",
            container.name()
        );
    }
    Ok(())
}
