//! Real DHCP servers, each with its configuration and leases in the world's directory.
//!
//! A server is a module with a [`Kind`]: how it is configured and started, how its leases are read,
//! and what it cannot do. To add one, write such a module, and name it below and in [`ALL`]: every
//! test made by [`tests_of_each`](crate::tests_of_each!) then runs with it, and its package is
//! installed where needed.
//!
//! Unless [`Config`] says otherwise all give the same: 10.99.0.100–199/24 with 10.99.0.1 as router
//! and DNS server.

mod config;
mod dnsmasq;
mod isc_dhcpd;
mod kea;
mod udhcpd;

/// Every server.
pub const ALL: &[&Kind] = &[&DNSMASQ, &ISC_DHCPD, &KEA, &UDHCPD];

pub use config::{Client, Config, Options, Reservation};
pub use dnsmasq::DNSMASQ;
pub use isc_dhcpd::ISC_DHCPD;
pub use kea::KEA;
pub use udhcpd::UDHCPD;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::{
    Lan, Node, Process, Result, Test, World,
    suite::packages::{self, Package},
};

/// A DHCP server program, and what tests must know of it.
#[derive(Debug)]
pub struct Kind {
    /// Its name in tests' names: an identifier.
    pub name: &'static str,
    /// What must be installed.
    pub package: Package,
    /// The shortest lease that it gives.
    pub shortest_lease: Duration,
    /// The shortest T1 that it sends.
    pub shortest_t1: Duration,
    /// Whether it can tell clients apart by their client identifier (option 61). All can by MAC.
    pub knows_client_ids: bool,
    /// Whether it can answer a DISCOVER with an ACK (RFC 4039).
    pub rapid_commit: bool,
    /// What it does with a request to extend a lease that it does not know.
    pub unknown_lease: UnknownLease,
    /// What it logs when it acknowledges a lease.
    pub logs_acknowledged: &'static str,
    /// What it logs when it has no address left.
    pub logs_exhausted: &'static str,

    /// Writes its configuration to a directory; the command that starts it in the foreground.
    command: fn(&Path, &Config) -> Result<Command>,
    /// How one sees that it serves.
    readiness: Readiness,
    /// Whether it has written down that the address is leased.
    holds: fn(&Server, Ipv4Addr) -> bool,
}

/// What a server does with a request to extend a lease (RENEWING, REBINDING) that it does not know,
/// for instance because its disk was replaced. RFC 2131 §4.3.2 leaves it a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownLease {
    /// It extends the lease if the address is in its pool, and refuses it (NAK) if not.
    ExtendedOrRefused,
    /// It does not answer, so that the lease expires.
    Ignored,
}

#[derive(Debug)]
enum Readiness {
    /// The log has this text.
    Logs(&'static str),
    /// A socket is bound to UDP port 67.
    BindsPort,
}

/// A running server. It is killed when dropped, and forgets its leases: a server that is started
/// later has a directory of its own.
#[derive(Debug)]
pub struct Server {
    kind: &'static Kind,
    process: Process,
    dir: PathBuf,
}

impl Kind {
    /// Starts the server on the link `eth0` of `node` and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed, cannot do what `config` asks, or does not come up; with its log.
    pub fn start(&'static self, world: &World, node: &Node, config: &Config) -> Result<Server> {
        ensure!(
            self.rapid_commit || !config.rapid_commit,
            "{} has no Rapid Commit",
            self.name
        );
        let dir = fresh_dir(world.dir(), self.name)?;
        let command = (self.command)(&dir, config)?;
        let mut process = Process::spawn(world, node, self.name, command)?;
        let log = process.log_path().to_owned();
        process.until("it serves", STARTUP_TIMEOUT, || match self.readiness {
            Readiness::Logs(text) => logged(&log, text),
            Readiness::BindsPort => binds_port_67(node),
        })?;
        Ok(Server {
            kind: self,
            process,
            dir,
        })
    }
}

/// How long a server may take until it serves.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);

impl Server {
    /// Whether the server has written down that the address is leased. It writes a moment after it
    /// has answered: wait with [`until`](crate::until()).
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        (self.kind.holds)(self, address)
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

/// A test function that is run with each server.
pub type ServerTestFn = fn(&World, &'static Kind) -> Result;

/// A test for each server that `applies` accepts, named after the server and the function. Made by
/// [`tests_of_each!`](crate::tests_of_each!).
///
/// # Panics
/// When no server is accepted: such a test could not fail.
pub fn tests_of_each(
    module: &'static str,
    function: &'static str,
    run: ServerTestFn,
    applies: fn(&Kind) -> bool,
) -> Vec<Test> {
    let tests: Vec<Test> = ALL
        .iter()
        .filter(|kind| applies(kind))
        .map(|kind| Test::with_server(module, function, run, kind))
        .collect();
    assert!(!tests.is_empty(), "no server is fit for {function}");
    tests
}

/// The [`Test`]s of a function of this module, one for each server: all of [`ALL`], or those for
/// which a second argument, a function of the [`Kind`], is true. The server's name precedes the
/// function's: `kea_renews_a_lease`.
#[macro_export]
macro_rules! tests_of_each {
    ($function:ident) => {
        $crate::tests_of_each!($function, |_| true)
    };
    ($function:ident, $applies:expr) => {
        $crate::servers::tests_of_each(module_path!(), stringify!($function), $function, $applies)
    };
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
fn binds_port_67(node: &Node) -> bool {
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
