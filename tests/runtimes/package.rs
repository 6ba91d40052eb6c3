//! The Debian package's life on a machine: installed, upgraded, removed and purged, alone and
//! beside containernetworking-plugins, with systemd running.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::suite::Package;
use lab::{Attachment, DhcpServer, Lan, Result, Test, World, test, until};

use crate::debian::{DEBIAN_12, DEBIAN_13, ROOTS, Release};
use crate::machine::{self, output, run};
use crate::scenario::SOON;
use crate::systemd::{self, SYSTEMD, Systemd};

pub(crate) const TESTS: &[Test] = &[
    test!(the_package_is_installed_upgraded_and_purged_and_loses_no_lease)
        .needs(SYSTEMD)
        .within(PACKAGE_TEST_TIMEOUT),
    test!(the_package_replaces_debians_plugins_and_restores_them_on_removal)
        .needs(SYSTEMD)
        .within(PACKAGE_TEST_TIMEOUT),
    test!(the_units_run_beside_debian_12s_plugins)
        .needs(&[ROOTS, MAKE])
        .within(PACKAGE_TEST_TIMEOUT),
    test!(the_units_run_beside_debian_13s_plugins)
        .needs(&[ROOTS, MAKE])
        .within(PACKAGE_TEST_TIMEOUT),
];

/// What the package is built with.
pub(crate) const MAKE: Package = Package::new("make", "make");

/// dpkg and xz take their time on a busy machine.
const PACKAGE_TEST_TIMEOUT: Duration = Duration::from_secs(240);

/// Files that both packages have, and how theirs are named while ours are there. The unit's is the
/// old spelling of the path, which theirs has in Debian 12.
const SHARED: [(&str, &str); 3] = [
    ("/usr/lib/cni/macvlan", "/usr/lib/cni/macvlan.distrib"),
    ("/usr/lib/cni/dhcp", "/usr/lib/cni/dhcp.distrib"),
    (
        "/lib/systemd/system/cni-dhcp.service",
        "/lib/systemd/system/cni-dhcp.service.distrib.usr-is-merged",
    ),
];

fn the_package_is_installed_upgraded_and_purged_and_loses_no_lease(world: &World) -> Result {
    machine::enter(world)?;
    without_debians_plugins()?;
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let systemd = Systemd::boot(world, &lan.host)?;
    let before = listing()?;

    install(&systemd, &build(1)?)?;
    for unit in ["cni-dhcp.socket", "cni-dhcp.service"] {
        ensure!(
            systemd.state(unit)? == "active",
            "{unit} is {}\n{}",
            systemd.state(unit)?,
            systemd.journal()
        );
        systemd.run(&["systemctl", "is-enabled", unit])?;
    }
    let told = systemd.run(&["/usr/lib/netavark/leasehold", "info"])?;
    ensure!(told.contains("\"api_version\":"), "{told}");
    let network = systemd::network(&lan.host)?;
    let (attachment, container) = systemd::attached(&systemd, &network, &lan, "c1")?;
    let address = systemd::address(&container)?;

    // The daemon is exchanged under the callers' hands, and none of them notices.
    let newer = build(2)?;
    let first = main_pid(&systemd)?;
    let done = AtomicBool::new(false);
    let (installed, called) = thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut calls = 0;
            while !done.load(Relaxed) {
                run(&["/usr/lib/cni/dhcp", "status"])
                    .with_context(|| format!("after {calls} calls"))?;
                calls += 1;
            }
            Ok::<u32, lab::anyhow::Error>(calls)
        });
        let installed = install(&systemd, &newer);
        done.store(true, Relaxed);
        (installed, caller.join())
    });
    installed?;
    let calls = called.map_err(|_| lab::anyhow::anyhow!("the caller panicked"))??;
    ensure!(
        calls > 0 && main_pid(&systemd)? != first,
        "the upgrade starts the new daemon"
    );
    ensure!(
        systemd.journal().contains("leases=1"),
        "{}",
        systemd.journal()
    );
    network.check(&attachment)?;
    ensure!(systemd::address(&container)? == address);
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;

    systemd.run(&["dpkg", "--purge", "leasehold"])?;
    ensure!(systemd.state("cni-dhcp.socket")? == "inactive");
    ensure!(run(&["dpkg-divert", "--list", "leasehold"])?.is_empty());
    ensure!(!Path::new("/var/lib/cni/dhcp").exists());
    let after = listing()?;
    ensure!(
        before == after,
        "left behind or missing: {:?}",
        differences(&before, &after)
    );
    Ok(())
}

