//! systemd: the units by its own tools, and the daemon run by it, hardened as it is shipped.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{self, Value};
use lab::suite::Package;
use lab::{Attachment, DhcpServer, Lan, Network, Node, Process, Result, Test, World, test, until};

use attachment::host_access::HostRoute;
use nix::unistd::Pid;

use crate::machine::{self, output, run};
use crate::scenario::{PLUGINS, SOCKET, SOON, accepts};

pub(crate) const SYSTEMD: &[Package] = &[
    Package::new("systemd", "systemd-analyze"),
    Package::new("make", "make"),
    Package::new("mandoc", "mandoc"),
    Package::new("man-db", "man"), // systemd-analyze looks for the documentation that a unit names
];

pub(crate) const TESTS: &[Test] = &[
    test!(systemd_finds_no_fault_with_the_units).needs(SYSTEMD),
    test!(systemd_runs_the_daemon_as_hardened_as_its_unit_says).needs(SYSTEMD),
    test!(the_daemon_under_systemd_restores_the_hosts_route).needs(SYSTEMD),
    test!(the_daemon_under_systemd_notices_containers_that_disappear).needs(SYSTEMD),
    test!(the_unit_takes_over_from_a_daemon_that_runs_already).needs(SYSTEMD),
    test!(the_documented_drop_in_lets_the_daemon_open_namespaces_of_processes).needs(SYSTEMD),
];

/// What systemd finds exposed, of 10.0. What is left is the host's network and the capabilities for
/// it, root, and what an option forbids together with something that the daemon needs.
const EXPOSURE: &str = "20"; // tenths

/// Has systemd expect heartbeats more often than the unit does, so that a test sees them missed.
const WATCHDOG: &str = "[Service]\nWatchdogSec=1s\n";

fn systemd_finds_no_fault_with_the_units(world: &World) -> Result {
    machine::enter(world)?;
    make("install")?;
    let units = [
        "/usr/lib/systemd/system/cni-dhcp.service",
        "/usr/lib/systemd/system/cni-dhcp.socket",
        "/usr/lib/systemd/system/cni-dhcp-podman.socket",
    ];
    let manual = "/usr/share/man/man8/cni-dhcp.8";
    for file in units.into_iter().chain([manual]) {
        let mode = fs::metadata(file)?.permissions().mode();
        ensure!(mode & 0o777 == 0o644, "{file}: {mode:o}");
    }
    let mut verify = Command::new("systemd-analyze");
    let told = verify.args(["verify", "--man=yes"]).args(units).output()?;
    let told_all = [told.stdout, told.stderr].concat();
    let said = String::from_utf8_lossy(&told_all);
    ensure!(
        told.status.success() && !said.contains("cni-dhcp"),
        "{said}"
    );
    run(&[
        "systemd-analyze",
        "security",
        "--offline=true",
        &format!("--threshold={EXPOSURE}"),
        units[0],
    ])?;

    run(&[
        "mandoc",
        "-Tlint",
        "-Wwarning",
        "packaging/man/cni-dhcp.8",
        "packaging/man/cni-macvlan.8",
    ])?;

    let told = run(&["/usr/lib/netavark/leasehold", "info"])?;
    ensure!(told.contains("\"api_version\":"), "{told}");

    make("uninstall")?;
    let others = [manual, "/usr/lib/netavark", "/usr/lib/cni/dhcp"];
    for file in units.into_iter().chain(others) {
        ensure!(!Path::new(file).exists(), "{file} is still there");
    }
    Ok(())
}

/// A machine on a LAN, with the programs and units installed, and a server whose leases are soon due
/// for renewal.
fn installed(world: &World) -> Result<(Lan, DhcpServer)> {
    machine::enter(world)?;
    make("install")?;
    let lan = Lan::new()?;
    let lease = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, lease)?;
    Ok((lan, server))
}

