use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use anyhow::Context;
use nix::sys::signal::Signal;

use super::{Config, LEASES, gateway, program};
use crate::{Lan, Process, Result};

pub(super) fn command(dir: &Path, config: &Config) -> Result<Command> {
    let file = dir.join("udhcpd.conf");
    fs::write(&file, configuration(dir, config)).context("write udhcpd's configuration")?;
    let mut command = program("udhcpd")?;
    // In the foreground, and without two seconds of ARP before an address is offered.
    command.args(["-f", "-a", "1"]).arg(file);
    Ok(command)
}

fn configuration(dir: &Path, config: &Config) -> String {
    let Config {
        pool,
        lease_time,
        t1,
        t2,
        extra,
    } = config;
    // It knows neither time by name.
    let times: String = [(58, t1), (59, t2)]
        .iter()
        .filter_map(|(code, time)| {
            time.map(|time| format!("option {code:#x} {:08x}\n", time.as_secs()))
        })
        .collect();
    format!(
        "interface {link}
start {first}
end {last}
lease_file {leases}
pidfile {pid}
min_lease {lease}
option lease {lease}
option subnet {netmask}
option router {gateway}
option dns {gateway}
{times}{extra}
",
        link = Lan::SERVER_LINK,
        first = pool.start(),
        last = pool.end(),
        leases = dir.join(LEASES).display(),
        pid = dir.join("pid").display(),
        lease = lease_time.as_secs(),
        netmask = Lan::NET.netmask(),
        gateway = gateway(),
        extra = extra.join("\n"),
    )
}

/// The lease file is written when SIGUSR1 asks for it: eight octets of time, then a record for each
/// lease, all of it in network byte order, beginning with the seconds left and the address.
pub(super) fn holds(server: &Process, dir: &Path, address: Ipv4Addr) -> bool {
    const HEADER: usize = 8;
    const RECORD: usize = 36;
    if server.signal(Signal::SIGUSR1).is_err() {
        return false;
    }
    let file = fs::read(dir.join(LEASES)).unwrap_or_default();
    let (records, _) = file.get(HEADER..).unwrap_or_default().as_chunks::<RECORD>();
    records
        .iter()
        .any(|record| record[4..8] == address.octets() && record[..4] != [0; 4])
}
