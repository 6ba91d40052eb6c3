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
use crate::scenario::{PLUGINS, SOCKET, SOON};

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
];

/// What systemd finds exposed, of 10.0; the capabilities that the daemon needs are most of it.
const EXPOSURE: &str = "27"; // tenths

fn systemd_finds_no_fault_with_the_units(world: &World) -> Result {
    machine::enter(world)?;
    make("install")?;
    let units =
        ["service", "socket"].map(|kind| format!("/usr/lib/systemd/system/cni-dhcp.{kind}"));
    let mut verify = Command::new("systemd-analyze");
    let told = verify.args(["verify", "--man=yes"]).args(&units).output()?;
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
        &units[0],
    ])?;

    run(&[
        "mandoc",
        "-Tlint",
        "-Wwarning",
        "packaging/man/cni-dhcp.8",
        "packaging/man/cni-macvlan.8",
    ])?;

    make("uninstall")?;
    for file in [
        &units[0],
        &units[1],
        "/usr/share/man/man8/cni-dhcp.8",
        "/usr/lib/cni/dhcp",
    ] {
        ensure!(!Path::new(file).exists(), "{file} is still there");
    }
    Ok(())
}

fn systemd_runs_the_daemon_as_hardened_as_its_unit_says(world: &World) -> Result {
    machine::enter(world)?;
    make("install")?;
    let lan = Lan::new()?;
    let lease = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, lease)?;
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

    // The address is lost, and another leased: the container follows.
    let first = address(&younger.1)?;
    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    server.reconfigure(|settings| settings.pool = pool);
    server.forget();
    until("the address is another", Duration::from_secs(15), || {
        address(&younger.1).is_ok_and(|now| now != first) && address(&older.1).is_ok()
    })
    .with_context(|| systemd.journal())?;
    ensure!(
        !systemd.journal().contains("ERROR"),
        "{}",
        systemd.journal()
    );

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
        ]);
        output(&mut command).unwrap_or_else(|error| error.to_string())
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
    Ok(Network::with_path(host, example()?, vec![PLUGINS.into()]))
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

fn make(target: &str) -> Result<String> {
    let mut make = Command::new("make");
    make.args([
        "-C",
        "packaging",
        target,
        "programs=../target/release",
        "prefix=/usr",
        "cnidir=/usr/lib/cni",
    ]);
    output(make.current_dir(machine::CHECKOUT))
}
