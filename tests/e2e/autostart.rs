//! No daemon needed to start with: the plugin starts one where the configuration says so.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{Value, json};
use lab::{DhcpServer, Lan, Network, Process, Result, Test, World, network, suite, test, until};

use crate::daemon::SYSTEMD;
use crate::macvlan::script;
use crate::scenario::{SOON, conflist, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(the_plugin_starts_a_daemon_in_a_session_of_its_own),
    test!(a_detached_daemon_keeps_no_stream_of_its_caller),
    test!(status_is_good_where_add_would_start_a_daemon),
    test!(an_idle_daemon_exits),
    test!(a_watchdog_and_callers_without_a_lease_keep_no_idle_daemon_running),
    test!(a_service_managers_daemon_takes_over_from_an_autostarted_one).needs(&[SYSTEMD]),
];

fn the_plugin_starts_a_daemon_in_a_session_of_its_own(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let socket = world.dir().join("auto.sock");
    // A runtime may leave descriptors open that are none of the daemon's business.
    let inherited = world.dir().join("inherited");
    fs::write(&inherited, "")?;
    let real = suite::plugin_dir().join("dhcp");
    let body = format!("exec {} 7<'{}'\n", real.display(), inherited.display());
    let mut path = script(world, "dhcp", &body)?;
    path.swap(0, 1);
    let network = Network::with_path(&lan.host, autostarting(&socket), path);
    let containers = [lan.container("c1")?, lan.container("c2")?];
    for container in &containers {
        reported(
            &network.add(&network::Attachment::new(container))?,
            container,
        )?;
    }
    let pid = holder()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let session = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(3))
        .context("a session")?;
    ensure!(session == pid, "it has a session of its own: {stat}");
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    ensure!(
        environment.is_empty(),
        "{}",
        String::from_utf8_lossy(&environment)
    );
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let file = fs::read_link(descriptor.path());
        let is_open = file.is_ok_and(|file| file == inherited);
        ensure!(!is_open, "it has {descriptor:?}");
    }
    for container in &containers {
        network.check(&network::Attachment::new(container))?;
        network.del(&network::Attachment::new(container))?;
    }
    until("the leases are given back", SOON, || {
        server.leases().is_empty()
    })?;
    Ok(())
}

fn a_detached_daemon_keeps_no_stream_of_its_caller(world: &World) -> Result {
    let lan = Lan::new()?;
    let socket = world.dir().join("detached.sock");
    let mut command = std::process::Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-detach", "-socketpath"])
        .arg(&socket);
    let mut daemon = Process::spawn(world, &lan.host, "detached-daemon", command)?;
    daemon.until("it listens", SOON, || UnixStream::connect(&socket).is_ok())?;
    for stream in 0..=2 {
        let file = fs::read_link(format!("/proc/{}/fd/{stream}", daemon.pid()))?;
        ensure!(file == Path::new("/dev/null"), "{stream} is {file:?}");
    }
    ensure!(daemon.log().is_empty(), "{}", daemon.log());
    daemon.stop()
}

fn status_is_good_where_add_would_start_a_daemon(world: &World) -> Result {
    let lan = Lan::new()?;
    let mut conflist = autostarting(&world.dir().join("auto.sock"));
    conflist["cniVersion"] = json!("1.1.0");
    Network::new(&lan.host, conflist).status()
}

fn an_idle_daemon_exits(world: &World) -> Result {
    let lan = Lan::new()?;
    let socket = world.dir().join("idle.sock");
    let mut command = std::process::Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-idle", "500ms", "-socketpath"])
        .arg(&socket);
    let mut daemon = Process::spawn(world, &lan.host, "idle-daemon", command)?;
    let status = daemon.wait(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}: {}", daemon.log());
    ensure!(!socket.exists(), "the socket goes with it");
    Ok(())
}

fn a_watchdog_and_callers_without_a_lease_keep_no_idle_daemon_running(world: &World) -> Result {
    let lan = Lan::new()?;
    let socket = world.dir().join("idle.sock");
    let mut command = std::process::Command::new(suite::plugin_dir().join("dhcp"));
    command
        .env("WATCHDOG_USEC", "200000")
        .args(["daemon", "-idle", "1s", "-socketpath"])
        .arg(&socket);
    let mut daemon = Process::spawn(world, &lan.host, "watched-daemon", command)?;
    // More often than the idle time.
    daemon
        .until("it exits", Duration::from_secs(10), || {
            drop(UnixStream::connect(&socket));
            false
        })
        .err();
    let status = daemon.wait(SOON)?;
    ensure!(status.success(), "{status}: {}", daemon.log());
    Ok(())
}

fn a_service_managers_daemon_takes_over_from_an_autostarted_one(world: &World) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let socket = world.dir().join("auto.sock");
    let network = Network::new(&lan.host, autostarting(&socket));
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let first = holder()?;

    // systemd binds the path again, so the running daemon cannot be asked over its own socket.
    fs::remove_file(&socket)?;
    let mut command = std::process::Command::new("systemd-socket-activate");
    command
        .arg("-l")
        .arg(&socket)
        .arg(suite::plugin_dir().join("dhcp"))
        .args(["daemon", "--takeover"]);
    command.arg("-socketpath").arg(&socket);
    let managed = Process::spawn(world, &lan.host, "managed-daemon", command)?;
    until("systemd listens", SOON, || socket.exists())?;
    network.check(&attachment)?;
    ensure!(managed.log().contains("is ready"), "{}", managed.log());
    ensure!(holder()? != first, "the managed daemon has the leases");
    until("the first one is gone", SOON, || {
        !Path::new("/proc").join(&first).exists()
    })?;
    network.del(&attachment)?;
    Ok(())
}

fn autostarting(socket: &Path) -> Value {
    conflist(json!({ "ipam": { "type": "dhcp", "daemonSocketPath": socket, "autostart": true } }))
}

/// The process that has the leases. The world's /var/lib is its own.
fn holder() -> Result<String> {
    for store in fs::read_dir("/var/lib/cni")?.flatten() {
        if let Ok(pid) = fs::read_to_string(store.path().join("lock")) {
            return Ok(pid.trim().to_owned());
        }
    }
    lab::anyhow::bail!("no daemon has ever had a lease here")
}
