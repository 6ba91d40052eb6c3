//! Leases outlive the daemon: killed, stopped, replaced, or away while things happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::STRACE;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{self, Value, json};
use lab::suite::packages::IPROUTE2;
use lab::{
    Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, network, suite, test, until,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::limits::script;
use crate::scenario::{
    SOON, Scenario, address, conflist, ensure_nothing_left, netns_held_by, reported,
};

pub(crate) const TESTS: &[Test] = &[
    test!(leases_are_resumed_after_the_daemon_was_killed),
    test!(a_lease_that_expired_while_no_daemon_ran_is_acquired_again),
    test!(del_without_a_daemon_releases_the_address),
    test!(gc_without_a_daemon_releases_the_addresses_of_invalid_attachments),
    test!(the_lease_of_a_container_removed_while_no_daemon_ran_is_not_resumed),
    test!(the_lease_of_a_container_that_vanishes_is_dropped_at_once),
    test!(without_an_inotify_instance_the_daemon_starts_and_watches_once_it_has_one)
        .needs(&[STRACE]),
    test!(a_released_address_is_requested_again_by_its_attachment),
    test!(an_address_that_was_never_released_is_confirmed_in_one_round_trip),
    test!(an_unreadable_lease_file_is_set_aside),
    test!(a_lease_file_that_cannot_be_opened_is_read_later).needs(&[STRACE]),
    test!(leases_are_resumed_although_the_boots_identifier_cannot_be_read).needs(&[STRACE]),
    test!(a_lease_that_was_abandoned_by_mistake_is_taken_up_again),
    test!(a_lease_whose_interface_was_away_is_taken_up_again).needs(&[IPROUTE2]),
    test!(del_and_gc_release_leases_that_were_dropped_by_mistake),
    test!(leases_of_any_attachment_that_cni_allows_are_resumed),
    test!(add_and_check_wait_for_a_daemon_that_is_replaced),
    test!(two_daemons_never_share_a_state_directory),
    test!(during_a_takeover_no_connection_is_refused),
    test!(a_daemon_whose_socket_was_removed_is_taken_over_from),
    test!(an_add_under_way_is_told_to_try_again_when_the_daemon_stops),
    test!(add_of_an_attachment_that_has_a_lease_returns_it),
    test!(del_cancels_an_add_in_progress),
];

fn leases_are_resumed_after_the_daemon_was_killed(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, early_renewals())?;
    let container = scenario.lan.container("c1")?;
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let attachment = network::Attachment::new(&container);
    let leased = reported(&network.add(&attachment)?, &container)?;
    daemon.kill()?;

    let daemon = Daemon::start(world, &lan.host)?;
    network.check(&attachment)?;
    let requests = server.received_of(MessageType::Request).len();
    let renewal = server.wait_for(MessageType::Request, requests + 1, Duration::from_secs(6))?;
    ensure!(*renewal.source.ip() == leased, "{renewal:?}");
    ensure!(address(&container)? == leased, "the address stays");
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;
    drop(daemon);
    Ok(())
}

fn a_lease_that_expired_while_no_daemon_ran_is_acquired_again(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            lease_time: Some(Duration::from_secs(2)),
            ..Settings::default()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    daemon.kill()?;
    until("the lease has run out", Duration::from_secs(5), || {
        server.leases().is_empty()
    })?;
    server.reconfigure(|settings| settings.lease_time = Settings::default().lease_time);

    let _daemon = Daemon::start(world, &lan.host)?;
    until("the address is leased again", SOON, || {
        server.leases().len() == 1
    })?;
    until("CHECK passes", SOON, || network.check(&attachment).is_ok())?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn del_without_a_daemon_releases_the_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let [other, container] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    network.add(&network::Attachment::new(&other))?;
    network.add(&network::Attachment::new(&container))?;
    let leased = address(&container)?;
    daemon.kill()?;
    for (nth, container) in [(1, &other), (2, &container)] {
        network.del(&network::Attachment::new(container))?;
        ensure_nothing_left(container)?;
        server.wait_for(MessageType::Release, nth, SOON)?;
    }
    let release = server.wait_for(MessageType::Release, 2, SOON)?;
    ensure!(*release.source.ip() == leased, "{release:?}");
    ensure!(server.leases().is_empty(), "{:?}", server.leases());

    // The next daemon knows which address the client had: the server would give the lowest one.
    let daemon = Daemon::start(world, &lan.host)?;
    network.add(&network::Attachment::new(&container))?;
    ensure!(address(&container)? == leased, "it was {leased}");
    let log = daemon.log();
    ensure!(log.matches("lease resumed").count() == 0, "{log}");
    Ok(())
}

