//! The state directory: full, read-only, locked, or with files of others.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{self, Value, json};
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{dhcp_with, ipam_alone};
use crate::scenario::{SOON, conflist, reported};

pub(super) const TESTS: &[Test] = &[
    test!(with_a_full_disk_addresses_are_leased_and_released_ones_stay_released),
    test!(with_a_read_only_state_directory_addresses_are_leased),
    test!(a_daemon_starts_after_a_del_that_holds_the_state_directory),
    test!(a_lease_file_of_another_attachment_is_set_aside),
];

fn with_a_full_disk_addresses_are_leased_and_released_ones_stay_released(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let state = world.dir().join("state");
    fs::create_dir(&state)?;
    let state = state.to_str().context("a path of ours")?;
    lan.host
        .output(&["mount", "-t", "tmpfs", "-o", "size=64k", "small", state])?;
    let daemon = Daemon::start_with(world, &lan.host, &["-statedir", state])?;
    let configuration = dhcp_with(daemon.socket(), json!({ "stateDir": state }));
    let network = Network::new(&lan.host, configuration);
    let [before, full] = [lan.container("c1")?, lan.container("c2")?];
    let l2 = Network::new(&lan.host, conflist(json!({})));
    for container in [&before, &full] {
        l2.add(&network::Attachment::new(container))?;
    }
    let ipam = |verb: &str, container: &Node| {
        network.prepare(verb, 0, &network::Attachment::new(container), None)
    };
    // The IPAM plugin alone, so that the interfaces stay and a lease could be taken up.
    let call = |verb: &str, container: &Node| -> Result<Value> {
        ipam(verb, container)?; // the configuration is one that macvlan understands, too
        ipam_alone(verb, container, daemon.socket(), state)
            .run(&lan.host)?
            .success()
    };
    call("ADD", &before)?;
    let mut filler = File::create(Path::new(state).join("filler"))?;
    while filler.write_all(&[0; 512]).is_ok() {}
    call("ADD", &full)?;
    ensure!(
        daemon.log().contains("cannot write the lease to disk"),
        "{}",
        daemon.log()
    );
    call("DEL", &before)?;
    until("it is given back", SOON, || server.leases().len() == 1)?;
    daemon.kill()?;

    let daemon = Daemon::start_with(world, &lan.host, &["-statedir", state])?;
    ensure!(
        !daemon.log().contains("resumed"),
        "what was given back comes back: {}",
        daemon.log()
    );
    Ok(())
}

fn with_a_read_only_state_directory_addresses_are_leased(world: &World) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let state = world.dir().join("state");
    fs::create_dir(&state)?;
    let state = state.to_str().context("a path of ours")?;
    lan.host
        .output(&["mount", "-t", "tmpfs", "readonly", state])?;
    let daemon = Daemon::start_with(world, &lan.host, &["-statedir", state])?;
    // The lock file stays writable; only the leases to come cannot be written.
    fs::create_dir(Path::new(state).join("lan"))?;
    lan.host.output(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "ro",
        "readonly",
        &format!("{state}/lan"),
    ])?;
    let network = Network::new(
        &lan.host,
        dhcp_with(daemon.socket(), json!({ "stateDir": state })),
    );
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    reported(&network.add(&attachment)?, &container)?;
    network.check(&attachment)?;
    ensure!(
        daemon.log().contains("cannot write the lease to disk"),
        "{}",
        daemon.log()
    );
    network.del(&attachment)
}

fn a_daemon_starts_after_a_del_that_holds_the_state_directory(world: &World) -> Result {
    let lan = Lan::new()?;
    let state = world.dir().join("state");
    fs::create_dir(&state)?;
    let lock = File::create(state.join("lock"))?;
    lock.lock()?;
    // The daemon closes the file when it could not lock it.
    let tries = Inotify::init(InitFlags::IN_NONBLOCK)?;
    tries.add_watch(&state.join("lock"), AddWatchFlags::IN_CLOSE_WRITE)?;
    let releasing = thread::spawn(move || {
        let tried = until("the daemon tries in vain", SOON, || {
            tries.read_events().is_ok()
        });
        drop(lock);
        tried
    });
    let daemon = Daemon::start_with(
        world,
        &lan.host,
        &["-statedir", state.to_str().context("a path of ours")?],
    )?;
    until("it is ready", SOON, || daemon.log().contains("is ready"))
        .with_context(|| daemon.log())?;
    releasing.join().map_err(|_| anyhow!("a thread panicked"))?
}

fn a_lease_file_of_another_attachment_is_set_aside(world: &World) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let state = world.dir().join("state");
    let flags = ["-statedir", state.to_str().context("a path of ours")?];
    let daemon = Daemon::start_with(world, &lan.host, &flags)?;
    let container = lan.container("c1")?;
    let network = Network::new(
        &lan.host,
        dhcp_with(daemon.socket(), json!({ "stateDir": state })),
    );
    network.add(&network::Attachment::new(&container))?;
    daemon.kill()?;
    let mine = state.join("lan/c1:eth0.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&mine)?)?;
    let copy = state.join("lan/c2:eth0.json");
    fs::write(&copy, document.to_string())?;
    document["attachment"]["containerID"] = json!("../../../../outside");
    let crooked = state.join("lan/c3:eth0.json");
    fs::write(&crooked, document.to_string())?;
    let torn = state.join("lan/.4711.new");
    fs::write(&torn, "{")?;

    let _daemon = Daemon::start_with(world, &lan.host, &flags)?;
    until("the others are set aside", SOON, || {
        !copy.exists() && !crooked.exists() && !torn.exists()
    })?;
    network.check(&network::Attachment::new(&container))?;
    ensure!(mine.exists(), "its own is left alone");
    Ok(())
}