fn systemd_runs_the_daemon_as_hardened_as_its_unit_says(world: &World) -> Result {
    let (lan, server) = installed(world)?;
    machine::write(
        "/etc/systemd/system/cni-dhcp.service.d/watchdog.conf",
        WATCHDOG,
    )?;
    let systemd = Systemd::boot(world, &lan.host)?;
    systemd.run(&["systemctl", "start", "cni-dhcp.socket"])?;
    ensure!(
        fs::metadata(SOCKET)?.permissions().mode() & 0o777 == 0o600,
        "the socket is for root alone"
    );
    ensure!(
        systemd.state("cni-dhcp.service")? == "inactive",
        "the first caller starts the daemon"
    );

    // A netns that is younger than systemd, in a daemon that is younger still.
    let network = network(&lan.host)?;
    let older = attached(&systemd, &network, &lan, "c1")?;
    ensure!(systemd.state("cni-dhcp.service")? == "active");
    // And one that is younger than the daemon, whose own mounts were made before.
    let younger = attached(&systemd, &network, &lan, "c2")?;
    server
        .wait_for(MessageType::Request, 4, SOON)
        .context("both are renewed")
        .with_context(|| systemd.journal())?;
    ensure!(
        systemd.netns_kept()? == 0,
        "it finds both namespaces by their paths"
    );

    // The address is lost, and another leased: the container follows.
    let first = address(&younger.1)?;
    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    server.reconfigure(|settings| settings.pool = pool);
    server.forget();
    until("the address is another", Duration::from_secs(15), || {
        address(&younger.1).is_ok_and(|now| now != first) && address(&older.1).is_ok()
    })
    .with_context(|| systemd.journal())?;
    systemd.ensure_nothing_was_denied()?;
    let restarts = systemd.show("NRestarts")?;
    ensure!(restarts == "0", "no heartbeat was missed: {restarts}");

    // Killed, it is started again by systemd, and goes on with its leases; meanwhile callers wait
    // on the socket.
    systemd.run(&[
        "systemctl",
        "kill",
        "--kill-whom=main",
        "--signal=KILL",
        "cni-dhcp.service",
    ])?;
    run(&["/usr/lib/cni/dhcp", "status"])?;
    let log = || systemd.journal().contains("leases=2");
    until("the leases are taken up again", SOON, log).with_context(|| systemd.journal())?;
    lan.lan.ping(address(&younger.1)?.into(), SOON)?;

    for (attachment, _) in [&older, &younger] {
        network.del(attachment).with_context(|| systemd.journal())?;
    }
    until("the leases are given back", SOON, || {
        server.leases().is_empty()
    })
    .with_context(|| systemd.journal())?;
    Ok(())
}

/// With all that the unit forbids the daemon can still make what `hostAccess` needs.
fn the_daemon_under_systemd_restores_the_hosts_route(world: &World) -> Result {
    machine::enter(world)?;
    make("install")?;
    let lan = Lan::new()?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    let lease = Settings {
        lease_time: Some(Duration::from_secs(4)),
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, lease)?;
    let systemd = Systemd::boot(world, &lan.host)?;
    systemd.run(&["systemctl", "start", "cni-dhcp.socket"])?;
    let mut conflist = example()?;
    conflist["plugins"][0]["hostAccess"] = true.into();
    conflist["plugins"][0]["guard"] = true.into();
    let network = Network::with_path(&lan.host, conflist, vec![PLUGINS.into()]);
    let (attachment, container) = attached(&systemd, &network, &lan, "c1")?;
    let routes = || HostRoute::all(&lan.host.netlink()?).context("routes");
    ensure!(routes()?.len() == 1);

    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(Reaction::silence());
    }
    until("route and shim are gone", SOON, || {
        routes().is_ok_and(|all| all.is_empty()) && lan.host.link("lh-eth1").is_err()
    })
    .with_context(|| systemd.journal())?;
    server.behave();
    until("the route is there again", Duration::from_secs(15), || {
        routes().is_ok_and(|all| all.len() == 1)
    })
    .with_context(|| systemd.journal())?;
    lan.host.ping(address(&container)?.into(), SOON)?;
    network.del(&attachment)?;
    ensure!(routes()?.is_empty() && lan.host.link("lh-eth1").is_err());
    Ok(())
}