fn gc_without_a_daemon_releases_the_addresses_of_invalid_attachments(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let [stale, valid] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let Scenario { lan, daemon } = scenario;
    let mut conflist = dhcp(daemon.socket());
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::new(&lan.host, conflist);
    network.add(&network::Attachment::new(&stale))?;
    network.add(&network::Attachment::new(&valid))?;
    let leased = address(&stale)?;
    daemon.kill()?;
    network.gc(&[&network::Attachment::new(&valid)])?;
    ensure_nothing_left(&stale)?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(*release.source.ip() == leased, "{release:?}");
    let _daemon = Daemon::start(world, &lan.host)?;
    network.check(&network::Attachment::new(&valid))
}

fn the_lease_of_a_container_removed_while_no_daemon_ran_is_not_resumed(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    network.add(&network::Attachment::new(&container))?;
    daemon.kill()?;
    container.remove()?;
    // Its name, used again: another netns, with another interface.
    let other = lan.container("c1")?;
    Network::new(&lan.host, conflist(json!({}))).add(&network::Attachment::new(&other))?;

    let daemon = Daemon::start(world, &lan.host)?;
    until("the lease is not taken up", SOON, || {
        daemon.log().contains("lease not resumed")
    })?;
    ensure!(
        other.ipv4("eth0")?.is_empty(),
        "the new one of that name is left alone"
    );
    Ok(())
}

fn the_lease_of_a_container_that_vanishes_is_dropped_at_once(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    network.add(&network::Attachment::new(&container))?;
    let leased = address(&container)?;
    container.remove()?;
    until("the daemon notices", SOON, || {
        scenario.daemon.log().contains("lease dropped")
    })?;
    let pid = scenario.daemon.process().pid();
    until("the daemon keeps no netns alive", SOON, || {
        netns_held_by(pid).is_ok_and(|held| held == 0)
    })?;
    until("the interface is gone", SOON, || {
        let answered = scenario
            .lan
            .lan
            .is_answered(leased.into(), Duration::from_millis(200));
        answered.is_ok_and(|answered| !answered)
    })?;
    Ok(())
}

fn without_an_inotify_instance_the_daemon_starts_and_watches_once_it_has_one(
    world: &World,
) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let fault = "-e trace=inotify_init1 -e inject=inotify_init1:error=EMFILE:when=1..2";
    let daemon = Daemon::start_program(world, &lan.host, &under_strace(world, fault)?, &[])?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    network.add(&network::Attachment::new(&container))?;
    until("the daemon says what is missing", SOON, || {
        daemon.log().contains("fs.inotify.max_user_instances")
    })?;
    container.remove()?;
    until("the daemon notices", Duration::from_secs(10), || {
        daemon.log().contains("lease dropped")
    })
}

fn a_released_address_is_requested_again_by_its_attachment(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let [one, other] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&one);
    network.add(&network::Attachment::new(&other))?;
    let first = reported(&network.add(&attachment)?, &one)?;
    network.del(&network::Attachment::new(&other))?;
    network.del(&attachment)?;
    until("both are given back", SOON, || server.leases().is_empty())?;
    // The server would give the lowest address, which is the other's.
    let again = reported(&network.add(&attachment)?, &one)?;
    ensure!(again == first, "it was {first} and is {again} now");
    Ok(())
}

