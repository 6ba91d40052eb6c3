//! The daemon under overload, out of resources, and with callers that misbehave.

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::plugin::Call;
use lab::serde_json::{self, Value, json};
use lab::{
    Daemon, DhcpServer, Lan, Network, Node, Process, Result, Test, World, deadline, network, suite,
    test, until,
};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::chaos::lease_files;
use crate::scenario::{SOON, Scenario, address, conflist, netns_held_by, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(three_hundred_adds_at_a_time_all_succeed).within(Duration::from_secs(180)),
    test!(short_of_descriptors_the_daemon_delays_callers_and_fails_none),
    test!(a_daemon_out_of_descriptors_renews_later),
    test!(leases_without_a_server_take_turns_and_leave_descriptors_for_an_add)
        .within(Duration::from_secs(120)),
    test!(adds_on_a_lan_without_a_server_do_not_hold_up_another_lan),
    test!(with_a_full_disk_addresses_are_leased_and_released_ones_stay_released),
    test!(with_a_read_only_state_directory_addresses_are_leased),
    test!(a_caller_that_sends_no_request_is_disconnected_with_a_reason),
    test!(a_descriptor_that_is_not_a_netns_is_refused),
    test!(gc_of_thousands_of_attachments_is_served),
    test!(a_time_that_no_clock_can_count_is_as_good_as_none),
    test!(without_a_descriptor_the_path_is_looked_up_under_the_prefix),
    test!(a_netns_whose_path_the_daemon_cannot_see_is_kept_open_until_del_or_gc),
    test!(an_add_whose_caller_was_killed_leaves_nothing),
    test!(a_failed_add_does_not_forget_the_previous_address),
    test!(a_daemon_starts_after_a_del_that_holds_the_state_directory),
    test!(del_succeeds_although_the_daemon_is_killed_during_it),
    test!(a_lease_file_of_another_attachment_is_set_aside),
];

fn three_hundred_adds_at_a_time_all_succeed(world: &World) -> Result {
    adds_at_a_time(world, &suite::plugin_dir().join("dhcp"), 300)
}

fn short_of_descriptors_the_daemon_delays_callers_and_fails_none(world: &World) -> Result {
    let program = script(
        world,
        &format!(
            "ulimit -n 64; exec {}/dhcp \"$@\"",
            suite::plugin_dir().display()
        ),
    )?;
    adds_at_a_time(world, &program, 60)
}

fn adds_at_a_time(world: &World, daemon: &Path, number: usize) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(
        &lan.lan,
        Settings {
            pool: [10, 99, 1, 0].into()..=[10, 99, 8, 0].into(),
            prefix_len: 16,
            ..Settings::default()
        },
    )?;
    let daemon = Daemon::start_program(world, &lan.host, daemon, &[])?;
    let configuration = dhcp(daemon.socket());
    let containers = (0..number)
        .map(|i| lan.container(&format!("c{i}")))
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    thread::scope(|scope| {
        let adds: Vec<_> = containers
            .iter()
            .map(|container| {
                let network = Network::new(&lan.host, configuration.clone());
                scope.spawn(move || network.add(&network::Attachment::new(container)).map(drop))
            })
            .collect();
        adds.into_iter()
            .try_for_each(|add| add.join().map_err(|_| anyhow!("an ADD panicked"))?)
    })
    .with_context(|| daemon.log())?;
    eprintln!("{number} ADDs in {:?}", began.elapsed());
    ensure!(
        server.leases().len() == number,
        "{} leases",
        server.leases().len()
    );
    Ok(())
}

fn a_daemon_out_of_descriptors_renews_later(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            t1: Some(Duration::from_secs(2)),
            ..Settings::default()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&container))?;
    let pid = scenario.daemon.process().pid();
    let limit = |soft: &str| {
        scenario
            .lan
            .host
            .output(&["prlimit", "--pid", &pid.to_string(), soft])
            .map(drop)
    };
    limit("--nofile=5:")?;
    until("the daemon has tried", SOON, || {
        scenario.daemon.log().contains("cannot inspect a container")
    })?;
    limit("--nofile=1024:")?;
    let asked = server.received_of(MessageType::Request).len();
    server.wait_for(MessageType::Request, asked + 1, Duration::from_secs(15))?;
    ensure!(
        !scenario.daemon.log().contains("lease dropped"),
        "{}",
        scenario.daemon.log()
    );
    Ok(())
}

/// A daemon that may have 128 descriptors: far fewer than the leases would take if each kept its
/// own. It has 20 places for callers, and lets 13 ADDs exchange messages at a time.
pub(crate) fn daemon_with_few_descriptors(world: &World, host: &Node) -> Result<Daemon> {
    let dhcp = suite::plugin_dir().join("dhcp");
    let program = script(
        world,
        &format!("ulimit -n 128; exec {} \"$@\"", dhcp.display()),
    )?;
    Daemon::start_program(world, host, &program, &[])
}

