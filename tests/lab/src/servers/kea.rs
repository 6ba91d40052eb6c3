use std::{fs, net::Ipv4Addr, path::Path, process::Command, time::SystemTime};

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::{Config, LEASES, gateway, program};
use crate::{Lan, Result};

pub(super) fn command(dir: &Path, config: &Config) -> Result<Command> {
    let file = dir.join("kea-dhcp4.json");
    fs::write(&file, configuration(dir, config)?.to_string())
        .context("write Kea's configuration")?;
    let mut command = program("kea-dhcp4")?;
    command
        .arg("-c")
        .arg(file)
        .env("KEA_PIDFILE_DIR", dir)
        .env("KEA_LOCKFILE_DIR", "none");
    command.env("KEA_DHCP_DATA_DIR", dir); // newer ones refuse to write leases anywhere else
    Ok(command)
}

fn configuration(dir: &Path, config: &Config) -> Result<Value> {
    let Config {
        pool,
        lease_time,
        t1,
        t2,
        extra,
    } = config;
    let mut subnet = json!({
        "id": 1,
        "subnet": Lan::NET.trunc(),
        "pools": [{"pool": format!("{} - {}", pool.start(), pool.end())}],
        "option-data": [
            {"name": "routers", "data": gateway()},
            {"name": "domain-name-servers", "data": gateway()},
        ],
        "valid-lifetime": lease_time.as_secs(),
    });
    let subnet = subnet.as_object_mut().context("a subnet is an object")?;
    for (name, time) in [("renew-timer", t1), ("rebind-timer", t2)] {
        subnet.extend(time.map(|time| (name.to_owned(), time.as_secs().into())));
    }
    for object in extra {
        let object: Map<String, Value> =
            serde_json::from_str(object).context("extra configuration for Kea")?;
        subnet.extend(object);
    }
    Ok(json!({"Dhcp4": {
        // Raw sockets are how it reaches clients that have no address yet.
        "interfaces-config": {"interfaces": [Lan::SERVER_LINK], "dhcp-socket-type": "raw"},
        "lease-database": {"type": "memfile", "persist": true, "name": dir.join(LEASES), "lfc-interval": 0},
        "authoritative": true,
        "subnet4": [subnet],
        "loggers": [{
            "name": "kea-dhcp4",
            "severity": "INFO",
            "output_options": [{"output": "stdout", "flush": true}],
        }],
    }}))
}

/// CSV, appended to: an address' last row is what holds. A released lease's has no lifetime left or
/// (since 2.4) another state.
pub(super) fn holds(leases: &str, address: Ipv4Addr) -> bool {
    let mut lines = leases.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let address = address.to_string();
    let Some(row) = lines
        .map(|line| line.split(',').collect::<Vec<_>>())
        .rfind(|row| row[0] == address)
    else {
        return false;
    };
    let number = |name: &str| {
        let column = columns.iter().position(|column| *column == name);
        column.and_then(|column| row.get(column)?.parse::<u64>().ok())
    };
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    number("state") == Some(0)
        && number("valid_lifetime").is_some_and(|lifetime| lifetime > 0)
        && number("expire").is_some_and(|expire| expire > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_an_address_counts() {
        let header = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context";
        let held = "10.99.0.100,02:00:00:00:00:01,00:63,120,99999999999,1,0,0,,0,";
        let released = "10.99.0.100,02:00:00:00:00:01,00:63,0,1700000000,1,0,0,,0,";
        let address = Ipv4Addr::new(10, 99, 0, 100);
        assert!(holds(&format!("{header}\n{held}\n"), address));
        assert!(!holds(&format!("{header}\n{held}\n{released}\n"), address));
        assert!(!holds(
            &format!("{header}\n{held}\n"),
            Ipv4Addr::new(10, 99, 0, 101)
        ));
    }
}