fn the_package_replaces_debians_plugins_and_restores_them_on_removal(world: &World) -> Result {
    machine::enter(world)?;
    without_debians_plugins()?;
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let systemd = Systemd::boot(world, &lan.host)?;

    // Theirs first, then ours; an upgrade of theirs must not reach ours.
    install(&systemd, &build_theirs(1)?)?;
    install(&systemd, &build(1)?)?;
    install(&systemd, &build_theirs(2)?)?;
    for (ours, theirs) in SHARED {
        ensure!(
            fs::read_to_string(theirs).is_ok_and(|text| text == "theirs 2"),
            "{theirs}"
        );
        ensure!(fs::read(ours)? != b"theirs 2", "{ours}");
    }
    let network = systemd::network(&lan.host)?;
    let (attachment, _): (Attachment, _) = systemd::attached(&systemd, &network, &lan, "c1")?;
    network.del(&attachment)?;

    systemd.run(&["dpkg", "--remove", "leasehold"])?;
    systemd.run(&["dpkg", "--purge", "leasehold"])?;
    for (theirs, diverted) in SHARED {
        ensure!(
            fs::read_to_string(theirs)? == "theirs 2" && !Path::new(diverted).exists(),
            "{theirs}"
        );
    }
    let verified = run(&["dpkg", "--verify", "containernetworking-plugins"])?;
    ensure!(verified.is_empty(), "{verified}");

    // Ours first, then theirs.
    systemd.run(&["dpkg", "--purge", "containernetworking-plugins"])?;
    install(&systemd, &build(1)?)?;
    install(&systemd, &build_theirs(3)?)?;
    for (ours, theirs) in SHARED {
        ensure!(
            fs::read_to_string(theirs)? == "theirs 3" && fs::read(ours)? != b"theirs 3",
            "{ours}"
        );
    }
    Ok(())
}

fn the_units_run_beside_debian_12s_plugins(world: &World) -> Result {
    the_units_run_beside_debians_plugins(world, &DEBIAN_12)
}

fn the_units_run_beside_debian_13s_plugins(world: &World) -> Result {
    the_units_run_beside_debians_plugins(world, &DEBIAN_13)
}

/// With Debian's own package, whose maintainer scripts leave records about units of these names.
fn the_units_run_beside_debians_plugins(world: &World, debian: &Release) -> Result {
    let package = build_outside(world)?;
    machine::enter_root(world, &debian.root())?;
    let lan = Lan::new()?;
    let systemd = Systemd::boot(world, &lan.host)?;
    let apt = |verb: &str, package: &str| {
        systemd
            .run(&["apt-get", "--quiet=2", "--yes", verb, package])
            .with_context(|| format!("apt-get {verb} {package}"))
    };

    // Theirs first, then ours; and again.
    apt("install", THEIRS)?;
    for _ in 0..2 {
        apt("install", &package)?;
        ensure_ours_run(&systemd, "after ours")?;
        apt("remove", "leasehold")?;
        ensure_theirs_are_back(&systemd, "disabled", "inactive")?;
    }

    // What the administrator has disabled stays so in an upgrade.
    apt("install", &package)?;
    systemd.run(&["systemctl", "disable", "cni-dhcp.service"])?;
    apt("reinstall", &package)?;
    let enabled = systemd.run(&["sh", "-c", "systemctl is-enabled cni-dhcp.service || :"])?;
    ensure!(enabled.trim() == "disabled", "after an upgrade: {enabled}");
    apt("remove", "leasehold")?;

    // An administrator who has enabled theirs has them again.
    systemd.run(&["systemctl", "enable", "--now", "cni-dhcp.socket"])?;
    apt("install", &package)?;
    ensure_ours_run(&systemd, "after theirs were enabled")?;
    systemd.run(&["systemctl", "disable", "--now", "cni-dhcp.service"])?;
    apt("remove", "leasehold")?;
    ensure_theirs_are_back(&systemd, "enabled", "active")?;
    systemd.run(&["systemctl", "disable", "--now", "cni-dhcp.socket"])?;

    // Ours first, then theirs, which are purged.
    apt("purge", "leasehold")?;
    apt("purge", THEIRS)?;
    apt("install", &package)?;
    apt("install", THEIRS)?;
    ensure_ours_run(&systemd, "after theirs")?;
    apt("purge", THEIRS)?;
    ensure_ours_run(&systemd, "after the purge of theirs")?;
    apt("purge", "leasehold")?;
    ensure!(systemd.state("cni-dhcp.socket")? == "inactive");
    const FIND: &str = "find /etc /usr/lib /usr/share /var/lib \\( -name '*cni-dhcp*' -o -name '*.distrib*' -o -name 'leasehold*' \\)";
    let left = run(&["sh", "-c", FIND])?;
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}

const THEIRS: &str = "containernetworking-plugins";