fn leases_without_a_server_take_turns_and_leave_descriptors_for_an_add(world: &World) -> Result {
    const LEASES: usize = 40;
    let lan = Lan::new()?;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let settings = Settings {
        lease_time: seconds(12),
        t1: seconds(8),
        t2: seconds(10),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, settings)?;
    let mut daemon = daemon_with_few_descriptors(world, &lan.host)?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    for number in 0..LEASES {
        let container = lan.container(&format!("c{number}"))?;
        network.add(&network::Attachment::new(&container))?;
    }
    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(Reaction::silence());
    }
    until("many leases are lost", Duration::from_secs(60), || {
        daemon.log().matches("address lost").count() >= LEASES / 2
    })
    .with_context(|| daemon.log())?;
    let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.process().pid()))?.count();
    ensure!(descriptors < LEASES, "{descriptors} descriptors are open");
    server.behave();
    let late = lan.container("late")?;
    network.add(&network::Attachment::new(&late))?;
    until("every lease is back", Duration::from_secs(60), || {
        server.leases().len() > LEASES
    })
    .with_context(|| daemon.log())?;
    ensure!(
        !daemon.log().contains("Too many open files"),
        "{}",
        daemon.log()
    );
    Ok(())
}

fn adds_on_a_lan_without_a_server_do_not_hold_up_another_lan(world: &World) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let dead = lan.container("dead")?;
    lan.host.add_veth("eth2", (&dead, Lan::SERVER_LINK))?;
    lan.host.set_up("eth2")?;
    dead.set_up(Lan::SERVER_LINK)?;
    let listener = DhcpServer::start(&dead, Settings::default())?;
    listener
        .when(MessageType::Discover)
        .then(Reaction::silence());
    let daemon = daemon_with_few_descriptors(world, &lan.host)?;
    let healthy = dhcp(daemon.socket());
    let mut deaf = healthy.clone();
    deaf["name"] = json!("deaf");
    deaf["plugins"][0]["master"] = json!("eth2");
    let containers = (0..15)
        .map(|number| lan.container(&format!("c{number}")))
        .collect::<Result<Vec<_>>>()?;
    let container = lan.container("healthy")?;
    thread::scope(|scope| {
        let adds: Vec<_> = containers
            .iter()
            .map(|container| {
                let network = Network::new(&lan.host, deaf.clone());
                scope.spawn(move || network.add(&network::Attachment::new(container)).map(drop))
            })
            .collect();
        let added = until("many ADDs ask in vain", SOON, || {
            let asking = listener.received_of(MessageType::Discover);
            let macs = asking.iter().map(|discover| discover.ethernet_source);
            macs.collect::<std::collections::BTreeSet<_>>().len() >= 7
        })
        .and_then(|()| {
            let network = Network::new(&lan.host, healthy);
            network.add(&network::Attachment::new(&container))
        });
        let waiting = adds.iter().filter(|add| !add.is_finished()).count();
        // They are told to try again.
        daemon.stop()?;
        added?;
        ensure!(waiting == adds.len(), "{waiting} ADDs were still waiting");
        Ok(())
    })
}

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

fn gc_of_thousands_of_attachments_is_served(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let [kept, gone] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let mut conflist = scenario.dhcp();
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::new(&scenario.lan.host, conflist);
    let kept = network::Attachment::new(&kept);
    network.add(&kept)?;
    network.add(&network::Attachment::new(&gone))?;
    let others = (0..3000).map(|nth| network::Attachment {
        container_id: format!("{nth:064x}"),
        ..network::Attachment::new(&gone)
    });
    let valid: Vec<_> = others.chain([kept.clone()]).collect();
    network.gc(&valid.iter().collect::<Vec<_>>())?;
    until("the other's address is released", SOON, || {
        server.leases().len() == 1
    })?;
    network.check(&kept)
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

fn without_a_descriptor_the_path_is_looked_up_under_the_prefix(world: &World) -> Result {
    let prefix = world.dir().join("rootfs");
    fs::create_dir_all(&prefix)?;
    for directory in ["run", "var"] {
        std::os::unix::fs::symlink(Path::new("/").join(directory), prefix.join(directory))?;
    }
    let prefix = prefix.to_str().context("a path of ours")?;
    let scenario = Scenario::with_daemon(world, &["-hostprefix", prefix])?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, conflist(json!({})))
        .add(&network::Attachment::new(&container))?;
    let request = add_request(&scenario, &container.path())?;
    let answer = ask(scenario.daemon.socket(), &request, None)?;
    ensure!(answer["lease"]["ips"][0]["address"].is_string(), "{answer}");

    // A path that exists under the host's root but not under the prefix is not found.
    fs::remove_file(Path::new(prefix).join("run"))?;
    let answer = ask(scenario.daemon.socket(), &request, None)?;
    ensure!(
        answer["error"]["code"] == 3 && answer.to_string().contains(prefix),
        "{answer}"
    );
    Ok(())
}