fn an_address_that_was_never_released_is_confirmed_in_one_round_trip(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let container = scenario.lan.container("c1")?;
    let first = reported(
        &network.add(&network::Attachment::new(&container))?,
        &container,
    )?;
    container.remove()?;
    until("the daemon notices", SOON, || {
        scenario.daemon.log().contains("lease dropped")
    })?;
    let discovers = server.received_of(MessageType::Discover).len();

    let container = scenario.lan.container("c1")?;
    let again = reported(
        &network.add(&network::Attachment::new(&container))?,
        &container,
    )?;
    ensure!(again == first, "it was {first} and is {again} now");
    ensure!(
        server.received_of(MessageType::Discover).len() == discovers,
        "{}",
        server.transcript()
    );
    Ok(())
}

fn an_unreadable_lease_file_is_set_aside(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let Scenario { lan, daemon } = scenario;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    network.add(&network::Attachment::new(&container))?;
    daemon.kill()?;
    let mine = the_only_lease_file()?;
    let future = mine.with_file_name("c2:eth0.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&mine)?)?;
    document["version"] = json!(99);
    fs::write(&future, document.to_string())?;
    let torn = mine.with_file_name("c3:eth0.json");
    fs::write(&torn, "{\"version\": 1, \"attach")?;

    let daemon = Daemon::start(world, &lan.host)?;
    network.check(&network::Attachment::new(&container))?;
    for file in [&future, &torn] {
        ensure!(!file.exists(), "{} is still in the way", file.display());
        ensure!(
            file.with_added_extension("unreadable").exists(),
            "{} is lost",
            file.display()
        );
    }
    ensure!(daemon.log().contains("version 99"), "{}", daemon.log());
    Ok(())
}

fn a_lease_file_that_cannot_be_opened_is_read_later(world: &World) -> Result {
    let (lan, _server, container, daemon) = scene(world)?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    network.add(&network::Attachment::new(&container))?;
    daemon.kill()?;
    let file = the_only_lease_file()?;
    let fault = format!(
        "-P {} -e inject=?open,openat:error=EIO:when=1",
        file.display()
    );
    let daemon = Daemon::start_program(world, &lan.host, &under_strace(world, &fault)?, &[])?;
    until("the lease is resumed", Duration::from_secs(20), || {
        daemon.log().contains("lease resumed")
    })?;
    ensure!(file.exists(), "{}", daemon.log());
    network.check(&network::Attachment::new(&container))
}

fn leases_are_resumed_although_the_boots_identifier_cannot_be_read(world: &World) -> Result {
    let (lan, server, container, daemon) = scene(world)?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    daemon.kill()?;
    let fault = "-P /proc/sys/kernel/random/boot_id -e inject=?open,openat:error=ENFILE";
    let daemon = Daemon::start_program(world, &lan.host, &under_strace(world, fault)?, &[])?;
    network.check(&attachment)?;
    // It writes records as well.
    let other = lan.container("c2")?;
    network.add(&network::Attachment::new(&other))?;
    daemon.kill()?;

    let daemon = Daemon::start(world, &lan.host)?;
    network.check(&attachment)?;
    network.check(&network::Attachment::new(&other))?;
    ensure!(
        server.received_of(MessageType::Release).is_empty(),
        "{}",
        daemon.log()
    );
    Ok(())
}

fn a_lease_that_was_abandoned_by_mistake_is_taken_up_again(world: &World) -> Result {
    let (lan, server, container, daemon) = scene(world)?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    network.add(&network::Attachment::new(&container))?;
    daemon.kill()?;
    let file = the_only_lease_file()?;
    let mut document: Value = serde_json::from_slice(&fs::read(&file)?)?;
    document["standing"] = json!("left");
    fs::write(&file, document.to_string())?;

    let daemon = Daemon::start(world, &lan.host)?;
    network.check(&network::Attachment::new(&container))?;
    ensure!(
        server.received_of(MessageType::Release).is_empty(),
        "{}",
        daemon.log()
    );
    let document: Value = serde_json::from_slice(&fs::read(&file)?)?;
    ensure!(document["standing"] == "held", "{document}");
    Ok(())
}

fn a_lease_whose_interface_was_away_is_taken_up_again(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, early_renewals())?;
    let [container, elsewhere] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let leased = address(&container)?;
    container.output(&["ip", "link", "set", "eth0", "netns", elsewhere.name()])?;
    until("the daemon notices", Duration::from_secs(10), || {
        scenario.daemon.log().contains("lease dropped")
    })?;
    elsewhere.output(&["ip", "link", "set", "eth0", "netns", container.name()])?;
    container.set_up("eth0")?;
    until("the address is back", Duration::from_secs(20), || {
        address(&container).is_ok_and(|address| address == leased)
    })
    .with_context(|| scenario.daemon.log())?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

fn del_and_gc_release_leases_that_were_dropped_by_mistake(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, early_renewals())?;
    let mut conflist = scenario.dhcp();
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::new(&scenario.lan.host, conflist);
    let containers = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let [one, other] = [0, 1].map(|nth: usize| network::Attachment::new(&containers[nth]));
    network.add(&one)?;
    network.add(&other)?;
    // Something is mounted over the namespaces for a while.
    let nothing = None::<&str>;
    for container in &containers {
        let (uts, path) = (Some("/proc/self/ns/uts"), container.path());
        mount(uts, &path, nothing, MsFlags::MS_BIND, nothing)?;
    }
    until("the daemon notices", Duration::from_secs(10), || {
        let log = scenario.daemon.log();
        let mut dropped = log.lines().filter(|line| line.contains("lease dropped"));
        dropped.clone().count() == 2 && dropped.all(|line| line.contains("WARN"))
    })
    .with_context(|| scenario.daemon.log())?;
    for container in &containers {
        umount2(&container.path(), MntFlags::empty())?;
    }
    network.del(&one)?;
    network.gc(&[])?;
    for container in &containers {
        ensure_nothing_left(container)?;
    }
    until("the leases are given back", SOON, || {
        server.leases().is_empty()
    })
    .with_context(|| scenario.daemon.log())
}

