//! The daemon in place of netavark's DHCP proxy, with a caller that speaks its protocol.

mod client;
mod connections;
mod killed;
mod leases;
mod messages;
mod networks;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::anyhow::Context;
use lab::{Daemon, Lan, Node, Result, Test, World};

use client::Proxy;
use messages::NetworkConfig;

use crate::scenario::SOON;

pub(crate) fn tests() -> Vec<Test> {
    [
        leases::TESTS,
        networks::TESTS,
        connections::TESTS,
        killed::TESTS,
    ]
    .concat()
}

/// A LAN, and on its host the daemon, which netavark reaches on a socket of its own.
struct Podman {
    lan: Lan,
    daemon: Daemon,
    proxy: Proxy,
    socket: PathBuf,
}

impl Podman {
    fn new(world: &World) -> Result<Podman> {
        let lan = Lan::new()?;
        // The daemon creates the directory.
        let socket = world.dir().join("podman/nv-proxy.sock");
        Ok(Podman {
            daemon: start(world, &lan, &socket)?,
            proxy: Proxy::at(&socket),
            lan,
            socket,
        })
    }

    /// Kills the daemon, and starts another.
    fn killed_and_started(self, world: &World) -> Result<Podman> {
        self.daemon.kill()?;
        let daemon = start(world, &self.lan, &self.socket)?;
        Ok(Podman { daemon, ..self })
    }

    /// Whether the daemon ends within this time.
    fn has_ended(&mut self, within: Duration) -> bool {
        self.daemon.process().wait(within).is_ok()
    }

    /// A container with an interface that netavark has made.
    fn container(&self, name: &str) -> Result<Node> {
        let container = self.lan.container(name)?;
        self.lan
            .host
            .add_macvlan(Lan::MASTER, (&container, "eth0"))?;
        Ok(container)
    }
}

fn start(world: &World, lan: &Lan, socket: &Path) -> Result<Daemon> {
    let path = socket.to_str().context("a path of ours")?;
    let mut daemon = Daemon::start_with(world, &lan.host, &["-podmansocket", path])?;
    daemon
        .process()
        .until("netavark's socket accepts", SOON, || {
            UnixStream::connect(socket).is_ok()
        })?;
    Ok(daemon)
}

/// What netavark sends for an interface of this container.
fn config(container: &Node, ifname: &str) -> Result<NetworkConfig> {
    let mac = container
        .link(ifname)?
        .mac
        .context("an Ethernet interface")?;
    Ok(NetworkConfig {
        host_iface: Lan::MASTER.to_owned(),
        container_iface: ifname.to_owned(),
        container_mac_addr: mac.to_string(),
        host_name: container.name().to_owned(),
        ns_path: container
            .path()
            .to_str()
            .context("a path of ours")?
            .to_owned(),
        container_id: id_of(container),
        ..NetworkConfig::default()
    })
}

/// A container's ID, as Podman has them.
fn id_of(container: &Node) -> String {
    container
        .name()
        .bytes()
        .map(|octet| format!("{octet:02x}"))
        .collect::<String>()
        + &"0".repeat(40)
}
