//! Callers that send nothing, something else, or absurd times; and those that end, or outlive the
//! daemon, in between.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{
    Daemon, DhcpServer, Lan, Network, Process, Result, Test, World, deadline, network, suite, test,
    until,
};

use super::{add_request, ask, dhcp, ipam_alone};
use crate::scenario::{SOON, Scenario, conflist, reported};

pub(super) const TESTS: &[Test] = &[
    test!(a_caller_that_sends_no_request_is_disconnected_with_a_reason),
    test!(a_descriptor_that_is_not_a_netns_is_refused),
    test!(a_time_that_no_clock_can_count_is_as_good_as_none),
    test!(an_add_whose_caller_was_killed_leaves_nothing),
    test!(a_failed_add_does_not_forget_the_previous_address),
    test!(del_succeeds_although_the_daemon_is_killed_during_it),
];

fn a_caller_that_sends_no_request_is_disconnected_with_a_reason(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let mut silent = UnixStream::connect(scenario.daemon.socket())?;
    let mut slow = UnixStream::connect(scenario.daemon.socket())?;
    for caller in [&silent, &slow] {
        caller.set_read_timeout(Some(deadline(Duration::from_secs(10))))?;
    }
    // Octets that trickle in do not extend the time.
    let began = Instant::now();
    while began.elapsed() < deadline(Duration::from_secs(7)) && slow.write_all(b" ").is_ok() {
        thread::sleep(Duration::from_millis(200));
    }
    for caller in [&mut silent, &mut slow] {
        let mut answer = String::new();
        let _ = caller.read_to_string(&mut answer);
        ensure!(answer.contains("no request within 5 s"), "{answer}");
    }
    Ok(())
}

fn a_descriptor_that_is_not_a_netns_is_refused(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let request = add_request(&scenario, &container.path())?;
    for (path, problem) in [
        (PathBuf::from("/dev/null"), "not a network namespace"),
        ("/proc/self/ns/mnt".into(), "not a network namespace"),
        (world.dir().to_owned(), "not a network namespace"),
    ] {
        let file = File::open(&path)?;
        let answer = ask(scenario.daemon.socket(), &request, Some(file.as_fd()))?;
        ensure!(answer["error"]["code"] == 4, "{}: {answer}", path.display());
        ensure!(
            answer.to_string().contains(problem),
            "{}: {answer}",
            path.display()
        );
    }
    Ok(())
}

fn a_time_that_no_clock_can_count_is_as_good_as_none(world: &World) -> Result {
    let long = "9000000000000000000s";
    let arguments = ["-resendtimeout", long, "-timeout", long, "-idle", long];
    let mut scenario = Scenario::with_daemon(world, &arguments)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    reported(&network.add(&attachment)?, &container)?;

    let mut request = add_request(&scenario, &container.path())?;
    request["terms"]["timeout"] = json!(9e18);
    let reply = ask(scenario.daemon.socket(), &request, None)?;
    ensure!(!reply["lease"].is_null(), "{reply}");
    scenario.daemon.process().stop()
}

fn an_add_whose_caller_was_killed_leaves_nothing(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    server.when(MessageType::Discover).then(Reaction::silence());
    let socket = world.dir().join("dhcp.sock");
    let mut command = std::process::Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-idle", "5s", "-socketpath"])
        .arg(&socket);
    let mut daemon = Process::spawn(world, &lan.host, "idle-daemon", command)?;
    until("it listens", SOON, || UnixStream::connect(&socket).is_ok())?;
    let container = lan.container("c1")?;
    Network::new(&lan.host, conflist(json!({}))).add(&network::Attachment::new(&container))?;
    let call = ipam_alone("ADD", &container, &socket, "").start(&lan.host)?;
    server.wait_for(MessageType::Discover, 1, SOON)?;
    call.kill()?;
    // It would not exit if it still had a lease or a request.
    let status = daemon
        .wait(Duration::from_secs(15))
        .with_context(|| daemon.log())?;
    ensure!(status.success(), "{status}: {}", daemon.log());
    Ok(())
}

fn a_failed_add_does_not_forget_the_previous_address(world: &World) -> Result {
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
    server.when(MessageType::Discover).then(Reaction::silence());
    let impatient = scenario.dhcp_with(json!({ "timeout": "1s" }));
    let impatient = Network::new(&scenario.lan.host, impatient);
    let error = network::cni_error(impatient.add(&attachment));
    ensure!(error.code == 11, "{error:?}");
    server.behave();
    let again = reported(&network.add(&attachment)?, &one)?;
    ensure!(again == first, "it was {first} and is {again} now");
    Ok(())
}

fn del_succeeds_although_the_daemon_is_killed_during_it(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let mut daemon = Daemon::start(world, &lan.host)?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let socket = daemon.socket().to_owned();
    // A stopped daemon accepts connections but does not answer.
    daemon.process().signal(nix::sys::signal::Signal::SIGSTOP)?;
    let call = ipam_alone("DEL", &container, &socket, "").start(&lan.host)?;
    let log = format!("/proc/{}/wchan", call.pid());
    until("the plugin waits for an answer", SOON, || {
        fs::read_to_string(&log).is_ok_and(|channel| channel.contains("unix_stream"))
            || fs::metadata(&log).is_err()
    })?;
    daemon.kill()?;
    call.finish()?.success()?;
    let daemon = Daemon::start(world, &lan.host)?;
    server
        .wait_for(MessageType::Release, 1, SOON)
        .with_context(|| daemon.log())?;
    Ok(())
}