fn leases_of_any_attachment_that_cni_allows_are_resumed(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let Scenario { lan, daemon } = scenario;
    let call = |verb: &str, nth: usize, id: &str, network: &str| -> Result {
        let config = json!({
            "cniVersion": "1.0.0", "name": network, "type": "dhcp",
            "ipam": { "type": "dhcp", "daemonSocketPath": world.dir().join("dhcp.sock") },
            "prevResult": { "cniVersion": "1.0.0" },
        });
        let call = lab::plugin::Call::new("dhcp", verb)
            .container(id)
            .netns(format!("/run/netns/c{nth}"))
            .ifname("eth0")
            .config(&config);
        call.run(&lan.host)?.success().map(drop)
    };
    let long = ["c", "n"].map(|letter| letter.repeat(255));
    let names = [("c0", "lock"), ("c1", &*long[1]), (&*long[0], "lan")];
    let macvlan = Network::new(&lan.host, conflist(json!({})));
    for (nth, (id, network)) in names.iter().enumerate() {
        macvlan.add(&network::Attachment::new(
            &lan.container(&format!("c{nth}"))?,
        ))?;
        call("ADD", nth, id, network)?;
    }
    daemon.kill()?;
    let _daemon = Daemon::start(world, &lan.host)?;
    for (nth, (id, network)) in names.iter().enumerate() {
        call("CHECK", nth, id, network).with_context(|| format!("{id} on {network}"))?;
    }
    Ok(())
}

fn add_and_check_wait_for_a_daemon_that_is_replaced(world: &World) -> Result {
    let (lan, _server, container, daemon) = scene(world)?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let (attachment, other) = (network::Attachment::new(&container), lan.container("c2")?);
    network.add(&attachment)?;
    daemon.kill()?;
    let adding = network.prepare("ADD", 0, &network::Attachment::new(&other), None)?;
    let adding = adding.start(&lan.host)?;
    until("the interface is there", SOON, || {
        other.find_link("eth0").is_ok_and(|link| link.is_some())
    })?;
    let checking = network.prepare(
        "CHECK",
        0,
        &attachment,
        network.cached(&attachment).as_ref(),
    )?;
    let checking = checking.start(&lan.host)?;
    let _daemon = Daemon::start(world, &lan.host)?;
    reported(&adding.finish()?.success()?, &other)?;
    checking.finish()?.success()?;
    network.check(&attachment)
}

