use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::{
    Client, Config, Kind, LEASES, Options, Readiness, Reservation, UnknownLease, gateway, program,
};
use crate::{Lan, Result, suite::Package};

/// ISC Kea's DHCPv4 server.
pub const KEA: Kind = Kind {
    name: "kea",
    package: Package::new("kea-dhcp4-server", "kea-dhcp4"),
    shortest_lease: Duration::from_secs(1),
    shortest_t1: Duration::from_secs(1),
    knows_client_ids: true,
    rapid_commit: false,
    unknown_lease: UnknownLease::Ignored,
    logs_acknowledged: "DHCP4_LEASE_ALLOC",
    logs_exhausted: "ALLOC_ENGINE_V4_ALLOC_FAIL",
    command,
    readiness: Readiness::Logs("DHCP4_STARTED"),
    holds: |server, address| holds(&server.leases(), address),
};

fn command(dir: &Path, config: &Config) -> Result<Command> {
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
        reservations,
        options,
        rapid_commit: _,
        extra,
    } = config;
    let mut subnet = json!({
        "id": 1,
        "subnet": Lan::NET.trunc(),
        "pools": [{"pool": format!("{} - {}", pool.start(), pool.end())}],
        "option-data": option_data(options),
        "reservations": reservations.iter().map(reservation).collect::<Vec<_>>(),
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

fn option_data(options: &Options) -> Vec<Value> {
    let mut data = vec![
        json!({"name": "routers", "data": gateway()}),
        json!({"name": "domain-name-servers", "data": gateway()}),
    ];
    if let Some(domain) = options.domain {
        data.push(json!({"name": "domain-name", "data": domain}));
    }
    if !options.search.is_empty() {
        data.push(json!({"name": "domain-search", "data": options.search.join(", ")}));
    }
    if let Some(mtu) = options.mtu {
        data.push(json!({"name": "interface-mtu", "data": mtu.to_string()}));
    }
    if !options.routes.is_empty() {
        let mut hex = String::new();
        for octet in options.encoded_routes() {
            write!(hex, "{octet:02X}").expect("a String takes everything");
        }
        // Newer versions know option 121 by name, older ones do not.
        data.push(json!({"code": 121, "csv-format": false, "data": hex}));
    }
    data
}

fn reservation(Reservation { client, address }: &Reservation) -> Value {
    match client {
        Client::Mac(mac) => json!({"hw-address": mac, "ip-address": address}),
        Client::Id(id) => json!({"client-id": id, "ip-address": address}),
    }
}

/// CSV, appended to: an address' last row is what holds. A released lease's has no lifetime left or
/// (since 2.4) another state.
fn holds(leases: &str, address: Ipv4Addr) -> bool {
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
