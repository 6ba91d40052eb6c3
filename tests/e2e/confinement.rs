//! A daemon with the systemd unit's capabilities confines itself, and still does everything.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use attachment::host_access::HostRoute;
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{Value, json};
use lab::{
    Daemon, DhcpServer, Lan, Network, Process, Result, Test, World, network, suite, test, until,
};

use crate::limits::script;
use crate::scenario::{SOON, address, conflist, netns_held_by};

pub(crate) const TESTS: &[Test] = &[
    test!(a_confined_daemon_follows_its_leases_with_container_and_host),
    test!(a_confined_daemon_stops_resumes_and_hands_over),
    test!(a_daemon_that_may_look_into_processes_opens_their_netns_after_a_restart),
];

/// As examples/systemd/cni-dhcp.service has them, in setpriv's words.
const CAPABILITIES: &str = "-all,+sys_admin,+net_raw,+net_admin";

/// A command that starts another one with the unit's capabilities.
pub(crate) fn setpriv() -> Command {
    setpriv_to(CAPABILITIES)
}

fn setpriv_to(capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all"]);
    command.arg(format!("--bounding-set={capabilities}"));
    command
}

fn a_confined_daemon_follows_its_leases_with_container_and_host(world: &World) -> Result {
    let lan = lan()?;
    let server = DhcpServer::start(&lan.lan, short_leases())?;
    let mut daemon = Daemon::start_program(world, &lan.host, &confined(world)?, &[])?;
    let [stays, vanishes] = [lan.container("c1")?, lan.container("c2")?];
    let network = Network::new(&lan.host, guarded_with_access(daemon.socket()));
    let attachment = network::Attachment::new(&stays);
    network.add(&attachment)?;
    network.add(&network::Attachment::new(&vanishes))?;
    let first = address(&stays)?;
    wait_for_routes(&lan, &[first, address(&vanishes)?])?;
    let pid = daemon.process().pid();
    ensure!(netns_held_by(pid)? == 0, "it finds them by their paths");

    vanishes.remove()?;
    wait_for_routes(&lan, &[first])?;

    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    server.reconfigure(|settings| settings.pool = pool);
    server.forget();
    let second = until("the address is another", Duration::from_secs(15), || {
        address(&stays).ok().filter(|now| *now != first)
    })?;
    wait_for_routes(&lan, &[second])?;

    // The host's own macvlan goes with the last lease, and is created and set up again by the
    // daemon.
    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(Reaction::silence());
    }
    until("it is gone", Duration::from_secs(15), || {
        lan.host.link("lh-eth1").is_err()
    })?;
    server.behave();
    wait_for_routes(&lan, &[second]).with_context(|| daemon.log())?;
    lan.host.ping(second.into(), SOON)?;

    network.del(&attachment)?;
    until("it is given back", SOON, || server.leases().is_empty())?;
    ensure!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    Ok(())
}

fn a_confined_daemon_stops_resumes_and_hands_over(world: &World) -> Result {
    let lan = lan()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let pid_file = world.dir().join("daemon.pid");
    let flags = ["-pidfile", pid_file.to_str().context("a path of ours")?];
    let program = confined(world)?;
    let daemon = Daemon::start_program(world, &lan.host, &program, &flags)?;
    until("it is confined", SOON, || {
        daemon.log().contains("confined by Landlock")
    })?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, guarded_with_access(daemon.socket()));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let socket = daemon.socket().to_owned();
    ensure!(pid_file.exists());
    daemon.stop()?;
    ensure!(!socket.exists() && !pid_file.exists(), "it leaves no file");

    let mut daemon = Daemon::start_program(world, &lan.host, &program, &flags)?;
    let mut command = Command::new(&program);
    command.args(["daemon", "-takeover", "-socketpath"]);
    let mut successor = Process::spawn(world, &lan.host, "successor", {
        command.arg(&socket);
        command
    })?;
    daemon.process().wait(SOON)?;
    until("its leases are taken up", SOON, || {
        successor.log().contains("leases=1")
    })
    .with_context(|| successor.log())?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    until("it is given back", SOON, || server.leases().is_empty())?;
    successor.stop()?;
    ensure!(!socket.exists(), "the socket's file goes with the last");
    Ok(())
}

/// As nerdctl names them. It takes CAP_SYS_PTRACE, with which the daemon does not confine itself.
fn a_daemon_that_may_look_into_processes_opens_their_netns_after_a_restart(
    world: &World,
) -> Result {
    let lan = lan()?;
    let server = DhcpServer::start(&lan.lan, short_leases())?;
    let program = with_capabilities(world, &format!("{CAPABILITIES},+sys_ptrace"))?;
    let mut daemon = Daemon::start_program(world, &lan.host, &program, &[])?;
    let container = lan.container("c1")?;
    let mut command = Command::new("sleep");
    command.arg("1000");
    let process = Process::spawn(world, &container, "sleep", command)?;
    let attachment = network::Attachment {
        netns: Some(format!("/proc/{}/ns/net", process.pid()).into()),
        ..network::Attachment::new(&container)
    };
    let network = Network::new(&lan.host, guarded_with_access(daemon.socket()));
    network.add(&attachment)?;
    let pid = daemon.process().pid();
    ensure!(netns_held_by(pid)? == 0, "it is found by its path");
    daemon.stop()?;
    let daemon = Daemon::start_program(world, &lan.host, &program, &[])?;
    let before = server.received_of(MessageType::Request).len();
    server
        .wait_for(MessageType::Request, before + 2, SOON)
        .with_context(|| daemon.log())?;
    network.del(&attachment)
}

/// A program that starts the daemon with the unit's capabilities.
fn confined(world: &World) -> Result<PathBuf> {
    with_capabilities(world, CAPABILITIES)
}

fn with_capabilities(world: &World, set: &str) -> Result<PathBuf> {
    let mut command = setpriv_to(set);
    command.arg(suite::plugin_dir().join("dhcp"));
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Option<Vec<&str>> = words.map(OsStr::to_str).collect();
    let words = words.context("a path of ours")?.join(" ");
    script(world, &format!("exec {words} \"$@\""))
}

/// A LAN whose host has an address on the parent.
fn lan() -> Result<Lan> {
    let lan = Lan::new()?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    Ok(lan)
}

/// Leases that soon expire when they are not renewed.
fn short_leases() -> Settings {
    Settings {
        lease_time: Some(Duration::from_secs(4)),
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(3)),
        ..Settings::default()
    }
}

fn guarded_with_access(socket: &Path) -> Value {
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
    conflist(json!({ "ipam": ipam, "hostAccess": true, "guard": true }))
}

/// Waits until the host has routes to these addresses alone.
fn wait_for_routes(lan: &Lan, expected: &[Ipv4Addr]) -> Result {
    let expected: Vec<IpAddr> = expected.iter().copied().map(IpAddr::V4).collect();
    until(
        "the host's routes are as they must be",
        Duration::from_secs(15),
        || {
            let routes = lan
                .host
                .netlink()
                .ok()
                .and_then(|host| HostRoute::all(&host).ok());
            let to: Option<Vec<IpAddr>> =
                routes.map(|all| all.iter().map(|route| route.to).collect());
            to.is_some_and(|to| {
                to.len() == expected.len() && expected.iter().all(|one| to.contains(one))
            })
        },
    )
}