/// A LAN with a server, a daemon and a container.
fn scene(world: &World) -> Result<(Lan, DhcpServer, Node, Daemon)> {
    let Scenario { lan, daemon } = Scenario::new(world)?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let container = lan.container("c1")?;
    Ok((lan, server, container, daemon))
}

fn two_daemons_never_share_a_state_directory(world: &World) -> Result {
    let lan = Lan::new()?;
    let state = world.dir().join("state");
    let state = state.to_str().context("a path of ours")?;
    let _first = Daemon::start_with(world, &lan.host, &["-statedir", state])?;
    let socket = world.dir().join("second.sock");
    let mut command = std::process::Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-statedir", state, "-socketpath"])
        .arg(socket);
    let output = lan.host.run(|| command.output())??;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && stderr.contains(state),
        "{stderr}"
    );
    Ok(())
}

fn during_a_takeover_no_connection_is_refused(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, early_renewals())?;
    let container = scenario.lan.container("c1")?;
    let Scenario { lan, mut daemon } = scenario;
    let socket = daemon.socket().to_owned();
    let network = Network::new(&lan.host, dhcp(&socket));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;

    // A caller connects all the time.
    let (stop, asking) = std::sync::mpsc::channel::<()>();
    let path = socket.clone();
    let caller = std::thread::spawn(move || {
        let mut asked = 0;
        while asking.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            std::os::unix::net::UnixStream::connect(&path)
                .map_err(|error| format!("after {asked}: {error}"))?;
            asked += 1;
        }
        Ok::<usize, String>(asked)
    });
    let mut command = std::process::Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "--takeover", "-socketpath"])
        .arg(&socket);
    let mut successor = lab::Process::spawn(world, &lan.host, "successor", command)?;
    daemon.process().wait(SOON)?;
    until("the successor is ready", SOON, || {
        successor.log().contains("is ready")
    })?;
    network.check(&attachment)?;
    let requests = server.received_of(MessageType::Request).len();
    server.wait_for(MessageType::Request, requests + 1, Duration::from_secs(6))?;
    drop(stop);
    let asked = caller
        .join()
        .map_err(|_| lab::anyhow::anyhow!("the caller panicked"))?;
    ensure!(asked.as_ref().is_ok_and(|asked| *asked > 0), "{asked:?}");
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;
    successor.stop()?;
    ensure!(
        !socket.exists(),
        "the socket file goes with the last daemon"
    );
    Ok(())
}

