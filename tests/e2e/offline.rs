//! DEL and GC without a daemon, and a state directory that cannot be written.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::network::{Attachment, cni_error};
use lab::serde_json::{self, Value, json};
use lab::{Daemon, DhcpServer, Lan, Network, Process, Result, Test, World, suite, test, until};
use nix::mount::{MsFlags, mount};

use crate::chaos::lease_files;
use crate::dhcp::named;
use crate::limits::dhcp_with;
use crate::scenario::{SOON, Scenario, address, ensure_nothing_left};

pub(crate) const TESTS: &[Test] = &[
    test!(a_daemon_that_takes_over_waits_for_a_plugin_and_does_not_signal_it),
    test!(a_gc_goes_on_while_a_daemon_takes_over),
    test!(dels_at_once_release_every_address).within(Duration::from_secs(120)),
    test!(a_del_that_cannot_have_the_lock_releases_the_address),
    test!(with_a_full_disk_del_releases_the_address),
    test!(with_a_read_only_state_directory_del_releases_the_address),
    test!(a_daemon_on_a_read_only_state_directory_maintains_leases),
    test!(a_lease_that_could_not_be_written_is_written_later),
    test!(an_address_that_outlives_its_record_is_kept_and_confirmed),
];

fn a_daemon_that_takes_over_waits_for_a_plugin_and_does_not_signal_it(world: &World) -> Result {
    let lan = Lan::new()?;
    let state = world.dir().join("state");
    fs::create_dir(&state)?;
    let lock = state.join("lock");
    // As a plugin of an earlier release: it writes its pid.
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(&lock).args(["sleep", "1000"]);
    let mut plugin = Process::spawn(world, &lan.host, "plugin", command)?;
    until("it has the lock", SOON, || is_locked(&lock))?;
    fs::write(&lock, format!("{}\n", plugin.pid()))?;
    let mut successor = take_over(world, &lan, &flags(&state)?)?;
    until("it waits", SOON, || {
        successor.log().contains("waiting for another process")
    })?;
    plugin.kill().context("it still runs")?;
    until("the daemon is ready", SOON, || {
        successor.log().contains("is ready")
    })?;
    let written = fs::read_to_string(&lock)?;
    ensure!(written.trim() == successor.pid().to_string(), "{written}");
    successor.stop()
}

fn a_gc_goes_on_while_a_daemon_takes_over(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    // More than are released at a time, and each is asked for first.
    let mut conflist = scenario.dhcp_with(json!({ "clientId": "name" }));
    conflist["cniVersion"] = json!("1.1.0");
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, conflist.clone());
    for nth in 0..40 {
        let container = lan.container(&format!("c{nth}"))?;
        network.add(&named(&container, container.name()))?;
    }
    daemon.kill()?;
    let daemon = thread::scope(|scope| -> Result<Process> {
        let gc = scope.spawn(|| Network::new(&lan.host, conflist).gc(&[]));
        until("GC has begun", SOON, || {
            let files = lease_files().unwrap_or_default();
            files
                .iter()
                .any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains("detached")))
        })?;
        let daemon = take_over(world, &lan, &[])?;
        gc.join().map_err(|_| anyhow!("a thread panicked"))??;
        Ok(daemon)
    })?;
    until("every address is released", SOON, || {
        server.leases().is_empty()
    })
    .with_context(|| daemon.log())
}

