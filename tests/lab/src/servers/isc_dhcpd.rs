use std::{fs, net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::Context;

use super::{
    Client, Config, Kind, LEASES, Options, Readiness, Reservation, Server, UnknownLease, gateway,
    program,
};
use crate::{Lan, Result, suite::Package};

/// ISC dhcpd.
pub const ISC_DHCPD: Kind = Kind {
    name: "isc_dhcpd",
    package: Package::new("isc-dhcp-server", "dhcpd"),
    shortest_lease: Duration::from_secs(1),
    shortest_t1: Duration::from_secs(1),
    knows_client_ids: true,
    rapid_commit: false,
    unknown_lease: UnknownLease::Ignored,
    logs_acknowledged: "DHCPACK",
    logs_exhausted: "no free leases",
    command,
    readiness: Readiness::Logs("Server starting service."),
    holds,
};

fn command(dir: &Path, config: &Config) -> Result<Command> {
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
        reservations,
        options,
        rapid_commit: _,
        extra,
    } = config;
    let times = [("dhcp-renewal-time", t1), ("dhcp-rebinding-time", t2)];
    let times = times
        .iter()
        .filter_map(|(name, time)| time.map(|time| format!("option {name} {};", time.as_secs())));
    let statements: Vec<String> = times
        .chain(option_statements(options))
        .chain(reservations.iter().enumerate().map(reservation))
        .chain(extra.iter().cloned())
        .collect();
    format!(
        "authoritative;
ping-check false;
option classless-routes code 121 = array of unsigned integer 8;
subnet {network} netmask {netmask} {{
  range {first} {last};
  default-lease-time {lease};
  max-lease-time {lease};
  option routers {gateway};
  option domain-name-servers {gateway};
  {statements}
}}
",
        network = Lan::NET.network(),
        netmask = Lan::NET.netmask(),
        first = pool.start(),
        last = pool.end(),
        lease = lease_time.as_secs(),
        gateway = gateway(),
        statements = statements.join("\n  "),
    )
}

fn option_statements(options: &Options) -> Vec<String> {
    let quoted = |name: &&str| format!("\"{name}\"");
    let mut statements = Vec::new();
    if let Some(domain) = options.domain {
        statements.push(format!("option domain-name {};", quoted(&domain)));
    }
    if !options.search.is_empty() {
        let search: Vec<String> = options.search.iter().map(quoted).collect();
        statements.push(format!("option domain-search {};", search.join(", ")));
    }
    if let Some(mtu) = options.mtu {
        statements.push(format!("option interface-mtu {mtu};"));
    }
    if !options.routes.is_empty() {
        let octets: Vec<String> = options.encoded_routes().iter().map(u8::to_string).collect();
        statements.push(format!("option classless-routes {};", octets.join(", ")));
    }
    statements
}

/// Each host needs a name, which means nothing.
fn reservation((number, reservation): (usize, &Reservation)) -> String {
    let client = match reservation.client {
        Client::Mac(mac) => format!("hardware ethernet {mac}"),
        Client::Id(id) => format!("option dhcp-client-identifier {id}"),
    };
    let address = reservation.address;
    format!("host reserved-{number} {{ {client}; fixed-address {address}; }}")
}

/// Blocks "lease ADDRESS { … binding state STATE; … }", appended to: an address' last block is what
/// holds.
fn holds(server: &Server, address: Ipv4Addr) -> bool {
    let leases = server.leases();
    let last = leases
        .rsplit("\nlease ")
        .find(|block| block.starts_with(&format!("{address} {{")));
    last.is_some_and(|block| block.contains("\n  binding state active;"))
}