/// The daemon that the unit confines sees what happens outside: a namespace goes, and GC leaves
/// only what the runtime still knows.
fn the_daemon_under_systemd_notices_containers_that_disappear(world: &World) -> Result {
    let (lan, server) = installed(world)?;
    let systemd = Systemd::boot(world, &lan.host)?;
    systemd.run(&["systemctl", "start", "cni-dhcp.socket"])?;
    let mut conflist = example()?;
    conflist["cniVersion"] = "1.1.0".into();
    let network = Network::with_path(&lan.host, conflist, vec![PLUGINS.into()]);
    network.status().with_context(|| systemd.journal())?;
    let (_, vanishes) = attached(&systemd, &network, &lan, "c1")?;
    let _collected = attached(&systemd, &network, &lan, "c2")?;
    let (kept, _) = attached(&systemd, &network, &lan, "c3")?;

    // A namespace that is named by a process. Without CAP_SYS_PTRACE, the daemon keeps it open.
    let container = lan.container("c4")?;
    let mut command = Command::new("sleep");
    command.arg("1000");
    let sleep = Process::spawn(world, &container, "sleep", command)?;
    let by_process = Attachment {
        netns: Some(format!("/proc/{}/ns/net", sleep.pid()).into()),
        ..Attachment::new(&container)
    };
    network
        .add(&by_process)
        .with_context(|| systemd.journal())?;
    ensure!(systemd.netns_kept()? == 1);

    vanishes.remove()?;
    until("its lease is dropped", SOON, || {
        systemd.journal().contains("lease dropped")
    })
    .with_context(|| systemd.journal())?;
    network.gc(&[&kept, &by_process])?;
    let released = || server.received_of(MessageType::Release).len() == 1;
    until("GC releases the other", SOON, released).with_context(|| systemd.journal())?;

    let leased = address(&container)?;
    let is_renewed = || {
        let requests = server.received_of(MessageType::Request);
        let renewals = requests.iter().filter(|one| *one.source.ip() == leased);
        renewals.count() > 0
    };
    until("that of the process is renewed", SOON, is_renewed).with_context(|| systemd.journal())?;
    for attachment in [&kept, &by_process] {
        network.check(attachment)?;
        network.del(attachment)?;
    }
    ensure!(systemd.netns_kept()? == 0);
    systemd.ensure_nothing_was_denied()
}

fn the_unit_takes_over_from_a_daemon_that_runs_already(world: &World) -> Result {
    machine::enter(world)?;
    make("install")?;
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let systemd = Systemd::boot(world, &lan.host)?;
    let daemon = ["/usr/lib/cni/dhcp", "daemon"];
    systemd.run(&[&["systemd-run", "--unit=earlier"], &daemon[..]].concat())?;
    until("it serves", SOON, accepts).with_context(|| systemd.journal())?;
    let network = network(&lan.host)?;
    let (attachment, _) = attached(&systemd, &network, &lan, "c1")?;

    systemd.run(&["systemctl", "start", "cni-dhcp.socket", "cni-dhcp.service"])?;
    ensure!(
        systemd.state("earlier.service")? == "inactive" && systemd.journal().contains("leases=1"),
        "{}",
        systemd.journal()
    );
    network.check(&attachment)?;
    systemd.run(&["systemctl", "restart", "cni-dhcp.service"])?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
    .with_context(|| systemd.journal())?;
    systemd.ensure_nothing_was_denied()
}

