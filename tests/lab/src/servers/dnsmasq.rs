use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};

use super::{
    Client, Config, Kind, LEASES, Readiness, Reservation, Server, UnknownLease, gateway, program,
};
use crate::{Lan, Result, suite::Package};

/// dnsmasq.
pub const DNSMASQ: Kind = Kind {
    name: "dnsmasq",
    package: Package::new("dnsmasq-base", "dnsmasq"), // without its service
    shortest_lease: Duration::from_secs(120),
    shortest_t1: Duration::from_secs(3),
    knows_client_ids: true,
    rapid_commit: true,
    unknown_lease: UnknownLease::ExtendedOrRefused, // as --dhcp-authoritative makes it
    logs_acknowledged: "DHCPACK",
    logs_exhausted: "no address available",
    command,
    readiness: Readiness::Logs("DHCP, IP range"),
    holds,
};

fn command(dir: &Path, config: &Config) -> Result<Command> {
    let Config {
        pool,
        lease_time,
        t1,
        t2,
        reservations,
        options,
        rapid_commit,
        extra,
    } = config;
    let mut command = program("dnsmasq")?;
    command
        // In the foreground as root: a user namespace with one user has no other to switch to.
        .args([
            "--no-daemon",
            "--user=root",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--log-facility=-",
            "--log-dhcp",
        ])
        // No DNS; no three seconds of pinging an address before it is offered.
        .args([
            "--port=0",
            "--no-ping",
            "--dhcp-authoritative",
            "--bind-interfaces",
        ])
        .arg(format!("--interface={}", Lan::SERVER_LINK))
        .arg(format!("--dhcp-leasefile={}", dir.join(LEASES).display()))
        .arg(format!(
            "--dhcp-range={},{},{},{}",
            pool.start(),
            pool.end(),
            Lan::NET.netmask(),
            lease_time.as_secs()
        ));
    let mut send = |option: &str, value: String| {
        command.arg(format!("--dhcp-option=option:{option},{value}"));
    };
    send("router", gateway());
    send("dns-server", gateway());
    for (option, time) in [("T1", t1), ("T2", t2)] {
        if let Some(time) = time {
            send(option, time.as_secs().to_string());
        }
    }
    if let Some(domain) = options.domain {
        send("domain-name", domain.to_owned());
    }
    if !options.search.is_empty() {
        send("domain-search", options.search.join(","));
    }
    if let Some(mtu) = options.mtu {
        send("mtu", mtu.to_string());
    }
    if !options.routes.is_empty() {
        let routes = options.routes.iter();
        let routes = routes.map(|(destination, gateway)| format!("{destination},{gateway}"));
        send(
            "classless-static-route",
            routes.collect::<Vec<_>>().join(","),
        );
    }
    command.args(reservations.iter().map(reservation));
    if *rapid_commit {
        command.arg("--dhcp-rapid-commit");
    }
    command.args(extra);
    Ok(command)
}

fn reservation(Reservation { client, address }: &Reservation) -> String {
    match client {
        Client::Mac(mac) => format!("--dhcp-host={mac},{address}"),
        Client::Id(id) => format!("--dhcp-host=id:{id},{address}"),
    }
}

/// Lines "EXPIRY MAC ADDRESS HOSTNAME CLIENT-ID"; a released lease's line is gone.
fn holds(server: &Server, address: Ipv4Addr) -> bool {
    server
        .leases()
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(&address.to_string()))
}
