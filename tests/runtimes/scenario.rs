//! The beginning of most tests here: a LAN with dnsmasq, the plugins where runtimes look, and the
//! daemon where Podman expects it.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::Context;
use lab::servers::{Config, DNSMASQ, Server};
use lab::{Lan, Process, Result, World, until};

use crate::machine;

/// Bounds the wait for anything that takes a few packets.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// Where Podman, which names no socket, expects the daemon.
pub(crate) const SOCKET: &str = "/run/cni/dhcp.sock";

/// Where Debian has its runtimes look; Podman looks there before it looks in `/opt/cni/bin`.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";

/// A LAN with a server, and the host's daemon.
pub(crate) struct Scenario {
    pub(crate) lan: Lan,
    pub(crate) server: Server,
    pub(crate) daemon: Process,
}

impl Scenario {
    /// On a machine that the process has entered; `reservations` are dnsmasq's.
    pub(crate) fn new(world: &World, plugins: &str, reservations: &[&str]) -> Result<Scenario> {
        machine::install_plugins(plugins)?;
        let lan = Lan::new()?;
        let extra = reservations
            .iter()
            .map(|reservation| format!("--dhcp-host={reservation}"))
            .collect();
        let server = DNSMASQ.start(
            world,
            &lan.lan,
            &Config {
                extra,
                ..Config::default()
            },
        )?;
        let mut command = Command::new(Path::new(plugins).join("dhcp"));
        command.arg("daemon");
        let mut daemon = Process::spawn(world, &lan.host, "dhcp-daemon", command)?;
        daemon.until("its socket accepts", SOON, accepts)?;
        Ok(Scenario {
            lan,
            server,
            daemon,
        })
    }

    /// Runs commands of the documentation in the host's namespace; returns what they print.
    pub(crate) fn shell(&self, commands: &str) -> Result<String> {
        shell(&self.lan, commands)
            .with_context(|| format!("the daemon says:\n{}", self.daemon.log()))
    }

    /// Fails unless the server holds the address.
    pub(crate) fn leased(&self, address: Ipv4Addr) -> Result {
        until(&format!("{address} is leased"), SOON, || {
            self.server.holds(address)
        })
    }

    /// Fails unless the server has it back.
    pub(crate) fn given_back(&self, address: Ipv4Addr) -> Result {
        until(&format!("{address} is given back"), SOON, || {
            !self.server.holds(address)
        })
    }
}

/// Runs commands of the documentation in the host's namespace, in the checkout; returns what they
/// print.
pub(crate) fn shell(lan: &Lan, commands: &str) -> Result<String> {
    let mut command = Command::new("sh");
    command
        .args(["-ec", commands])
        .current_dir(machine::CHECKOUT);
    lan.host.run(|| machine::output(&mut command))?
}

/// Whether somebody listens on the daemon's usual socket.
pub(crate) fn accepts() -> bool {
    UnixStream::connect(SOCKET).is_ok()
}
