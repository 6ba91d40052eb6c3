//! The RPM: what is in it, and its life under systemd beside the Go plugins' units.
//!
//! Debian's `rpm` installs it, scripts included. It knows of no package that Debian has installed,
//! so dependencies are not checked.

use std::fs;
use std::path::Path;
use std::process::Command;

use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::Settings;
use lab::suite::{Package, packages};
use lab::{DhcpServer, Lan, Result, Test, World, test, until};

use crate::document;
use crate::machine::{self, output, run};
use crate::package::{self, MAKE, main_pid};
use crate::scenario::SOON;
use crate::systemd::{self, SYSTEMD, Systemd};

pub(crate) const TESTS: &[Test] = &[
    test!(the_rpm_has_programs_units_and_pages_in_their_places).needs(NEEDS),
    test!(the_rpm_lives_beside_the_go_plugins_and_loses_no_lease).needs(NEEDS),
];

const NEEDS: &[Package] = &[
    RPM,
    MAKE,
    packages::GO_PLUGINS,
    SYSTEMD[0], // systemd itself
    SYSTEMD[3], // man, which systemd-analyze asks for pages
];

const RPM: Package = Package::new("rpm", "rpm").then(install_generator);

const UNITS: [&str; 2] = ["leasehold-dhcp.socket", "leasehold-dhcp.service"];

/// What `packaging/rpm` needs, and could not fetch from within a test's own network.
fn install_generator() -> Result {
    output(
        Command::new("sh")
            .args(["-euc", ". packaging/facts && install_generator"])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    )?;
    Ok(())
}

fn the_rpm_has_programs_units_and_pages_in_their_places(world: &World) -> Result {
    let package = build(world, 1)?;
    let rpm = |words: &[&str]| output(Command::new("rpm").args(words));
    let queried = |query: &[&str]| rpm(&[&["--query", "--package"], query].concat());
    let fields = "%{NAME} %{RELEASE} %{ARCH} %{LICENSE}";
    let told = queried(&["--queryformat", fields, &package])?;
    let arch = std::env::consts::ARCH;
    ensure!(told == format!("leasehold 1 {arch} Apache-2.0"), "{told}");
    let files = "[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]";
    let told = queried(&["--queryformat", files, &package])?;
    let mut found: Vec<_> = told.lines().collect();
    found.sort_unstable_by_key(|line| line.rsplit(' ').next());
    ensure!(found == FILES, "{found:#?}");
    ensure!(queried(&["--conflicts", &package])?.is_empty());
    ensure!(queried(&["--recommends", &package])?.trim() == "containernetworking-plugins");
    rpm(&["--checksig", "--nosignature", &package])?;

    machine::enter(world)?;
    run(&["rpm", "--install", "--nodeps", "--noscripts", &package])?;
    let units = UNITS.map(|unit| format!("/usr/lib/systemd/system/{unit}"));
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=yes"]).args(&units);
    let verified = verify.output()?;
    let said = [verified.stdout, verified.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        verified.status.success() && !said.contains("dhcp"),
        "{said}"
    );
    Ok(())
}

const FILES: [&str; 12] = [
    "-rwxr-xr-x root:root /opt/cni/bin/dhcp",
    "-rwxr-xr-x root:root /opt/cni/bin/macvlan",
    "-rw-r--r-- root:root /usr/lib/systemd/system/cni-dhcp-podman.socket",
    "-rw-r--r-- root:root /usr/lib/systemd/system/leasehold-dhcp.service",
    "-rw-r--r-- root:root /usr/lib/systemd/system/leasehold-dhcp.socket",
    "-rw-r--r-- root:root /usr/share/doc/leasehold/10-lan.conflist",
    "-rw-r--r-- root:root /usr/share/doc/leasehold/CHANGELOG.md",
    "-rw-r--r-- root:root /usr/share/doc/leasehold/README.md",
    "-rw-r--r-- root:root /usr/share/doc/leasehold/podman-containers.conf",
    "-rw-r--r-- root:root /usr/share/licenses/leasehold/LICENSE",
    "-rw-r--r-- root:root /usr/share/man/man8/cni-dhcp.8.gz",
    "-rw-r--r-- root:root /usr/share/man/man8/cni-macvlan.8.gz",
];

