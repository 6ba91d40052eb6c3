use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use anyhow::Context;

use super::{Config, LEASES, gateway, program};
use crate::{Lan, Result};

pub(super) fn command(dir: &Path, config: &Config) -> Result<Command> {
    let file = dir.join("dhcpd.conf");
    fs::write(&file, configuration(config)).context("write dhcpd's configuration")?;
    fs::write(dir.join(LEASES), "").context("write dhcpd's lease file")?; // it insists on one
    let mut command = program("dhcpd")?;
    command
        .args(["-4", "-f", "-d", "--no-pid", "-cf"])
        .arg(file)
        .arg("-lf")
        .arg(dir.join(LEASES))
        .arg(Lan::SERVER_LINK);
    Ok(command)
}

fn configuration(config: &Config) -> String {
    let Config {
        pool,
        lease_time,
        t1,
        t2,
        extra,
    } = config;
    let times = [("dhcp-renewal-time", t1), ("dhcp-rebinding-time", t2)];
    let times: String = times
        .iter()
        .filter_map(|(name, time)| {
            time.map(|time| format!("  option {name} {};\n", time.as_secs()))
        })
        .collect();
    format!(
        "authoritative;
ping-check false;
subnet {network} netmask {netmask} {{
  range {first} {last};
  default-lease-time {lease};
  max-lease-time {lease};
  option routers {gateway};
  option domain-name-servers {gateway};
{times}  {extra}
}}
",
        network = Lan::NET.network(),
        netmask = Lan::NET.netmask(),
        first = pool.start(),
        last = pool.end(),
        lease = lease_time.as_secs(),
        gateway = gateway(),
        extra = extra.join("\n  "),
    )
}

/// Blocks "lease ADDRESS { … binding state STATE; … }", appended to: an address' last block is what
/// holds.
pub(super) fn holds(leases: &str, address: Ipv4Addr) -> bool {
    let last = leases
        .rsplit("\nlease ")
        .find(|block| block.starts_with(&format!("{address} {{")));
    last.is_some_and(|block| block.contains("\n  binding state active;"))
}
