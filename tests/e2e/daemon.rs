//! The daemon as a process: its socket, its signals, its flags.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::suite::Package;
use lab::{
    Daemon, DhcpServer, Lan, Network, Process, Result, Test, World, deadline, network, suite, test,
    until,
};

use crate::limits::{dhcp, script};
use crate::persistence::ipam_alone;
use crate::scenario::{SOON, Scenario, conflist, reported};
use lab::serde_json::{Value, json};
use nix::sys::signal::Signal;

pub(crate) const SYSTEMD: Package = Package::new("systemd", "systemd-socket-activate");

pub(crate) const TESTS: &[Test] = &[
    test!(a_daemon_starts_although_a_killed_one_left_its_socket),
    test!(a_second_daemon_on_the_same_socket_is_refused),
    test!(sigterm_ends_the_daemon_without_releasing_leases),
    test!(sighup_does_not_end_the_daemon),
    test!(a_verbose_daemon_logs_each_request),
    test!(a_daemon_without_a_capability_that_it_needs_says_so),
    test!(systemd_can_pass_the_socket).needs(&[SYSTEMD]),
    test!(a_service_manager_is_notified_of_ready_watchdog_and_stopping),
    test!(only_root_may_use_the_socket),
    test!(a_flag_lets_a_group_use_the_socket),
    test!(status_says_when_leases_cannot_be_written),
    test!(the_callers_traceparent_is_logged),
    test!(malformed_requests_are_refused_and_other_callers_served),
    test!(an_idle_lease_holds_no_thread_and_no_descriptor),
    test!(install_makes_directories_that_all_may_enter_whatever_the_umask_is),
];

fn a_daemon_starts_although_a_killed_one_left_its_socket(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let conflist = scenario.dhcp();
    let Scenario { lan, daemon } = scenario;
    let socket = daemon.socket().to_owned();
    daemon.kill()?;
    ensure!(socket.exists(), "a killed daemon leaves its socket file");
    let _daemon = Daemon::start(world, &lan.host)?;
    let container = lan.container("c1")?;
    reported(
        &Network::new(&lan.host, conflist).add(&network::Attachment::new(&container))?,
        &container,
    )?;
    Ok(())
}

fn a_second_daemon_on_the_same_socket_is_refused(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-socketpath"])
        .arg(scenario.daemon.socket());
    let output = scenario.lan.host.run(|| command.output())??;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && stderr.contains("another dhcp daemon"),
        "{stderr}"
    );
    ensure!(
        UnixStream::connect(scenario.daemon.socket()).is_ok(),
        "the first one still listens"
    );
    Ok(())
}

fn sigterm_ends_the_daemon_without_releasing_leases(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&container))?;
    let socket = scenario.daemon.socket().to_owned();
    scenario.daemon.stop()?;
    ensure!(!socket.exists(), "the socket file goes with the daemon");
    ensure!(
        server.leases().len() == 1,
        "the container still has its address"
    );
    Ok(())
}

fn systemd_can_pass_the_socket(world: &World) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let socket = world.dir().join("activated.sock");
    let mut command = Command::new("systemd-socket-activate");
    command
        .arg("-l")
        .arg(&socket)
        .arg(suite::plugin_dir().join("dhcp"))
        .arg("daemon");
    let _daemon = Process::spawn(world, &lan.host, "activated-daemon", command)?;
    until("systemd listens", SOON, || socket.exists())?;
    let container = lan.container("c1")?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    let attachment = network::Attachment::new(&container);
    reported(&network.add(&attachment)?, &container)?;
    network.check(&attachment)?;
    network.del(&attachment)
}

fn sighup_does_not_end_the_daemon(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    until("the daemon is ready", SOON, || {
        scenario.daemon.log().contains("is ready")
    })?;
    scenario.daemon.process().signal(Signal::SIGHUP)?;
    until("it is logged", SOON, || {
        scenario.daemon.log().contains("SIGHUP")
    })?;
    Network::new(&scenario.lan.host, newest(scenario.dhcp())).status()
}

fn a_verbose_daemon_logs_each_request(world: &World) -> Result {
    let lan = Lan::new()?;
    for (arguments, logs_requests) in [(&[][..], false), (&["-verbose"], true)] {
        let daemon = Daemon::start_with(world, &lan.host, arguments)?;
        Network::new(&lan.host, newest(dhcp(daemon.socket()))).status()?;
        let log = daemon.log();
        let line = r#"DEBUG request verb="status""#;
        ensure!(log.contains(line) == logs_requests, "{log}");
        daemon.stop()?;
    }
    Ok(())
}

fn a_daemon_without_a_capability_that_it_needs_says_so(world: &World) -> Result {
    let lan = Lan::new()?;
    let cannot = "cannot lease addresses without CAP_NET_RAW:";
    for (without, says) in [("-net_bind_service", "is ready"), ("-net_raw", cannot)] {
        let program = script(
            world,
            &format!(
                "exec setpriv --bounding-set={without} {}/dhcp \"$@\"",
                suite::plugin_dir().display()
            ),
        )?;
        let daemon = Daemon::start_program(world, &lan.host, &program, &[])?;
        until(says, SOON, || daemon.log().contains(says))?;
        let log = daemon.log();
        ensure!(!(log.contains("is ready") && log.contains(cannot)), "{log}");
        daemon.stop()?;
    }
    Ok(())
}

