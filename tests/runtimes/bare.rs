//! A newcomer's way from a bare Debian to a leased container, by the documents' own commands.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::Settings;
use lab::suite::cnitool::{self, CNITOOL};
use lab::suite::{Package, packages};
use lab::{DhcpServer, Lan, Process, Result, Test, World, test, until};

use crate::debian::{DEBIAN_12, DEBIAN_13, ROOTS, Release};
use crate::package::{self, MAKE};
use crate::scenario::{SOON, accepts};
use crate::systemd::Systemd;
use crate::{document, image, machine, podman};

pub(crate) const TESTS: &[Test] = &[
    test!(debian_12_with_the_package_takes_three_lines)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(debian_12_with_the_two_files_takes_three_lines)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(debian_13_with_podman_and_the_package_takes_three_lines)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(debian_13_with_the_package_takes_three_lines)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(debian_13_with_the_two_files_takes_three_lines)
        .needs(NEEDS)
        .within(APT_TIMEOUT),
    test!(the_readme_installs_the_checkout_on_a_fresh_machine)
        .needs(&[ROOTS, MAKE, image::PACKAGE, CNITOOL, packages::IPROUTE2])
        .within(APT_TIMEOUT),
];

pub(crate) const NEEDS: &[Package] = &[ROOTS, MAKE, image::PACKAGE];

/// apt reads its lists and unpacks some fifty packages.
pub(crate) const APT_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) const IMAGE: &str = "/run/lab/busybox.tar";

/// runc insists on a controller for the CPU shares that `ctr` always asks for; the machine of a test
/// has no controllers.
const RUNC: &str = r#"#!/bin/sh
for word; do
    [ ! -e "$word/config.json" ] || sed -i 's/"cpu":{"shares":1024}/"cpu":{}/' "$word/config.json"
done
exec /usr/sbin/runc "$@"
"#;

fn debian_12_with_the_package_takes_three_lines(world: &World) -> Result {
    with_podman(world, &DEBIAN_12, "Debian 12 with the package")
}

fn debian_12_with_the_two_files_takes_three_lines(world: &World) -> Result {
    with_podman(world, &DEBIAN_12, "Debian 12 with the two files")
}

fn debian_13_with_podman_and_the_package_takes_three_lines(world: &World) -> Result {
    with_podman(world, &DEBIAN_13, "Debian 13 with Podman and the package")
}

fn with_podman(world: &World, debian: &Release, heading: &str) -> Result {
    let newcomer = Newcomer::on(debian, world)?;
    let [software, network, container] = three_lines(heading)?;
    newcomer.shell(software)?;
    podman::configure()?;
    newcomer.shell(&format!("podman load --input {IMAGE}"))?;
    newcomer.shell(network)?;
    newcomer.shell(container)?;
    newcomer.leased()?;
    newcomer.shell("podman rm -f -t 0 web")?;
    newcomer.given_back()
}

fn debian_13_with_the_package_takes_three_lines(world: &World) -> Result {
    with_ctr(world, "Debian 13 with containerd and the package")
}

fn debian_13_with_the_two_files_takes_three_lines(world: &World) -> Result {
    with_ctr(world, "Debian 13 with containerd and the two files")
}

fn with_ctr(world: &World, heading: &str) -> Result {
    let newcomer = Newcomer::on(&DEBIAN_13, world)?;
    write_program("/usr/local/sbin/runc", RUNC.as_bytes())?;
    let [software, network, container] = three_lines(heading)?;
    newcomer.shell(software)?;
    newcomer.shell(network)?;
    // There is no registry.
    let (pull, run) = container.split_once(" && ").context("pull, then run")?;
    ensure!(
        pull == format!("ctr images pull {}", image::BUSYBOX),
        "{pull}"
    );
    newcomer.shell(&format!("ctr images import {IMAGE}"))?;
    newcomer.shell(run)?;
    newcomer.leased()?;
    newcomer.shell("ctr tasks kill -s KILL web")?;
    newcomer.given_back()
}

