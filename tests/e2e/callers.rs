//! Real callers: cnitool, CNI's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{self, Value};
use lab::suite::{self, cnitool};
use lab::{DhcpServer, Node, Result, Test, World, test, until};

use crate::scenario::{SOON, Scenario, ensure_nothing_left, reported};

pub(crate) const TESTS: &[Test] =
    &[test!(cnitool_adds_checks_and_deletes).needs(&[cnitool::CNITOOL])];

fn cnitool_adds_checks_and_deletes(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let configuration = world.dir().join("net.d");
    std::fs::create_dir(&configuration)?;
    std::fs::write(
        configuration.join("10-lan.conflist"),
        scenario.dhcp().to_string(),
    )?;
    let cnitool = Cnitool {
        program: cnitool::path()?,
        configuration,
    };

    let result: Value =
        serde_json::from_str(&cnitool.run(&scenario.lan.host, "add", &container.path())?)?;
    reported(&result, &container)?;
    cnitool.run(&scenario.lan.host, "check", &container.path())?;
    cnitool.run(&scenario.lan.host, "del", &container.path())?;
    ensure_nothing_left(&container)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;
    Ok(())
}

struct Cnitool {
    program: PathBuf,
    configuration: PathBuf,
}

impl Cnitool {
    fn run(&self, host: &Node, verb: &str, netns: &Path) -> Result<String> {
        let mut command = Command::new(&self.program);
        command
            .args([verb, "lan"])
            .arg(netns)
            .env("NETCONFPATH", &self.configuration)
            .env("CNI_PATH", suite::plugin_dir());
        let output = host.run(|| command.output())?.context("cnitool")?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success(),
            "cnitool {verb}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }
}
