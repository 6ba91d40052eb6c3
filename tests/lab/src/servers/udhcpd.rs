use std::{fs, net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::{
    Client, Config, Kind, LEASES, Options, Readiness, Reservation, Server, UnknownLease, gateway,
    program,
};
use crate::{Lan, Result, suite::Package};

/// busybox' udhcpd.
pub const UDHCPD: Kind = Kind {
    name: "udhcpd",
    package: Package::new("udhcpd", "udhcpd"),
    shortest_lease: Duration::from_secs(1),
    shortest_t1: Duration::from_secs(1),
    knows_client_ids: false,
    rapid_commit: false,
    unknown_lease: UnknownLease::Ignored,
    logs_acknowledged: "sending ACK",
    logs_exhausted: "no free IP addresses",
    command,
    readiness: Readiness::BindsPort,
    holds,
};

fn command(dir: &Path, config: &Config) -> Result<Command> {
    let file = dir.join("udhcpd.conf");
    fs::write(&file, configuration(dir, config)?).context("write udhcpd's configuration")?;
    let mut command = program("udhcpd")?;
    // In the foreground, and without two seconds of ARP before an address is offered.
    command.args(["-f", "-a", "1"]).arg(file);
    Ok(command)
}

fn configuration(dir: &Path, config: &Config) -> Result<String> {
    let Config {
        pool,
        lease_time,
        t1,
        t2,
        reservations,
        options,
        rapid_commit: _,
        extra,
    } = config;
    // It knows neither time by name.
    let times = [(58, t1), (59, t2)].into_iter().filter_map(|(code, time)| {
        time.map(|time| format!("option {code:#x} {:08x}", time.as_secs()))
    });
    let lines: Vec<String> = times
        .chain(option_lines(options))
        .chain(extra.iter().cloned())
        .collect();
    let reservations: Result<Vec<String>> = reservations.iter().map(reservation).collect();
    Ok(format!(
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
{lines}
{reservations}
",
        link = Lan::SERVER_LINK,
        first = pool.start(),
        last = pool.end(),
        leases = dir.join(LEASES).display(),
        pid = dir.join("pid").display(),
        lease = lease_time.as_secs(),
        netmask = Lan::NET.netmask(),
        gateway = gateway(),
        lines = lines.join("\n"),
        reservations = reservations?.join("\n"),
    ))
}

fn option_lines(options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(domain) = options.domain {
        lines.push(format!("option domain {domain}"));
    }
    if !options.search.is_empty() {
        lines.push(format!("option search {}", options.search.join(" ")));
    }
    if let Some(mtu) = options.mtu {
        lines.push(format!("option mtu {mtu}"));
    }
    if !options.routes.is_empty() {
        let routes = options.routes.iter();
        let routes = routes.map(|(destination, gateway)| format!("{destination} {gateway}"));
        let routes: Vec<String> = routes.collect();
        lines.push(format!("option staticroutes {}", routes.join(", ")));
    }
    lines
}

fn reservation(Reservation { client, address }: &Reservation) -> Result<String> {
    match client {
        Client::Mac(mac) => Ok(format!("static_lease {mac} {address}")),
        Client::Id(id) => bail!("udhcpd knows no client identifiers, such as {id}"),
    }
}

/// The lease file is written when SIGUSR1 asks for it: eight octets of time, then a record for each
/// lease, all of it in network byte order, beginning with the seconds left and the address.
fn holds(server: &Server, address: Ipv4Addr) -> bool {
    const HEADER: usize = 8;
    const RECORD: usize = 36;
    if server.process.signal(Signal::SIGUSR1).is_err() {
        return false;
    }
    let file = fs::read(server.dir.join(LEASES)).unwrap_or_default();
    let (records, _) = file.get(HEADER..).unwrap_or_default().as_chunks::<RECORD>();
    records
        .iter()
        .any(|record| record[4..8] == address.octets() && record[..4] != [0; 4])
}