/// As the init containers of OpenShift and Rancher remove it, whether or not a daemon still runs.
fn a_daemon_whose_socket_was_removed_is_taken_over_from(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let Scenario { lan, mut daemon } = scenario;
    let socket = daemon.socket().to_owned();
    let network = Network::new(&lan.host, dhcp(&socket));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    fs::remove_file(&socket)?;

    let start = |flags: &[&str]| -> Result<lab::Process> {
        let mut command = std::process::Command::new(suite::plugin_dir().join("dhcp"));
        command
            .args(["daemon", "-socketpath"])
            .arg(&socket)
            .args(flags);
        lab::Process::spawn(world, &lan.host, "successor", command)
    };
    let mut second = start(&[])?;
    ensure!(!second.wait(SOON)?.success());
    let log = second.log();
    ensure!(
        log.contains("was removed") && log.contains("-takeover"),
        "{log}"
    );

    let successor = start(&["-takeover"])?;
    daemon.process().wait(SOON)?;
    until("the successor serves", SOON, || {
        network.check(&attachment).is_ok()
    })?;
    let log = successor.log();
    let asked = log
        .matches("asking the daemon that holds the leases")
        .count();
    ensure!(asked == 1, "{log}");
    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

fn an_add_under_way_is_told_to_try_again_when_the_daemon_stops(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.when(MessageType::Discover).then(Reaction::silence());
    let container = scenario.lan.container("c1")?;
    let Scenario { lan, daemon } = scenario;
    Network::new(&lan.host, conflist(json!({}))).add(&network::Attachment::new(&container))?;
    let call = ipam_alone("ADD", &container, daemon.socket())?.start(&lan.host)?;
    server.wait_for(MessageType::Discover, 1, SOON)?;
    daemon.stop()?;
    let error = call.finish()?.error()?;
    ensure!(
        error.code == 11 && error.msg.contains("try again"),
        "{error:?}"
    );
    Ok(())
}

fn add_of_an_attachment_that_has_a_lease_returns_it(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, conflist(json!({})))
        .add(&network::Attachment::new(&container))?;
    let add = || {
        ipam_alone("ADD", &container, scenario.daemon.socket())?
            .run(&scenario.lan.host)?
            .success()
    };
    let first = add()?;
    let discovers = server.received_of(MessageType::Discover).len();
    ensure!(add()? == first, "the second answer differs from {first}");
    ensure!(
        server.received_of(MessageType::Discover).len() == discovers,
        "{}",
        server.transcript()
    );
    Ok(())
}

fn del_cancels_an_add_in_progress(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.when(MessageType::Request).then(Reaction::silence());
    let container = scenario.lan.container("c1")?;
    let host = &scenario.lan.host;
    Network::new(host, conflist(json!({}))).add(&network::Attachment::new(&container))?;
    let call = ipam_alone("ADD", &container, scenario.daemon.socket())?.start(host)?;
    server.wait_for(MessageType::Request, 1, SOON)?;
    ipam_alone("DEL", &container, scenario.daemon.socket())?
        .run(host)?
        .success()?;
    let error = call.finish()?.error()?;
    ensure!(error.code == 11 && error.msg.contains("DEL"), "{error:?}");
    server.wait_for(MessageType::Release, 1, SOON)?;
    Ok(())
}

/// The program under strace with these arguments. strace is not its parent, so that signals for the
/// program reach it.
pub(crate) fn under_strace(world: &World, arguments: &str) -> Result<PathBuf> {
    let program = suite::plugin_dir().join("dhcp");
    script(
        world,
        &format!(
            "exec strace -D -f -qq -o /dev/null {arguments} {} \"$@\"",
            program.display()
        ),
    )
}

/// Leases that are renewed after two seconds, and last.
fn early_renewals() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    }
}

fn dhcp(socket: &Path) -> Value {
    conflist(json!({ "ipam": { "type": "dhcp", "daemonSocketPath": socket } }))
}

/// Attaches the container, and ends its lease alone: there is an interface then, which IPAM by itself
/// does not make.
pub(crate) fn attach_without_lease(scenario: &Scenario, container: &Node) -> Result {
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    network.add(&network::Attachment::new(container))?;
    ipam_alone("DEL", container, scenario.daemon.socket())?
        .run(&scenario.lan.host)?
        .success()
        .map(drop)
}

/// A call of the IPAM plugin without macvlan above it.
pub(crate) fn ipam_alone(verb: &str, container: &Node, socket: &Path) -> Result<lab::plugin::Call> {
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "dhcp",
        "ipam": { "type": "dhcp", "daemonSocketPath": socket },
    });
    let call = lab::plugin::Call::new("dhcp", verb);
    Ok(call
        .container(container.name())
        .netns(container.path())
        .ifname("eth0")
        .config(&config))
}

/// The world's /var/lib is its own.
fn the_only_lease_file() -> Result<PathBuf> {
    for store in fs::read_dir("/var/lib/cni")?.flatten() {
        let file = store.path().join("lan/c1:eth0.json");
        if file.exists() {
            return Ok(file);
        }
    }
    lab::anyhow::bail!("no lease file")
}