fn the_documented_drop_in_lets_the_daemon_open_namespaces_of_processes(world: &World) -> Result {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runtimes.md");
    let docs = fs::read_to_string(docs)?;
    let drop_in = docs
        .split_once("# systemctl edit cni-dhcp.service\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .context("a drop-in in docs/runtimes.md")?;
    machine::enter(world)?;
    make("install")?;
    machine::write(
        "/etc/systemd/system/cni-dhcp.service.d/override.conf",
        drop_in.0,
    )?;
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let systemd = Systemd::boot(world, &lan.host)?;
    systemd.run(&["systemctl", "start", "cni-dhcp.socket"])?;

    // Plugin and process are where systemd is, so that the daemon knows the process by its number.
    let container = lan.container("c1")?;
    let [host, inside] =
        [&lan.host, &container].map(|node| format!("--net={}", node.path().display()));
    systemd.run(&[
        "systemd-run",
        "--unit=sleep",
        "nsenter",
        &inside,
        "sleep",
        "1000",
    ])?;
    let pid = systemd.run(&[
        "systemctl",
        "show",
        "--value",
        "--property=MainPID",
        "sleep",
    ])?;
    let mut configuration = example()?["plugins"][0].clone();
    configuration["cniVersion"] = "1.0.0".into();
    configuration["name"] = "lan".into();
    machine::write("/etc/cni/lan.json", &configuration.to_string())?;
    let call = |verb: &str| {
        let pid = pid.trim();
        let call = format!(
            "CNI_COMMAND={verb} CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_PATH={PLUGINS} \
             CNI_NETNS=/proc/{pid}/ns/net exec nsenter {host} {PLUGINS}/macvlan </etc/cni/lan.json"
        );
        systemd.run(&["sh", "-c", &call])
    };
    call("ADD")?;
    ensure!(systemd.netns_kept()? == 0, "it is found by its path");
    systemd.run(&["systemctl", "restart", "cni-dhcp.service"])?;
    let journal = systemd.journal();
    ensure!(journal.contains("leases=1"), "{journal}");
    call("DEL")?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
    .with_context(|| systemd.journal())
}

/// systemd as the first process of a PID namespace, with nothing to start but what is asked of it.
/// Its services are on the host.
#[derive(Debug)]
pub(crate) struct Systemd {
    process: Process,
}

impl Systemd {
    /// Boots, on a machine that the process has entered.
    pub(crate) fn boot(world: &World, host: &Node) -> Result<Systemd> {
        for wants in fs::read_dir("/etc/systemd/system")?.flatten() {
            if wants.file_name().to_string_lossy().ends_with(".wants") {
                fs::remove_dir_all(wants.path())?;
            }
        }
        machine::write("/etc/machine-id", "00000000000000000000000000000001\n")?;
        machine::write(
            "/etc/systemd/journald.conf.d/lab.conf",
            "[Journal]\nStorage=volatile\nReadKMsg=no\n",
        )?;
        machine::write(
            "/etc/systemd/system/lab.target",
            "[Unit]\nDescription=Nothing but the basics\nRequires=basic.target\nAfter=basic.target\n",
        )?;
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "slave",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.args([
            "/lib/systemd/systemd",
            "--system",
            "--unit=lab.target",
            "--show-status=no",
        ]);
        command
            .env_clear()
            .env("container", "lab")
            .env("PATH", "/usr/sbin:/usr/bin");
        let mut process = Process::spawn(world, host, "systemd", command)?;
        let pid = process.pid();
        process.until("the basics are up", Duration::from_secs(30), || {
            state_in(pid, "lab.target").is_ok_and(|state| state == "active")
        })?;
        Ok(Systemd { process })
    }

    /// Runs a command where systemd is.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        output(inside(self.process.pid()).args(words)).with_context(|| self.journal())
    }

    /// `active`, `inactive`, …
    pub(crate) fn state(&self, unit: &str) -> Result<String> {
        state_in(self.process.pid(), unit)
    }

    /// What the daemon has logged, and systemd about it.
    pub(crate) fn journal(&self) -> String {
        let mut command = inside(self.process.pid());
        command.args([
            "journalctl",
            "--no-pager",
            "--output=short",
            "--unit=cni-dhcp.service",
            "--unit=cni-dhcp.socket",
            "--unit=leasehold-dhcp.service", // the RPM's name for it
            "--unit=leasehold-dhcp.socket",
        ]);
        output(&mut command).unwrap_or_else(|error| error.to_string())
    }
}

