//! Real callers: cnitool, CNI's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{self, Value};
use lab::servers::DNSMASQ;
use lab::suite::{self, cnitool, packages};
use lab::{DhcpServer, Node, Result, Test, World, test, until};

use nix::mount::{MsFlags, mount};

use crate::scenario::{SOON, Scenario, ensure_nothing_left, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(cnitool_adds_checks_and_deletes).needs(&[cnitool::CNITOOL]),
    test!(the_example_for_ci_runs_as_it_is).needs(&[
        cnitool::CNITOOL,
        DNSMASQ.package,
        packages::IPROUTE2,
    ]),
];

/// `examples/ci/`.
const LAN_TEST: &str = include_str!("../../examples/ci/lan-test.sh");
const LAN: &str = include_str!("../../examples/ci/lan.conflist");

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

fn the_example_for_ci_runs_as_it_is(_: &World) -> Result {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        // The script mounts an empty /run, and the world's directory is there.
        let file = Path::new("/mnt").join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    };
    mount_empty("/mnt")?;
    let (script, conflist) = (write("lan-test.sh", LAN_TEST)?, write("lan.conflist", LAN)?);
    let cnitool = cnitool::path()?;
    let folder = cnitool.parent().context("a file is in a folder")?;
    let run = |conflist: &Path| {
        let mut command = Command::new("sh");
        command
            .arg(&script)
            .arg(suite::plugin_dir())
            .arg(conflist)
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display()),
            );
        command.output()
    };
    let output = run(&conflist)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("inet 192.168.1.") && text.contains("works"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // What is missing is named at once.
    let mut incomplete = Command::new("sh");
    let told = incomplete.arg(&script).arg(suite::plugin_dir()).output()?;
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    ensure!(
        told.status.code() == Some(2) && words.contains("PLUGINS CONFLIST"),
        "{words}"
    );
    let mut incomplete = Command::new("/bin/sh");
    incomplete
        .arg(&script)
        .arg(suite::plugin_dir())
        .arg(&conflist);
    let told = incomplete.env("PATH", "/nonexistent").output()?;
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    ensure!(
        told.status.code() == Some(2) && words.contains("needs dnsmasq"),
        "{words}"
    );
    // A network that does not work is a failure.
    let broken = write("broken.conflist", &LAN.replace("eth1", "eth7"))?;
    let output = run(&broken)?;
    ensure!(!output.status.success(), "{output:?}");
    Ok(())
}

fn mount_empty(directory: &str) -> Result {
    let none = None::<&str>;
    mount(none, directory, Some("tmpfs"), MsFlags::empty(), none)?;
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