/// The network in a version that has STATUS.
fn newest(mut conflist: Value) -> Value {
    conflist["cniVersion"] = json!("1.1.0");
    conflist
}

fn a_service_manager_is_notified_of_ready_watchdog_and_stopping(world: &World) -> Result {
    let lan = Lan::new()?;
    let path = world.dir().join("notify.sock");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(deadline(SOON)))?;
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-socketpath"])
        .arg(world.dir().join("notifying.sock"));
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let mut daemon = Process::spawn(world, &lan.host, "notifying-daemon", command)?;
    let told = |what: &str| -> Result {
        let mut message = [0; 256];
        loop {
            let length = manager
                .recv(&mut message)
                .with_context(|| format!("never told {what}"))?;
            if String::from_utf8_lossy(&message[..length]).contains(what) {
                return Ok(());
            }
        }
    };
    told("READY=1")?;
    for _ in 0..3 {
        told("WATCHDOG=1")?;
    }
    daemon.stop()?;
    told("STOPPING=1")?;
    Ok(())
}

fn only_root_may_use_the_socket(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let mode = fs::metadata(scenario.daemon.socket())?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    Ok(())
}

fn a_flag_lets_a_group_use_the_socket(world: &World) -> Result {
    // The only group that every user's world has.
    let scenario = Scenario::with_daemon(world, &["-group", "0"])?;
    // The socket accepts root's calls first, and gets its group and mode next.
    until("the group may use the socket", SOON, || {
        fs::metadata(scenario.daemon.socket())
            .is_ok_and(|file| file.permissions().mode() & 0o777 == 0o660 && file.gid() == 0)
    })
}

fn status_says_when_leases_cannot_be_written(world: &World) -> Result {
    let state = world.dir().join("state");
    let scenario = Scenario::with_daemon(
        world,
        &["-statedir", state.to_str().context("a path of ours")?],
    )?;
    let mut conflist = scenario.dhcp();
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::new(&scenario.lan.host, conflist);
    network.status()?;
    fs::remove_dir_all(&state)?;
    fs::write(&state, "in the way")?;
    let error = network::cni_error(network.status());
    ensure!(
        error.code == 50 && error.msg.contains("cannot write its leases"),
        "{error:?}"
    );
    Ok(())
}

fn the_callers_traceparent_is_logged(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let container = scenario.lan.container("c1")?;
    let call = ipam_alone("DEL", &container, scenario.daemon.socket())?.env("TRACEPARENT", trace);
    call.run(&scenario.lan.host)?.success()?;
    ensure!(
        scenario.daemon.log().contains(trace),
        "{}",
        scenario.daemon.log()
    );
    Ok(())
}

fn malformed_requests_are_refused_and_other_callers_served(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let long = vec![b'x'; 5_000_000];
    for nonsense in [
        b"\n".as_slice(),
        b"{}\n",
        b"{\"protocol\":99}\n",
        b"\xff\xfe\n",
        b"{\"protocol\":1,\"verb\":\"fly\"}\n",
        &long,
    ] {
        let mut stream = UnixStream::connect(scenario.daemon.socket())?;
        stream.set_read_timeout(Some(deadline(SOON)))?;
        // The daemon may hang up before it has read the whole of it.
        let _ = stream.write_all(nonsense);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        ensure!(
            answer.is_empty() || answer.contains("\"error\""),
            "{answer}"
        );
    }
    let silent = UnixStream::connect(scenario.daemon.socket())?;
    let container = scenario.lan.container("c1")?;
    reported(
        &Network::new(&scenario.lan.host, scenario.dhcp())
            .add(&network::Attachment::new(&container))?,
        &container,
    )?;
    drop(silent);
    Ok(())
}

fn an_idle_lease_holds_no_thread_and_no_descriptor(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let pid = scenario.daemon.process().pid();
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count);
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    until("the daemon is ready", SOON, || {
        scenario.daemon.log().contains("is ready")
    })?;
    let before = count("fd")?;
    for i in 0..20 {
        let container = scenario.lan.container(&format!("c{i}"))?;
        network.add(&network::Attachment::new(&container))?;
    }
    until("every descriptor is closed again", SOON, || {
        count("fd").is_ok_and(|now| now <= before)
    })?;
    let threads = count("task")?;
    ensure!(threads <= 3, "{threads} threads for 20 leases");
    Ok(())
}

fn install_makes_directories_that_all_may_enter_whatever_the_umask_is(world: &World) -> Result {
    let above = world.dir().join("opt");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$0\" install \"$1\""]);
    command.arg(suite::plugin_dir().join("dhcp"));
    let output = command.arg(above.join("cni/bin")).output()?;
    ensure!(output.status.success(), "{output:?}");
    for made in ["", "cni", "cni/bin", "cni/bin/macvlan", "cni/bin/dhcp"] {
        let mode = above.join(made).metadata()?.permissions().mode() & 0o7777;
        ensure!(mode == 0o755, "{made}: {mode:o}");
    }
    Ok(())
}