fn the_readme_installs_the_checkout_on_a_fresh_machine(world: &World) -> Result {
    let cnitool = fs::read(cnitool::path()?)?;
    let newcomer = Newcomer::on(&DEBIAN_12, world)?;
    write_program("/usr/local/bin/cnitool", &cnitool)?;
    newcomer.shell("apt-get -q -y install dnsmasq-base")?;
    let block = |document, heading| match document::commands(document, heading)[..] {
        [block] => Ok(block),
        ref blocks => bail!("one block in {document}, {heading}: {blocks:#?}"),
    };
    let at_checkout =
        |commands: &str| newcomer.shell(&format!("cd {}\n{commands}", machine::CHECKOUT));

    let install = block("README.md", "Install")?;
    let (build, install) = install
        .split_once("sudo ")
        .context("the build, then the rest")?;
    ensure!(build.contains("cargo build --release --target"), "{build}");
    at_checkout(install)?; // by root, and it is built already
    let told = at_checkout(block("README.md", "cnitool")?)?;
    ensure!(told.contains("inet 10.99.0.100/24"), "{told}");
    newcomer.given_back()?;
    at_checkout(block("docs/runtimes.md", "In CI")?)?;

    newcomer.shell("ip address add 10.99.0.2/24 dev eth1 && ip netns add web")?;
    let conflists = "NETCONFPATH=examples/conflists CNI_PATH=/opt/cni/bin";
    at_checkout(&format!("{conflists} cnitool add lan-host /run/netns/web"))?;
    let address = newcomer.leased()?.to_string();
    let told = at_checkout(block("docs/host-access.md", "When it does not work")?)?;
    ensure!(
        told.contains("alias leasehold:host") && told.contains(&address),
        "{told}"
    );
    for line in block("docs/troubleshooting.md", "Troubleshooting")?.lines() {
        // It listens until somebody interrupts it.
        if !line.starts_with("tcpdump ") {
            newcomer.shell(&line.replace("192.168.1.50", &address))?;
        }
    }
    at_checkout(&format!("{conflists} cnitool del lan-host /run/netns/web"))?;
    newcomer.given_back()?;

    newcomer.shell("systemctl stop cni-dhcp.socket cni-dhcp.service")?;
    let mut command = Command::new("sh");
    command.args(["-ec", block("docs/daemon.md", "The daemon")?]);
    let mut daemon = Process::spawn(world, &newcomer.lan.host, "by-hand", command)?;
    daemon.until("its socket accepts", SOON, accepts)
}

/// The only block below a heading of docs/runtimes.md.
fn three_lines(heading: &str) -> Result<[&'static str; 3]> {
    let [block] = document::commands("docs/runtimes.md", heading)[..] else {
        bail!("not one block below {heading}");
    };
    let lines: Vec<_> = block.lines().collect();
    let lines = lines.try_into();
    lines.map_err(|lines| lab::anyhow::anyhow!("not three lines: {lines:#?}"))
}

/// Somebody with a bare Debian on a LAN, who has fetched the package and the two programs.
pub(crate) struct Newcomer {
    pub(crate) lan: Lan,
    pub(crate) server: DhcpServer,
    pub(crate) systemd: Systemd,
}

/// Where the downloads are.
const DOWNLOADS: &str = "/root/downloads";

impl Newcomer {
    pub(crate) fn on(debian: &Release, world: &World) -> Result<Newcomer> {
        Newcomer::with_server(debian, world, Settings::default())
    }

    /// Like [`Newcomer::on`], with a DHCP server of these settings.
    pub(crate) fn with_server(
        debian: &Release,
        world: &World,
        settings: Settings,
    ) -> Result<Newcomer> {
        let package = package::build_outside(world)?;
        image::busybox(Path::new(IMAGE))?;
        machine::enter_root(world, &debian.root())?;
        fs::create_dir_all(DOWNLOADS)?;
        let programs = machine::checkout(&machine::programs());
        for file in [
            Path::new(&package),
            &programs.join("macvlan"),
            &programs.join("dhcp"),
        ] {
            let name = file.file_name().context("a file's name")?;
            fs::copy(file, Path::new(DOWNLOADS).join(name))?;
        }
        let lan = Lan::new()?;
        let server = DhcpServer::start(&lan.lan, settings)?;
        let systemd = Systemd::boot(world, &lan.host)?;
        Ok(Newcomer {
            lan,
            server,
            systemd,
        })
    }

    /// Runs commands as root, among the downloads.
    pub(crate) fn shell(&self, commands: &str) -> Result<String> {
        let network = format!("--net={}", self.lan.host.path().display());
        let commands = format!("cd {DOWNLOADS}\n{commands}");
        self.systemd
            .run(&["nsenter", &network, "sh", "-ec", &commands])
    }

    /// Waits until the server has one lease, whose holder answers.
    pub(crate) fn leased(&self) -> Result<Ipv4Addr> {
        let leased = until("an address is leased", SOON, || {
            self.server.leases().first().map(|lease| lease.address)
        })?;
        self.lan.lan.ping(leased.into(), SOON)?;
        Ok(leased)
    }

    pub(crate) fn given_back(&self) -> Result {
        until("the lease is given back", SOON, || {
            self.server.leases().is_empty()
        })
    }
}

fn write_program(path: &str, content: &[u8]) -> Result {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
