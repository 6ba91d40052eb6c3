//! Real DHCP servers, each with its configuration and leases in the world's directory.
//!
//! All give the same: 10.99.0.100–199/24 with router and DNS server 10.99.0.1, and whatever a
//! [`Config`] changes of it.

use std::{
    fs,
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;

use crate::{Lan, Node, Process, Result, World, suite::packages};

mod dnsmasq;
mod isc_dhcpd;
mod kea;
mod udhcpd;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// dnsmasq. Never leases for less than two minutes.
    Dnsmasq,
    /// ISC Kea. Leases for seconds too.
    Kea,
    /// ISC dhcpd.
    IscDhcpd,
    /// busybox' udhcpd.
    Udhcpd,
}

/// What a server gives.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// The lease time.
    pub lease_time: Duration,
    /// T1, if the server is to send it.
    pub t1: Option<Duration>,
    /// T2, if the server is to send it.
    pub t2: Option<Duration>,
    /// More, in the server's own language: an argument of dnsmasq, a JSON object merged into Kea's
    /// subnet, a line of `dhcpd.conf` in the subnet, a line of `udhcpd.conf`.
    pub extra: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            pool: Ipv4Addr::new(10, 99, 0, 100)..=Ipv4Addr::new(10, 99, 0, 199),
            lease_time: Duration::from_secs(120),
            t1: None,
            t2: None,
            extra: Vec::new(),
        }
    }
}

/// A running server. Dropped, it is killed; another one that is started has no memory of its
/// leases.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    process: Process,
    dir: PathBuf,
}

impl Kind {
    /// Every kind, for a test that is about all servers.
    pub const ALL: [Kind; 4] = [Kind::Dnsmasq, Kind::Kea, Kind::IscDhcpd, Kind::Udhcpd];

    /// What must be installed.
    pub const fn package(self) -> packages::Package {
        match self {
            Kind::Dnsmasq => packages::DNSMASQ,
            Kind::Kea => packages::KEA,
            Kind::IscDhcpd => packages::ISC_DHCPD,
            Kind::Udhcpd => packages::UDHCPD,
        }
    }

    /// Starts the server on the link `eth0` of `node` and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed, or does not come up; with its log.
    pub fn start(self, world: &World, node: &Node, config: &Config) -> Result<Server> {
        let dir = fresh_dir(world.dir(), self.name())?;
        let command = match self {
            Kind::Dnsmasq => dnsmasq::command(&dir, config),
            Kind::Kea => kea::command(&dir, config),
            Kind::IscDhcpd => isc_dhcpd::command(&dir, config),
            Kind::Udhcpd => udhcpd::command(&dir, config),
        };
        let mut process = Process::spawn(world, node, self.name(), command?)?;
        let log = process.log_path().to_owned();
        process.until("it serves", Duration::from_secs(20), || match self {
            Kind::Dnsmasq => logged(&log, "DHCP, IP range"),
            Kind::Kea => logged(&log, "DHCP4_STARTED"),
            Kind::IscDhcpd => logged(&log, "Server starting service."),
            Kind::Udhcpd => holds_port_67(node),
        })?;
        Ok(Server {
            kind: self,
            process,
            dir,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Kind::Dnsmasq => "dnsmasq",
            Kind::Kea => "kea",
            Kind::IscDhcpd => "isc-dhcpd",
            Kind::Udhcpd => "udhcpd",
        }
    }
}

impl Server {
    /// Whether the address is leased to somebody, by what the server has written down. It writes a
    /// moment after it has answered: wait with [`until`](crate::until()).
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        match self.kind {
            Kind::Dnsmasq => dnsmasq::holds(&self.leases(), address),
            Kind::Kea => kea::holds(&self.leases(), address),
            Kind::IscDhcpd => isc_dhcpd::holds(&self.leases(), address),
            Kind::Udhcpd => udhcpd::holds(&self.process, &self.dir, address),
        }
    }

    /// The lease file as it is; not text for udhcpd.
    pub fn leases(&self) -> String {
        fs::read(self.dir.join(LEASES))
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process, for signals and waiting.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The lease file of every server, in its directory.
const LEASES: &str = "leases";

fn program(name: &str) -> Result<Command> {
    Ok(Command::new(
        packages::find_program(name).with_context(|| format!("{name} is not installed"))?,
    ))
}

fn logged(log: &Path, text: &str) -> bool {
    fs::read(log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
}

/// True when a UDP socket is bound to port 67 on the node.
fn holds_port_67(node: &Node) -> bool {
    let table = node.run(|| fs::read_to_string("/proc/thread-self/net/udp"));
    // "sl local_address rem_address …", the address as hexadecimal ADDRESS:PORT
    let bound = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|local| local.ends_with(":0043"))
    };
    table.is_ok_and(|table| table.is_ok_and(|table| table.lines().any(bound)))
}

/// A directory of this name and the first free number.
fn fresh_dir(parent: &Path, name: &str) -> Result<PathBuf> {
    let dir = (1..)
        .map(|number| parent.join(format!("{name}-{number}")))
        .find(|dir| !dir.exists());
    let dir = dir.context("the numbers do not end")?;
    fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

fn gateway() -> String {
    Lan::ADDRESS.to_string()
}