fn dels_at_once_release_every_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let configuration = scenario.dhcp();
    let Scenario { lan, daemon } = scenario;
    let network = || Network::new(&lan.host, configuration.clone());
    let containers: Vec<_> = (0..16)
        .map(|nth| lan.container(&format!("c{nth}")))
        .collect::<Result<_>>()?;
    for container in &containers {
        network().add(&Attachment::new(container))?;
    }
    daemon.kill()?;
    let (healthy, down) = containers.split_first().context("there are some")?;
    let leased = address(healthy)?;
    // A RELEASE over them is tried for some time.
    for container in down {
        container.set_down("eth0")?;
    }
    thread::scope(|scope| -> Result {
        let dels: Vec<_> = containers
            .iter()
            .rev()
            .map(|container| scope.spawn(|| network().del(&Attachment::new(container))))
            .collect();
        for del in dels {
            del.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;
    until("the address is released", SOON, || {
        server.leases().iter().all(|lease| lease.address != leased)
    })
}

fn a_del_that_cannot_have_the_lock_releases_the_address(world: &World) -> Result {
    let (lan, server, state, daemon) = on_a_disk(world, Settings::default())?;
    let network = Network::new(&lan.host, configuration(&daemon, &state));
    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    daemon.kill()?;
    let lock = File::open(state.join("lock"))?;
    lock.lock()?;
    let error = cni_error(network.del(&attachment));
    ensure!(error.code == 11, "{error:?}");
    until("the address is released", SOON, || {
        server.leases().is_empty()
    })?;
    drop(lock);
    network.del(&attachment)?;
    ensure_nothing_left(&container)
}

fn with_a_full_disk_del_releases_the_address(world: &World) -> Result {
    del_releases(world, |state| fill(state).map(drop))
}

fn with_a_read_only_state_directory_del_releases_the_address(world: &World) -> Result {
    del_releases(world, |state| remount(state, MsFlags::MS_RDONLY))
}

/// Fails unless DEL without a daemon releases the address after `spoil` was done to the disk.
fn del_releases(world: &World, spoil: impl Fn(&Path) -> Result) -> Result {
    let (lan, server, state, daemon) = on_a_disk(world, Settings::default())?;
    let network = Network::new(&lan.host, configuration(&daemon, &state));
    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    daemon.kill()?;
    spoil(&state)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    until("the address is released", SOON, || {
        server.leases().is_empty()
    })
}

fn a_daemon_on_a_read_only_state_directory_maintains_leases(world: &World) -> Result {
    let settings = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let (lan, server, state, daemon) = on_a_disk(world, settings)?;
    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);
    let network = Network::new(&lan.host, configuration(&daemon, &state));
    network.add(&attachment)?;
    let leased = address(&container)?;
    daemon.kill()?;
    remount(&state, MsFlags::MS_RDONLY)?;
    let file = state.join("lan/c1:eth0.json");
    let before = fs::read(&file)?;

    let daemon = Daemon::start_with(world, &lan.host, &flags(&state)?)?;
    network.check(&attachment)?;
    let requests = server.received_of(MessageType::Request).len();
    server.wait_for(MessageType::Request, requests + 1, Duration::from_secs(10))?;
    ensure!(address(&container)? == leased, "the address stays");
    let error = cni_error(network.status());
    ensure!(error.code == 50, "{error:?}");
    let log = daemon.log();
    ensure!(log.contains("cannot write leases"), "{log}");

    remount(&state, MsFlags::empty())?;
    until("the lease is written", Duration::from_secs(20), || {
        fs::read(&file).is_ok_and(|now| now != before)
    })?;
    network.status()
}

fn a_lease_that_could_not_be_written_is_written_later(world: &World) -> Result {
    let day = Settings {
        lease_time: Some(Duration::from_secs(86400)),
        ..Settings::default()
    };
    let (lan, _server, state, daemon) = on_a_disk(world, day)?;
    let network = Network::new(&lan.host, configuration(&daemon, &state));
    let [container, other] = [lan.container("c1")?, lan.container("c2")?];
    network.add(&Attachment::new(&other))?;
    let filler = fill(&state)?;
    network.add(&Attachment::new(&container))?;
    let file = state.join("lan/c1:eth0.json");
    ensure!(!file.exists(), "the disk is full");
    fs::remove_file(filler)?;
    until("the lease is written", Duration::from_secs(20), || {
        file.exists()
    })?;
    daemon.kill()?;
    let _daemon = Daemon::start_with(world, &lan.host, &flags(&state)?)?;
    network.check(&Attachment::new(&container))
}

fn an_address_that_outlives_its_record_is_kept_and_confirmed(world: &World) -> Result {
    let (lan, server, state, daemon) = on_a_disk(world, Settings::default())?;
    let network = Network::new(&lan.host, configuration(&daemon, &state));
    let container = lan.container("c1")?;
    network.add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    daemon.kill()?;
    // As if the renewals had not been written.
    let file = state.join("lan/c1:eth0.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&file)?)?;
    document["lease"]["requested_at"] = json!({ "secs": 0, "nanos": 0 });
    document["lease"]["lifetime"] = json!({ "secs": 20, "nanos": 0 });
    document["expires"] = json!("2001-01-01T00:00:00Z");
    fs::write(&file, document.to_string())?;
    let requests = server.received_of(MessageType::Request).len();
    // The lease is kept for longer than an answer takes.
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::silence());

    let daemon = Daemon::start_with(world, &lan.host, &flags(&state)?)?;
    let confirming =
        server.wait_for(MessageType::Request, requests + 2, Duration::from_secs(10))?;
    let asked = confirming.option(OptionCode::RequestedIpAddress);
    ensure!(
        matches!(asked, Some(DhcpOption::RequestedIpAddress(address)) if *address == leased),
        "{confirming:?}"
    );
    until("it is confirmed", SOON, || {
        daemon.log().contains("lease renewed")
    })?;
    ensure!(
        address(&container)? == leased && !daemon.log().contains("address lost"),
        "{}",
        daemon.log()
    );
    Ok(())
}

/// A LAN with a server, and a daemon whose leases are on a small disk of their own.
fn on_a_disk(world: &World, settings: Settings) -> Result<(Lan, DhcpServer, PathBuf, Daemon)> {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, settings)?;
    let state = world.dir().join("state");
    fs::create_dir(&state)?;
    let path = state.to_str().context("a path of ours")?;
    lan.host
        .output(&["mount", "-t", "tmpfs", "-o", "size=64k", "small", path])?;
    let daemon = Daemon::start_with(world, &lan.host, &flags(&state)?)?;
    Ok((lan, server, state, daemon))
}

fn flags(state: &Path) -> Result<[&str; 2]> {
    Ok(["-statedir", state.to_str().context("a path of ours")?])
}

fn configuration(daemon: &Daemon, state: &Path) -> Value {
    let mut conflist = dhcp_with(daemon.socket(), json!({ "stateDir": state }));
    conflist["cniVersion"] = json!("1.1.0");
    conflist
}

/// Fills the disk, and returns the file that does.
fn fill(state: &Path) -> Result<PathBuf> {
    let path = state.join("filler");
    let mut filler = File::create(&path)?;
    while filler.write_all(&[0; 512]).is_ok() {}
    Ok(path)
}

/// Makes the disk read-only, or writable again: `flags` is `MS_RDONLY` or empty. mount(8) cannot do
/// that for an ordinary user's world.
fn remount(state: &Path, flags: MsFlags) -> Result {
    let none = None::<&str>;
    mount(none, state, none, MsFlags::MS_REMOUNT | flags, none)?;
    Ok(())
}

/// A daemon that takes over from whatever is there.
fn take_over(world: &World, lan: &Lan, flags: &[&str]) -> Result<Process> {
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-takeover", "-socketpath"])
        .arg(world.dir().join("dhcp.sock"))
        .args(flags);
    Process::spawn(world, &lan.host, "successor", command)
}

fn is_locked(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}