fn a_netns_whose_path_the_daemon_cannot_see_is_kept_open_until_del_or_gc(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(
        &lan.lan,
        Settings {
            t1: Some(Duration::from_secs(2)),
            ..Settings::default()
        },
    )?;
    let containers = [lan.container("c1")?, lan.container("c2")?];
    let program = script(
        world,
        &format!(
            "exec unshare --mount sh -c 'mount -t tmpfs none /run/netns && exec {}/dhcp \"$@\"' dhcp \"$@\"",
            suite::plugin_dir().display()
        ),
    )?;
    let state = world.dir().join("state");
    let flags = ["-statedir", state.to_str().context("a path of ours")?];
    let mut daemon = Daemon::start_program(world, &lan.host, &program, &flags)?;
    let mut configuration = dhcp_with(daemon.socket(), json!({ "stateDir": state }));
    configuration["cniVersion"] = json!("1.1.0");
    let network = Network::new(&lan.host, configuration);
    let attachments = containers.each_ref().map(network::Attachment::new);
    for (container, attachment) in containers.iter().zip(&attachments) {
        reported(&network.add(attachment)?, container)?;
        network.check(attachment)?;
    }
    let pid = daemon.process().pid();
    let kept = || netns_held_by(pid);
    until("one for each is kept", SOON, || {
        kept().is_ok_and(|kept| kept == 2)
    })?;
    let written: Value = serde_json::from_slice(&fs::read(state.join("lan/c1:eth0.json"))?)?;
    ensure!(written["netnsKept"] == true, "{written}");
    let leased = address(&containers[0])?;
    let renewed = || {
        let requests = server.received_of(MessageType::Request);
        requests
            .iter()
            .any(|request| *request.source.ip() == leased)
    };
    until("it is renewed", SOON, renewed)?;
    network.check(&attachments[0])?;

    network.del(&attachments[0])?;
    until("DEL closes its namespace", SOON, || {
        kept().is_ok_and(|kept| kept == 1)
    })?;
    network.gc(&[])?;
    until("GC closes the other", SOON, || {
        kept().is_ok_and(|kept| kept == 0)
    })?;
    until("both are given back", SOON, || server.leases().is_empty())?;
    Ok(())
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

/// A program of a few words of shell.
pub(crate) fn script(world: &World, text: &str) -> Result<PathBuf> {
    let path = world.dir().join("daemon.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

pub(crate) fn dhcp(socket: &Path) -> Value {
    dhcp_with(socket, json!({}))
}

pub(crate) fn dhcp_with(socket: &Path, keys: Value) -> Value {
    let mut ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
    if let (Value::Object(ipam), Value::Object(keys)) = (&mut ipam, keys) {
        ipam.extend(keys);
    }
    conflist(json!({ "ipam": ipam }))
}

fn ipam_alone(verb: &str, container: &Node, socket: &Path, state: &str) -> Call {
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "dhcp",
        "ipam": { "type": "dhcp", "daemonSocketPath": socket, "stateDir": state },
    });
    Call::new("dhcp", verb)
        .container(container.name())
        .netns(container.path())
        .ifname("eth0")
        .config(&config)
}

/// ADD as the plugin would ask it, for `c1`, on the terms that another container has its lease.
pub(crate) fn add_request(scenario: &Scenario, netns: &Path) -> Result<Value> {
    let other = scenario.lan.container("other")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&other))?;
    let written = fs::read(
        lease_files()?
            .first()
            .context("a lease that is written down")?,
    )?;
    let written: Value = serde_json::from_slice(&written)?;
    Ok(json!({
        "protocol": 1, "verb": "add", "netns": netns, "terms": written["terms"],
        "attachment": { "containerID": "c1", "network": "lan", "ifname": "eth0" },
    }))
}

pub(crate) fn ask(
    socket: &Path,
    request: &Value,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(deadline(Duration::from_secs(10))))?;
    send(&stream, format!("{request}\n").as_bytes(), descriptor)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let _ = stream.shutdown(Shutdown::Both);
    serde_json::from_str(&answer).with_context(|| answer.clone())
}

/// Sends a request, or the beginning of it, with a descriptor beside its first octets.
pub(crate) fn send(
    stream: &UnixStream,
    request: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result {
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(
        stream,
        &[IoSlice::new(request)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