/// Debian's package of the Go plugins has units of the same names as Fedora's.
fn the_rpm_lives_beside_the_go_plugins_and_loses_no_lease(world: &World) -> Result {
    let [package, newer] = [build(world, 1)?, build(world, 2)?];
    machine::enter(world)?;
    machine::write(
        "/usr/lib/systemd/system-preset/00-fedora.preset",
        "disable *\n",
    )?;
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let systemd = Systemd::boot(world, &lan.host)?;
    let before = package::listing()?;
    let theirs = fragment(&systemd, "cni-dhcp.service")?;
    systemd.run(&["systemctl", "enable", "--now", "cni-dhcp.socket"])?;

    // As on Fedora, the administrator decides what runs.
    systemd.run(&["rpm", "--install", "--nodeps", &package])?;
    let manual = systemd.run(&["zcat", "/usr/share/man/man8/cni-dhcp.8.gz"])?;
    let command = format!("systemctl enable --now {}", UNITS.join(" "));
    ensure!(manual.contains(&command), "{manual}");
    for unit in UNITS {
        ensure!(is_enabled(&systemd, unit)? == "disabled", "{unit}");
    }
    ensure!(systemd.state("cni-dhcp.socket")? == "active");
    ensure!(fragment(&systemd, "cni-dhcp.service")? == theirs);
    systemd.run(&["sh", "-exc", documented()?])?;
    for unit in UNITS {
        let alias = unit.replace("leasehold", "cni");
        ensure!(is_enabled(&systemd, unit)? == "enabled", "{unit}");
        ensure!(systemd.state(unit)? == "active", "{unit}");
        let overrides = fragment(&systemd, &alias)?;
        ensure!(overrides.ends_with(unit), "{alias} is {overrides}");
    }
    let told = systemd.run(&["/usr/lib/netavark/leasehold", "info"])?;
    ensure!(told.contains("\"api_version\":"), "{told}");
    let network = systemd::network_with(&lan.host, "/opt/cni/bin")?;
    let (attachment, container) = systemd::attached(&systemd, &network, &lan, "c1")?;
    let address = systemd::address(&container)?;

    let first = main_pid(&systemd)?;
    systemd.run(&["rpm", "--upgrade", "--nodeps", &newer])?;
    ensure!(main_pid(&systemd)? != first, "the new daemon runs");
    until("the lease is resumed", SOON, || {
        systemd.journal().contains("leases=1")
    })
    .with_context(|| systemd.journal())?;
    network.check(&attachment)?;
    ensure!(systemd::address(&container)? == address);
    for unit in UNITS {
        ensure!(is_enabled(&systemd, unit)? == "enabled", "{unit}");
    }
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;

    // What an administrator has disabled stays so in an upgrade, and what is stopped stays stopped.
    systemd.run(&["systemctl", "disable", "--now", UNITS[0], UNITS[1]])?;
    systemd.run(&["rpm", "--reinstall", "--nodeps", &newer])?;
    for unit in UNITS {
        ensure!(is_enabled(&systemd, unit)? == "disabled", "{unit}");
        ensure!(systemd.state(unit)? == "inactive", "{unit}");
    }

    systemd.run(&["systemctl", "enable", "--now", UNITS[1]])?;
    systemd.run(&["rpm", "--erase", "leasehold"])?;
    ensure!(fragment(&systemd, "cni-dhcp.service")? == theirs);
    ensure!(systemd.state("cni-dhcp.socket")? == "inactive");
    ensure!(!Path::new("/run/cni/dhcp.sock").exists());
    let after = package::listing()?;
    let mut left = package::differences(&before, &after);
    left.retain(|file| !file.starts_with("/var/lib/cni/dhcp/")); // who has had which address
    ensure!(left.is_empty(), "left behind or missing: {left:?}");
    Ok(())
}

/// Builds the package, before the machine is entered.
fn build(world: &World, release: u32) -> Result<String> {
    let (programs, to) = (world.dir().join("programs"), world.dir().join("rpms"));
    machine::copy_programs(&programs)?;
    fs::create_dir_all(&to)?;
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(checkout.join("packaging/rpm"));
    command.env("COMPRESSION", "none");
    command.args([&programs, &to]).arg(release.to_string());
    output(&mut command)?;
    let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let package = to.join(format!("leasehold-{version}-{release}.{arch}.rpm"));
    ensure!(package.is_file(), "{} is not there", package.display());
    Ok(package.display().to_string())
}

/// What the documentation has Fedora's administrators do once the package is there.
fn documented() -> Result<&'static str> {
    let [block] = document::commands("docs/runtimes.md", "Fedora")[..] else {
        bail!("one block in docs/runtimes.md, Fedora");
    };
    let (install, rest) = block.split_once('\n').context("two commands")?;
    ensure!(install.starts_with("dnf install "), "{install}");
    Ok(rest)
}

fn is_enabled(systemd: &Systemd, unit: &str) -> Result<String> {
    let told = systemd.run(&["sh", "-c", &format!("systemctl is-enabled {unit} || :")])?;
    Ok(told.trim().to_owned())
}

/// The file that a unit of this name comes from.
fn fragment(systemd: &Systemd, unit: &str) -> Result<String> {
    let told = systemd.run(&[
        "systemctl",
        "show",
        "--value",
        "--property=FragmentPath",
        unit,
    ])?;
    Ok(told.trim().to_owned())
}