fn ensure_ours_run(systemd: &Systemd, when: &str) -> Result {
    for unit in ["cni-dhcp.socket", "cni-dhcp.service"] {
        systemd
            .run(&["systemctl", "is-enabled", unit])
            .with_context(|| format!("{unit} {when}"))?;
        let state = systemd.state(unit)?;
        ensure!(
            state == "active",
            "{unit} {when}: {state}\n{}",
            systemd.journal()
        );
    }
    systemd.run(&["/usr/lib/cni/dhcp", "status"])?;
    Ok(())
}

/// Whether Debian's files are theirs again, and their socket is as it was.
fn ensure_theirs_are_back(systemd: &Systemd, enabled: &str, active: &str) -> Result {
    let verified = systemd.run(&["dpkg", "--verify", THEIRS])?;
    ensure!(verified.is_empty(), "{verified}");
    ensure!(run(&["dpkg-divert", "--list", "leasehold"])?.is_empty());
    let told = systemd.run(&["sh", "-c", "systemctl is-enabled cni-dhcp.socket || :"])?;
    ensure!(told.trim() == enabled, "their socket is {told}");
    let state = systemd.state("cni-dhcp.socket")?;
    ensure!(state == active, "their socket is {state}");
    ensure!(systemd.state("cni-dhcp.service")? == "inactive");
    Ok(())
}

/// Builds our package in a revision, from the programs under test.
fn build(revision: u32) -> Result<String> {
    let programs = machine::checkout(&machine::programs());
    build_from(
        Path::new(machine::CHECKOUT),
        &programs,
        Path::new("/tmp/packages"),
        revision,
    )
}

fn build_from(checkout: &Path, programs: &Path, to: &Path, revision: u32) -> Result<String> {
    fs::create_dir_all(to)?;
    let mut command = Command::new(checkout.join("packaging/deb"));
    command
        .env("DPKG_DEB_COMPRESSOR_LEVEL", "0")
        .args([programs, to])
        .arg(revision.to_string());
    output(&mut command)?;
    let suffix = format!("-{revision}_");
    let package = fs::read_dir(to)?
        .flatten()
        .find(|file| file.file_name().to_string_lossy().contains(&suffix));
    Ok(package
        .context("a package was built")?
        .path()
        .display()
        .to_string())
}

/// Builds our package before the machine is entered, which may have no tools for it.
pub(crate) fn build_outside(world: &World) -> Result<String> {
    let programs = world.dir().join("programs");
    machine::copy_programs(&programs)?;
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    build_from(checkout, &programs, &world.dir().join("packages"), 1)
}

/// A package with the name and the paths of Debian's.
fn build_theirs(version: u32) -> Result<String> {
    let (stage, package) = (
        format!("/tmp/theirs-{version}"),
        format!("/tmp/theirs-{version}.deb"),
    );
    for (file, _) in SHARED {
        machine::write(format!("{stage}{file}"), &format!("theirs {version}"))?;
    }
    machine::write(
        format!("{stage}/DEBIAN/control"),
        &format!(
            "Package: containernetworking-plugins\nVersion: {version}\nArchitecture: all\nMaintainer: A Test <test@example.org>\nDescription: stands for Debian's\n"
        ),
    )?;
    run(&["dpkg-deb", "--build", &stage, &package])?;
    Ok(package)
}

fn install(systemd: &Systemd, package: &str) -> Result {
    systemd.run(&["dpkg", "--force-unsafe-io", "--install", package])?;
    Ok(())
}

fn without_debians_plugins() -> Result {
    // On a build machine a policy may forbid to start services.
    let _ = fs::remove_file("/usr/sbin/policy-rc.d");
    let installed = run(&[
        "dpkg-query",
        "--show",
        "--showformat=${Status}",
        "containernetworking-plugins",
    ]);
    if installed.is_ok_and(|status| status.contains(" installed")) {
        run(&[
            "dpkg",
            "--purge",
            "--force-depends",
            "containernetworking-plugins",
        ])?;
    }
    Ok(())
}

pub(crate) fn main_pid(systemd: &Systemd) -> Result<String> {
    systemd.run(&[
        "systemctl",
        "show",
        "--property=MainPID",
        "cni-dhcp.service",
    ])
}

/// All places where a package may leave something.
pub(crate) fn listing() -> Result<Vec<String>> {
    // Not every one of these directories need be there.
    const FIND: &str = "find /etc /lib/systemd/ /opt /usr/lib/cni /usr/lib/netavark /usr/share /var/lib/cni /var/lib/systemd ! -type d 2>/dev/null | sort";
    Ok(run(&["sh", "-c", FIND])?
        .lines()
        .map(str::to_owned)
        .collect())
}

pub(crate) fn differences<'a>(before: &'a [String], after: &'a [String]) -> Vec<&'a String> {
    let [before, after] = [before, after].map(|files| files.iter().collect::<BTreeSet<_>>());
    before.symmetric_difference(&after).copied().collect()
}
