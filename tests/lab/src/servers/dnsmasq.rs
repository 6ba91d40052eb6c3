use std::{net::Ipv4Addr, path::Path, process::Command};

use super::{Config, LEASES, gateway, program};
use crate::{Lan, Result};

pub(super) fn command(dir: &Path, config: &Config) -> Result<Command> {
    let Config {
        pool,
        lease_time,
        t1,
        t2,
        extra,
    } = config;
    let mut command = program("dnsmasq")?;
    command
        // In the foreground as root: a user namespace of one user has nobody to become.
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
        ))
        .args(
            ["router", "dns-server"]
                .map(|option| format!("--dhcp-option=option:{option},{}", gateway())),
        );
    for (name, time) in [("T1", t1), ("T2", t2)] {
        command.args(time.map(|time| format!("--dhcp-option=option:{name},{}", time.as_secs())));
    }
    command.args(extra);
    Ok(command)
}

/// Lines "EXPIRY MAC ADDRESS HOSTNAME CLIENT-ID"; a released lease's line is gone.
pub(super) fn holds(leases: &str, address: Ipv4Addr) -> bool {
    leases
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(&address.to_string()))
}