impl Systemd {
    /// A property of the daemon's service.
    fn show(&self, property: &str) -> Result<String> {
        let property = format!("--property={property}");
        let value = self.run(&[
            "systemctl",
            "show",
            "--value",
            &property,
            "cni-dhcp.service",
        ])?;
        Ok(value.trim().to_owned())
    }

    /// How many namespaces of containers the daemon keeps open.
    fn netns_kept(&self) -> Result<usize> {
        let pid = self.show("MainPID")?;
        let list =
            format!("stat -L -c '%d %i' /proc/{pid}/ns/net /proc/{pid}/fd/* 2>/dev/null || :");
        let list = self.run(&["sh", "-c", &list])?;
        let mut files = list.lines();
        let own = files.next().context("the daemon's own namespace")?;
        let (device, _) = own.split_once(' ').context("a device and an inode")?;
        Ok(files
            .filter(|file| *file != own && file.split_once(' ').is_some_and(|(on, _)| on == device))
            .count())
    }

    /// Fails if the daemon was refused something, or is not confined by itself too.
    fn ensure_nothing_was_denied(&self) -> Result {
        let journal = self.journal();
        let denied = ["ERROR", "EPERM", "EACCES", "denied", "permitted"];
        ensure!(
            journal.contains("confined by Landlock")
                && !denied.iter().any(|word| journal.contains(word)),
            "{journal}"
        );
        Ok(())
    }
}

/// systemctl must be among systemd's processes: it is refused otherwise.
fn inside(unshare: Pid) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        format!("--pid=/proc/{unshare}/ns/pid_for_children"),
        format!("--mount=/proc/{unshare}/ns/mnt"),
    ]);
    command
}

fn state_in(unshare: Pid, unit: &str) -> Result<String> {
    let told = inside(unshare)
        .args(["systemctl", "is-active", unit])
        .output()?;
    Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// The example's network, with the plugins where Debian has them.
pub(crate) fn network(host: &Node) -> Result<Network<'_>> {
    network_with(host, PLUGINS)
}

/// The example's network, with the plugins in another directory.
pub(crate) fn network_with<'a>(host: &'a Node, plugins: &str) -> Result<Network<'a>> {
    Ok(Network::with_path(host, example()?, vec![plugins.into()]))
}

fn example() -> Result<Value> {
    let conflist = fs::read(machine::checkout("examples/containerd/10-lan.conflist"))?;
    serde_json::from_slice(&conflist).context("examples/containerd/10-lan.conflist")
}

/// A new container on the network.
pub(crate) fn attached(
    systemd: &Systemd,
    network: &Network<'_>,
    lan: &Lan,
    name: &str,
) -> Result<(Attachment, Node)> {
    let container = lan.container(name)?;
    let attachment = Attachment::new(&container);
    network
        .add(&attachment)
        .with_context(|| systemd.journal())?;
    Ok((attachment, container))
}

/// The container's address.
pub(crate) fn address(container: &Node) -> Result<Ipv4Addr> {
    Ok(container
        .ipv4("eth0")?
        .first()
        .context("an address")?
        .addr())
}

/// As root has it from `sudo`: without the toolchain of the user who has built the programs, and on
/// some machines with a umask that lets nobody else read new files.
fn make(target: &str) -> Result<String> {
    let mut make = Command::new("env");
    make.args([
        "--ignore-environment",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "sh",
        "-c",
        "umask 077 && exec make \"$@\"",
        "make",
        "-C",
        "packaging",
        target,
        "prefix=/usr",
        "cnidir=/usr/lib/cni",
    ]);
    for rustc in ["/usr/bin/rustc", "/usr/bin/cargo"] {
        let _ = fs::remove_file(rustc); // Debian's
    }
    output(make.current_dir(machine::CHECKOUT))
}
