//! `dhcp adopt`: the leases of containers that the Go plugins attached, by way of the cache that
//! cnitool's libcni wrote.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::plugin::DEBIANS_PLUGINS;
use lab::serde_json::{self, Value};
use lab::suite::{self, cnitool, packages};
use lab::{Daemon, DhcpServer, Lan, Node, Result, Test, World, test, until};

use crate::limits::dhcp;
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(leases_of_the_go_daemon_are_adopted).needs(&[packages::GO_PLUGINS, cnitool::CNITOOL]),
    test!(a_container_without_its_address_is_not_adopted)
        .needs(&[packages::GO_PLUGINS, cnitool::CNITOOL]),
    test!(each_file_that_cannot_be_read_is_reported_on_a_line),
];

/// A LAN whose containers the Go plugins attached, with a daemon that has lost its leases since.
struct Migration<'a> {
    world: &'a World,
    lan: Lan,
    server: DhcpServer,
}

impl Migration<'_> {
    fn new(world: &World) -> Result<Migration<'_>> {
        let lan = Lan::new()?;
        let settings = Settings {
            lease_time: Some(Duration::from_secs(12)),
            ..Settings::default()
        };
        let server = DhcpServer::start(&lan.lan, settings)?;
        Ok(Migration { world, lan, server })
    }

    /// Attaches a container with the Go plugins, and ends their daemon.
    fn attach_with_go(&self, container: &Node) -> Result<String> {
        let go = Path::new(DEBIANS_PLUGINS);
        let daemon = Daemon::start_program(self.world, &self.lan.host, &go.join("dhcp"), &[])?;
        let networks = self.world.dir().join("net.d");
        fs::create_dir(&networks)?;
        let conflist = dhcp(daemon.socket()).to_string();
        fs::write(networks.join("10-lan.conflist"), conflist)?;
        let added = self.cnitool(go, "add", container)?;
        daemon.kill()?;
        let result: Value = serde_json::from_str(&added)?;
        let net = result["ips"][0]["address"].as_str().context("an address")?;
        let address = net.split('/').next().unwrap_or_default();
        Ok(address.to_owned())
    }

    fn cnitool(&self, plugins: &Path, verb: &str, container: &Node) -> Result<String> {
        let mut command = Command::new(cnitool::path()?);
        command
            .args([verb, "lan"])
            .arg(container.path())
            .env("NETCONFPATH", self.world.dir().join("net.d"))
            .env("CNI_PATH", plugins);
        let output = self.lan.host.run(|| command.output())??;
        ensure!(output.status.success(), "cnitool {verb}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn adopt(&self) -> Result<Output> {
        let mut command = Command::new(suite::plugin_dir().join("dhcp"));
        Ok(self.lan.host.run(|| command.arg("adopt").output())??)
    }
}

fn leases_of_the_go_daemon_are_adopted(world: &World) -> Result {
    let migration = Migration::new(world)?;
    let container = migration.lan.container("c1")?;
    let address = migration.attach_with_go(&container)?;

    let daemon = Daemon::start(world, &migration.lan.host)?;
    let output = migration.adopt()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains(&format!("/lan/eth0: adopted {address}")),
        "{output:?}"
    );
    until("the lease is renewed", SOON, || {
        daemon.log().contains("lease renewed")
    })?;
    migration.cnitool(suite::plugin_dir(), "check", &container)?;
    ensure!(container.ipv4("eth0")?[0].addr().to_string() == address);
    ensure!(migration.server.leases().len() == 1);

    let output = migration.adopt()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("skipped: the daemon has its lease"),
        "{output:?}"
    );
    migration.cnitool(suite::plugin_dir(), "del", &container)?;
    ensure_nothing_left(&container)?;
    until("the lease is released", SOON, || {
        migration.server.leases().is_empty()
    })
}

fn a_container_without_its_address_is_not_adopted(world: &World) -> Result {
    let migration = Migration::new(world)?;
    let container = migration.lan.container("c1")?;
    let address = migration.attach_with_go(&container)?;
    let link = container.link("eth0")?;
    let net = container.ipv4("eth0")?[0];
    container.netlink()?.delete_address(link.index, net)?;

    let daemon = Daemon::start(world, &migration.lan.host)?;
    let output = migration.adopt()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && text.contains(&format!("does not have {address}")),
        "{output:?}"
    );
    ensure!(!daemon.log().contains("leased"), "{}", daemon.log());

    container.remove()?;
    let output = migration.adopt()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("skipped: the container is gone"),
        "{output:?}"
    );
    Ok(())
}

fn each_file_that_cannot_be_read_is_reported_on_a_line(world: &World) -> Result {
    for name in ["lan-c1-eth0", "lan-c2-eth0", "forged\nadopted"] {
        fs::write(world.dir().join(name), "{")?;
    }
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    let output = command
        .args(["adopt", "--cachedir"])
        .arg(world.dir())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines();
    ensure!(
        !output.status.success()
            && text.lines().count() == 3
            && lines.all(|line| line.starts_with("dhcp: /") && line.contains(": ")),
        "{output:?}"
    );
    Ok(())
}
