//! The commands with which an operator looks at the daemon.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::network::Attachment;
use lab::serde_json::{self, Value, json};
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, suite, test, until};

use crate::dhcp::named;
use crate::scenario::{SOON, Scenario, address};

pub(crate) const TESTS: &[Test] = &[
    test!(the_leases_are_listed_with_names_addresses_and_times),
    test!(a_lease_that_is_not_renewed_is_listed_with_the_reason),
    test!(a_lease_is_renewed_at_an_operators_wish),
    test!(a_lease_is_released_at_an_operators_wish),
    test!(leases_of_a_daemon_that_is_not_there_are_an_error),
];

/// `dhcp` with these arguments on a node; fails unless it succeeds.
fn dhcp(node: &Node, words: &[&str]) -> Result<String> {
    let program = suite::plugin_dir().join("dhcp");
    let program = program.to_str().context("a path in UTF-8")?;
    node.output(&[&[program], words].concat())
}

fn listed(node: &Node, daemon: &Daemon, words: &[&str]) -> Result<String> {
    let socket = daemon.socket().to_str().context("a path in UTF-8")?;
    dhcp(node, &[&["leases", "--socketpath", socket], words].concat())
}

fn the_leases_are_listed_with_names_addresses_and_times(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let (host, daemon) = (&scenario.lan.host, &scenario.daemon);
    let settings = Settings {
        lease_time: Some(Duration::from_secs(3600)),
        ..Settings::default()
    };
    let _server = DhcpServer::start(&scenario.lan.lan, settings)?;
    ensure!(listed(host, daemon, &[])?.trim() == "no leases");

    let network = Network::new(host, scenario.dhcp());
    let containers = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    for (container, name) in containers.iter().zip(["web", "db"]) {
        network.add(&named(container, name))?;
    }
    let table = listed(host, daemon, &[])?;
    let lines: Vec<&str> = table.lines().collect();
    ensure!(lines.len() == 3 && lines[0].starts_with("NAME "), "{table}");
    let leased = address(&containers[0])?;
    let line = lines[1];
    for part in [
        "web",
        "c1",
        "lan",
        "eth0",
        &format!("{leased}/24"),
        "10.99.0.1",
        "BOUND",
    ] {
        ensure!(
            line.split_whitespace().any(|word| word == part),
            "{part}: {table}"
        );
    }
    ensure!(
        line.contains("29min ") && line.contains("59min "),
        "{table}"
    );

    let socket = daemon.socket().to_str().context("a path in UTF-8")?;
    let status = dhcp(host, &["status", "--socketpath", socket])?;
    ensure!(
        status.contains("is ready\n") && status.contains("\n2 leases (2 BOUND)\n"),
        "{status}"
    );

    let document = listed(host, daemon, &["--json", "db"])?;
    let document: Value = serde_json::from_str(&document)?;
    ensure!(document.as_array().map(Vec::len) == Some(1), "{document}");
    let lease = &document[0];
    let mac = containers[1].link("eth0")?.mac.context("a MAC")?;
    ensure!(
        lease["containerID"] == "c2" && lease["mac"] == mac.to_string(),
        "{document}"
    );
    ensure!(lease["gateway"] == "10.99.0.1", "{document}");
    ensure!(listed(host, daemon, &["c1"])?.lines().count() == 2);

    let unknown = listed(host, daemon, &["c1", "nginx"]);
    let told = unknown.err().context("no such container")?.to_string();
    ensure!(told.contains("no lease is of a container nginx"), "{told}");
    Ok(())
}

fn a_lease_that_is_not_renewed_is_listed_with_the_reason(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let (host, daemon) = (&scenario.lan.host, &scenario.daemon);
    let settings = Settings {
        lease_time: Some(Duration::from_secs(120)),
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let mut conflist = scenario.dhcp();
    conflist["plugins"][0]["ipam"]["timeout"] = json!("1s");
    let network = Network::new(host, conflist);
    network.add(&named(&container, "web"))?;
    server.when(MessageType::Request).then(Reaction::silence());
    until("the lease is being renewed", SOON, || {
        listed(host, daemon, &["web"]).is_ok_and(|table| table.contains("RENEWING"))
    })?;
    let table = listed(host, daemon, &[])?;
    let absent = Attachment::new(&scenario.lan.container("c2")?);
    network.add(&absent).expect_err("the server is silent");
    let socket = daemon.socket().to_str().context("a path in UTF-8")?;
    let status = dhcp(host, &["status", "--socketpath", socket])?;
    ensure!(
        status.contains("\n1 lease (1 RENEWING), 1 failure in the last hour\n"),
        "{status}"
    );
    let problem = table.lines().nth(2).context("a line below the table")?;
    ensure!(
        problem.starts_with("c1/lan/eth0: ") && problem.contains("REQUEST"),
        "{table}"
    );
    Ok(())
}

fn a_lease_is_renewed_at_an_operators_wish(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let (host, daemon) = (&scenario.lan.host, &scenario.daemon);
    let socket = daemon.socket().to_str().context("a path in UTF-8")?;
    let renew = |id| dhcp(host, &["renew", "--socketpath", socket, id]);
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(host, scenario.dhcp());
    network.add(&named(&container, "web"))?;
    // The daemon tells the age of a lease in seconds.
    until("the lease is some seconds old", SOON, || {
        let listed = listed(host, daemon, &["--json"]).unwrap_or_default();
        let document: Value = serde_json::from_str(&listed).unwrap_or_default();
        document[0]["since"]
            .as_f64()
            .is_some_and(|since| since >= 2.0)
    })?;
    let before = server.received_of(MessageType::Request).len();
    let told = renew("web")?;
    let leased = address(&container)?;
    ensure!(
        told.starts_with(&format!("c1/lan/eth0: {leased}/24 from 10.99.0.1 for ")),
        "{told}"
    );
    ensure!(server.received_of(MessageType::Request).len() == before + 1);

    server.when(MessageType::Request).then(Reaction::silence());
    let told = renew("c1")
        .err()
        .context("the server is silent")?
        .to_string();
    ensure!(
        told.contains("no server has answered within 10 s; sent ") && told.contains("REQUEST"),
        "{told}"
    );
    ensure!(address(&container)? == leased, "it is still leased");
    Ok(())
}

fn a_lease_is_released_at_an_operators_wish(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let (host, daemon) = (&scenario.lan.host, &scenario.daemon);
    let socket = daemon.socket().to_str().context("a path in UTF-8")?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(host, scenario.dhcp());
    let containers = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    for container in &containers {
        network.add(&named(container, container.name()))?;
    }
    let told = dhcp(host, &["release", "--socketpath", socket, "c1"])?;
    ensure!(told.trim() == "c1/lan/eth0: released", "{told}");
    ensure!(containers[0].ipv4("eth0")?.is_empty());
    let kept = address(&containers[1])?;
    until("the address is given back", SOON, || {
        let leases = server.leases();
        leases.len() == 1 && leases[0].address == kept
    })
}

fn leases_of_a_daemon_that_is_not_there_are_an_error(_: &World) -> Result {
    let lan = Lan::new()?;
    let outcome = dhcp(&lan.host, &["leases", "--socketpath", "/run/nobody.sock"]);
    let told = outcome.err().context("no daemon")?.to_string();
    ensure!(
        told.contains("no dhcp daemon at /run/nobody.sock") && told.contains("--socketpath"),
        "{told}"
    );
    Ok(())
}
