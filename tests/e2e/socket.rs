//! The daemon's socket: callers with and without rights, silent ones, and requests that no plugin
//! would send.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::Ipv4Net;
use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{Value, json};
use lab::{
    DhcpServer, Lan, Network, Process, Result, Test, World, deadline, network, suite, test, until,
};
use linknet::{Netlink, Netns, NewMacvlan};
use nix::mount::{MsFlags, mount};
use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::chaos::{Random, clock, from_environment};
use crate::limits::{add_request, ask, daemon_with_few_descriptors, dhcp, send};
use crate::persistence::ipam_alone;
use crate::scenario::{SOON, Scenario, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(a_member_of_the_group_may_ask_for_a_lease_but_not_for_the_socket_or_gc),
    test!(a_member_of_the_group_touches_neither_the_host_nor_the_containers_of_others),
    test!(members_of_the_group_leave_places_for_root),
    test!(a_member_of_the_group_cannot_have_all_addresses_of_the_lan),
    test!(a_supplementary_group_counts_and_the_sockets_new_directory_admits_it),
    test!(a_member_of_the_group_does_not_learn_which_paths_exist),
    test!(a_member_of_the_group_may_not_speak_netavarks_protocol),
    test!(a_stranger_who_listens_on_the_socket_is_not_believed),
    test!(a_lock_of_the_socket_that_somebody_keeps_holds_up_no_takeover),
    test!(a_user_without_rights_reads_who_has_them),
    test!(a_refused_takeover_is_a_sentence),
    test!(the_example_of_a_group_works_as_printed),
    test!(a_socket_in_a_directory_for_everybody_is_warned_of),
    test!(silent_callers_do_not_keep_others_waiting),
    test!(requests_that_no_plugin_sends_disturb_nobody).within(Duration::from_secs(180)),
];

/// A user and a group without privileges.
const USER: u32 = 4241;
const GROUP: u32 = 4242;

/// Whether the world has other users than root. One that an ordinary user made has not.
fn has_other_users() -> Result<bool> {
    let is_whole =
        |map: &str| Ok::<_, std::io::Error>(fs::read_to_string(map)?.contains("4294967295"));
    Ok(is_whole("/proc/self/uid_map")? && is_whole("/proc/self/gid_map")?)
}

/// Runs `f` as a user without privileges in [`GROUP`]. It must not create processes.
fn as_stranger<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    as_user_of(GROUP, &[], f)
}

/// Runs `f` as a user without privileges in this group, and in others. It must not create
/// processes.
fn as_user_of<T: Send>(
    group: u32,
    others: &[u32],
    f: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let as_user = || {
        let (user, group) = (Uid::from_raw(USER), Gid::from_raw(group));
        let others: Vec<Gid> = others.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&others)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        f()
    };
    thread::scope(|scope| {
        let outcome = scope.spawn(as_user).join();
        outcome.map_err(|_| anyhow!("it panicked"))?
    })
}

/// A namespace that [`USER`] has made, with an interface `eth0` on the LAN, and the process that
/// keeps it.
fn own_container(world: &World, lan: &Lan) -> Result<(Process, Netns)> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--net", "sleep", "infinity"]);
    command.uid(USER).gid(GROUP);
    let process = Process::spawn(world, &lan.host, "own", command)?;
    let path = format!("/proc/{}/ns/net", process.pid());
    let outside = lan.host.netns().id()?;
    until("the user has a namespace", SOON, || {
        Netns::open(&path).is_ok_and(|netns| netns.id().is_ok_and(|id| id != outside))
    })?;
    let netns = Netns::open(&path)?;
    let parent = lan.host.link(Lan::MASTER)?.index;
    let inside = Netlink::open_in(&netns)?;
    let new = NewMacvlan::new("eth0", parent);
    lan.host.netlink()?.add_macvlan(&new, &netns, &inside)?;
    Ok((process, netns))
}

/// A member's ADD, and one that poses as root's container `other`, which has a lease.
fn own_add(scenario: &Scenario) -> Result<(Value, Value)> {
    let posing = add_request(scenario, Path::new("/run/netns/none"))?;
    let mut add = posing.clone();
    add["terms"]["clientId"] = json!({ "sent": "00746573740a" });
    Ok((add, posing))
}

/// A daemon that admits [`GROUP`].
fn with_group(world: &World) -> Result<Scenario> {
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o755))?;
    let scenario = Scenario::with_daemon(world, &["-group", &GROUP.to_string()])?;
    until("the group may use the socket", SOON, || {
        fs::metadata(scenario.daemon.socket())
            .is_ok_and(|file| file.permissions().mode() & 0o777 == 0o660)
    })?;
    Ok(scenario)
}

fn a_member_of_the_group_may_ask_for_a_lease_but_not_for_the_socket_or_gc(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = with_group(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let (_process, netns) = own_container(world, &scenario.lan)?;
    let socket = scenario.daemon.socket();
    ensure_refused(socket, &json!({ "protocol": 1, "verb": "takeover" }), None)?;
    let gc = json!({ "protocol": 1, "verb": "gc", "network": "lan", "keep": [] });
    ensure_refused(socket, &gc, None)?;

    let (add, _) = own_add(&scenario)?;
    let added = as_stranger(|| ask(socket, &add, Some(netns.as_fd())))?;
    let net = added["lease"]["ips"][0]["address"].as_str();
    let net: Ipv4Net = net.with_context(|| added.to_string())?.parse()?;
    for verb in ["check", "status", "del"] {
        let mut request = add.clone();
        request["verb"] = json!(verb);
        request["addresses"] = json!([net.addr()]);
        let answer = as_stranger(|| ask(socket, &request, None))?;
        ensure!(answer == "done", "{verb}: {answer}");
    }
    Ok(())
}

fn a_member_of_the_group_touches_neither_the_host_nor_the_containers_of_others(
    world: &World,
) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = with_group(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let (_process, own) = own_container(world, &scenario.lan)?;
    let (add, posing) = own_add(&scenario)?;
    let socket = scenario.daemon.socket();

    let other = fs::File::open("/run/netns/other")?;
    let mut host = add.clone();
    host["attachment"]["ifname"] = json!(Lan::MASTER);
    ensure_refused(socket, &host, Some(scenario.lan.host.netns().as_fd()))?;
    ensure_refused(socket, &add, Some(other.as_fd()))?;
    let mut access = add.clone();
    access["terms"]["hostAccess"] = json!(["8.8.8.8/32"]);
    ensure_refused(socket, &access, Some(own.as_fd()))?;

    // Nor does it take another's address away, as the client that the server knows.
    ensure_refused(socket, &posing, Some(own.as_fd()))?;

    // Neither does it end another's lease, nor put one of its own into its place.
    let mut others = add.clone();
    others["attachment"]["containerID"] = json!("other");
    ensure_refused(socket, &others, Some(own.as_fd()))?;
    for verb in ["check", "del"] {
        others["verb"] = json!(verb);
        others["addresses"] = json!([]);
        ensure_refused(socket, &others, None)?;
    }
    until("the log says whose lease it is", SOON, || {
        let log = scenario.daemon.log();
        let mut lines = log.lines();
        lines.any(|it| it.contains("request refused: ") && it.contains("attachment=other/"))
    })?;
    Ok(())
}

/// Requests of a member that wait for a server are only some of those that are served.
fn members_of_the_group_leave_places_for_root(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = with_group(world)?;
    let mut server = Some(DhcpServer::start(&scenario.lan.lan, Settings::default())?);
    let (_process, own) = own_container(world, &scenario.lan)?;
    let (add, _) = own_add(&scenario)?;
    let socket = scenario.daemon.socket();
    server.take();
    let waiting: Vec<UnixStream> = as_stranger(|| {
        let ask = |number: usize| {
            let mut add = add.clone();
            add["attachment"]["containerID"] = json!(format!("c{number}"));
            add["terms"]["timeout"] = json!(1_000_000);
            let stream = UnixStream::connect(socket)?;
            send(&stream, format!("{add}\n").as_bytes(), Some(own.as_fd()))?;
            Ok(stream)
        };
        (0..600).map(ask).collect()
    })?;
    let answer = ask(socket, &json!({ "protocol": 1, "verb": "status" }), None)?;
    ensure!(answer == "done", "{answer}");
    until("further ADDs are refused", SOON, || {
        let log = scenario.daemon.log();
        log.contains("too many ADDs of members of the group")
    })?;
    drop(waiting);
    Ok(())
}

fn a_member_of_the_group_cannot_have_all_addresses_of_the_lan(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = with_group(world)?;
    let settings = Settings {
        pool: Ipv4Addr::new(10, 99, 1, 0)..=Ipv4Addr::new(10, 99, 9, 255),
        prefix_len: 16,
        ..Settings::default()
    };
    let _server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let (_process, own) = own_container(world, &scenario.lan)?;
    let (mut add, _) = own_add(&scenario)?;
    let socket = scenario.daemon.socket();
    let mut add = |number: usize| {
        add["attachment"]["containerID"] = json!(format!("c{number}"));
        add["terms"]["clientId"] = json!({ "sent": format!("00{number:08x}") });
        as_stranger(|| ask(socket, &add, Some(own.as_fd())))
    };
    for number in 0..256 {
        let answer = add(number)?;
        ensure!(answer["lease"].is_object(), "{number}: {answer}");
    }
    let answer = add(256)?;
    ensure!(answer["error"]["code"] == 11, "{answer}");
    let why = answer["error"]["msg"].as_str().unwrap_or_default();
    ensure!(why.contains("has 256 leases"), "{answer}");
    // The ones that it has, it may request again.
    let answer = add(0)?;
    ensure!(answer["lease"].is_object(), "{answer}");
    Ok(())
}

/// What a member requests in vain.
fn ensure_refused(socket: &Path, request: &Value, descriptor: Option<BorrowedFd<'_>>) -> Result {
    let answer = as_stranger(|| ask(socket, request, descriptor))?;
    let why = answer["error"]["msg"].as_str().unwrap_or_default();
    ensure!(
        why.contains("-group admits") || why.contains("requested"),
        "{request}: {answer}"
    );
    Ok(())
}

/// Its calls name namespaces by their paths.
fn a_member_of_the_group_may_not_speak_netavarks_protocol(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = with_group(world)?;
    let answer = as_stranger(|| {
        let mut caller = UnixStream::connect(scenario.daemon.socket())?;
        caller.set_read_timeout(Some(deadline(SOON)))?;
        caller.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        let mut answer = [0; 1024];
        let length = caller.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    })?;
    ensure!(
        answer.contains("must pass the network namespace"),
        "{answer:?}"
    );
    Ok(())
}

fn a_supplementary_group_counts_and_the_sockets_new_directory_admits_it(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o755))?;
    let lan = Lan::new()?;
    let start = |directory: &str| {
        let socket = world.dir().join(directory).join("dhcp.sock");
        let mut command = Command::new(suite::plugin_dir().join("dhcp"));
        command.args(["daemon", "-group", &GROUP.to_string(), "-socketpath"]);
        command.arg(&socket);
        let daemon = Process::spawn(world, &lan.host, directory, command)?;
        Result::Ok((daemon, socket))
    };
    let (mut daemon, socket) = start("new")?;
    let status = json!({ "protocol": 1, "verb": "status" });
    let asked = |own, others: &[u32]| as_user_of(own, others, || ask(&socket, &status, None));
    until("the group may use the socket", SOON, || {
        asked(GROUP, &[]).is_ok_and(|answer| answer == "done")
    })?;
    let many: Vec<u32> = (5000..5040).chain([GROUP]).collect();
    let answer = asked(USER, &many)?;
    ensure!(answer == "done", "{answer}");
    ensure!(asked(USER, &[5000]).is_err(), "nobody else may connect");
    daemon.stop()?;

    // A directory that exists stays as it is.
    let closed = world.dir().join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let (mut daemon, _) = start("closed")?;
    until("the log says that the group cannot get there", SOON, || {
        let log = daemon.log();
        log.contains("may not enter the socket's directory")
    })?;
    daemon.stop()?;
    ensure!(fs::metadata(&closed)?.permissions().mode() & 0o777 == 0o700);
    Ok(())
}

fn a_member_of_the_group_does_not_learn_which_paths_exist(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = with_group(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let mut add = add_request(&scenario, Path::new("/root/nothing"))?;
    let socket = scenario.daemon.socket();
    let mut answers = Vec::new();
    for path in ["/root/nothing", "/root", "/dev/null", "/proc/1/ns/net"] {
        add["netns"] = json!(path);
        answers.push(as_stranger(|| ask(socket, &add, None))?);
    }
    let problem = answers[0]["error"]["msg"].as_str().unwrap_or_default();
    ensure!(problem.contains("as a descriptor"), "{answers:?}");
    ensure!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    Ok(())
}

fn a_stranger_who_listens_on_the_socket_is_not_believed(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    // As in /tmp: everybody may create a socket there.
    let directory = world.dir().join("everybody");
    fs::create_dir(&directory)?;
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777))?;
    let socket = directory.join("dhcp.sock");
    let _listener = as_stranger(|| Ok(UnixListener::bind(&socket)?))?;
    let call = |verb: &str| ipam_alone(verb, &container, &socket)?.run(&lan.host);
    let error = call("ADD")?.error()?;
    ensure!(
        error.code == 5 && error.details.contains("uid 4241 listens there"),
        "{error:?}"
    );
    // The container must go, even if a stranger listens.
    let del = call("DEL")?;
    ensure!(
        del.status.success() && del.stderr.contains("uid 4241 listens there"),
        "{del:?}"
    );
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-takeover", "-socketpath"])
        .arg(&socket);
    let mut daemon = Process::spawn(world, &lan.host, "successor", command)?;
    let status = daemon.wait(SOON)?;
    ensure!(
        !status.success() && daemon.log().contains("uid 4241 listens there"),
        "{status}: {}",
        daemon.log()
    );
    Ok(())
}

fn a_lock_of_the_socket_that_somebody_keeps_holds_up_no_takeover(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    let socket = scenario.daemon.socket().to_owned();
    let lock = socket.with_added_extension("lock");
    let mode = fs::metadata(&lock)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    // Somebody else's lock: the file is replaced, and locked by us.
    fs::remove_file(&lock)?;
    let theirs = fs::File::create(&lock)?;
    theirs.lock()?;
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command
        .args(["daemon", "-takeover", "-socketpath"])
        .arg(&socket);
    let mut successor = Process::spawn(world, &scenario.lan.host, "successor", command)?;
    scenario.daemon.process().wait(SOON)?;
    successor.until("it serves callers", Duration::from_secs(20), || {
        let status = json!({ "protocol": 1, "verb": "status" });
        ask(&socket, &status, None).is_ok_and(|answer| answer == "done")
    })?;
    let log = successor.log();
    ensure!(log.contains("keeps the lock of the socket"), "{log}");
    Ok(())
}

/// `dhcp` with these arguments, as a user without privileges.
fn dhcp_as_stranger(arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command.args(arguments).uid(USER).gid(GROUP);
    command
}

fn a_user_without_rights_reads_who_has_them(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = Scenario::new(world)?;
    let socket = scenario.daemon.socket();
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o755))?;
    let output = |mut command: Command| {
        let output = scenario.lan.host.run(|| command.output())??;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(!output.status.success(), "{text}");
        ensure!(!text.contains("os error"), "{text}");
        Ok(text)
    };
    let words =
        "only root may, and members of the group that the daemon admits (-group), not uid 4241";
    let status = [
        OsStr::new("status"),
        OsStr::new("--socketpath"),
        socket.as_os_str(),
    ];
    let text = output(dhcp_as_stranger(&status))?;
    ensure!(text.contains(words), "{text}");

    let stdin = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": "dhcp",
        "ipam": { "type": "dhcp", "daemonSocketPath": socket },
    });
    let file = world.dir().join("stdin");
    fs::write(&file, stdin.to_string())?;
    let mut plugin = dhcp_as_stranger(&[]);
    plugin.env("CNI_COMMAND", "STATUS").env("CNI_PATH", "/");
    plugin.stdin(fs::File::open(&file)?);
    let text = output(plugin)?;
    ensure!(text.contains(words), "{text}");

    // A daemon that cannot use the socket's directory, and one that has no capabilities.
    let theirs = world.dir().join("theirs");
    fs::create_dir(&theirs)?;
    std::os::unix::fs::chown(&theirs, Some(USER), Some(GROUP))?;
    let daemon = |socket: &Path| {
        let mut arguments = ["daemon", "-statedir"].map(OsStr::new).to_vec();
        arguments.extend([
            theirs.as_os_str(),
            OsStr::new("-socketpath"),
            socket.as_os_str(),
        ]);
        dhcp_as_stranger(&arguments)
    };
    let text = output(daemon(socket))?;
    ensure!(
        text.contains("(the daemon must be started as root)"),
        "{text}"
    );
    let socket = theirs.join("dhcp.sock");
    let daemon = Process::spawn(world, &scenario.lan.host, "theirs", daemon(&socket))?;
    until("it listens", SOON, || UnixStream::connect(&socket).is_ok())?;
    let why = "cannot lease addresses without CAP_SYS_ADMIN, CAP_NET_RAW, CAP_NET_ADMIN";
    until("it says what it cannot do", SOON, || {
        daemon.log().contains(why)
    })?;
    ensure!(!daemon.log().contains("is ready"), "{}", daemon.log());
    let status = json!({ "protocol": 1, "verb": "status" });
    let answer = ask(&socket, &status, None)?;
    ensure!(
        answer["error"]["code"] == 50 && answer.to_string().contains(why),
        "{answer}"
    );
    Ok(())
}

fn a_refused_takeover_is_a_sentence(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let scenario = with_group(world)?;
    let socket = scenario.daemon.socket();
    let arguments = ["daemon", "-takeover", "-socketpath"].map(OsStr::new);
    let arguments = [&arguments[..], &[socket.as_os_str()]].concat();
    let takeover = |group: u32| {
        let mut command = dhcp_as_stranger(&arguments);
        command.gid(group);
        let output = scenario.lan.host.run(|| command.output())??;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{text}");
        ensure!(!text.contains('{') && !text.contains("os error"), "{text}");
        Ok(text)
    };
    let text = takeover(GROUP)?;
    ensure!(
        text.contains("cannot take over") && text.contains("only root may request a takeover"),
        "{text}"
    );
    let text = takeover(USER)?;
    ensure!(
        text.contains("cannot take over") && text.contains("Permission denied"),
        "{text}"
    );
    Ok(())
}

/// What docs/daemon.md has for `-group`, but for creating the group.
fn the_example_of_a_group_works_as_printed(world: &World) -> Result {
    if !has_other_users()? {
        return Ok(());
    }
    let mut lines = include_str!("../../docs/daemon.md").lines();
    let mut next = |prefix: &str| lines.find_map(|line| line.strip_prefix(prefix));
    let start = next("# /opt/cni/bin/dhcp daemon ").context("the command of root's")?;
    let ask = next("$ /opt/cni/bin/dhcp ").context("alice's command")?;
    let expected = next("the dhcp daemon").context("its output")?;

    let groups = world.dir().join("group");
    fs::write(&groups, format!("root:x:0:\nlan:x:{GROUP}:alice\n"))?;
    let none = None::<&str>;
    mount(Some(&groups), "/etc/group", none, MsFlags::MS_BIND, none)?;
    let lan = Lan::new()?;
    let mut command = Command::new(suite::plugin_dir().join("dhcp"));
    command.arg("daemon").args(start.split(' '));
    let daemon = Process::spawn(world, &lan.host, "daemon", command)?;
    until("it is ready", SOON, || {
        daemon.log().contains("daemon is ready")
    })?;
    let arguments: Vec<&OsStr> = ask.split(' ').map(OsStr::new).collect();
    let mut command = dhcp_as_stranger(&arguments);
    let output = lan.host.run(|| command.output())??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        text.lines().next() == Some(&format!("the dhcp daemon{expected}")),
        "{output:?}\n{}",
        daemon.log()
    );
    Ok(())
}

fn a_socket_in_a_directory_for_everybody_is_warned_of(world: &World) -> Result {
    let lan = Lan::new()?;
    let directory = world.dir().join("shared");
    fs::create_dir(&directory)?;
    let socket = directory.join("dhcp.sock");
    let warning = "everybody may create files in the socket's directory";
    for (mode, is_warned_of) in [(0o1777, true), (0o755, false)] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode))?;
        let mut command = Command::new(suite::plugin_dir().join("dhcp"));
        command.args(["daemon", "-socketpath"]).arg(&socket);
        let mut daemon = Process::spawn(world, &lan.host, "daemon", command)?;
        until("it is ready", SOON, || {
            daemon.log().contains("daemon is ready")
        })?;
        ensure!(
            daemon.log().contains(warning) == is_warned_of,
            "{}",
            daemon.log()
        );
        daemon.stop()?;
    }
    Ok(())
}

fn silent_callers_do_not_keep_others_waiting(world: &World) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let daemon = daemon_with_few_descriptors(world, &lan.host)?;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut caller = UnixStream::connect(daemon.socket())?;
        caller.write_all(b"{\"proto")?;
        silent.push(caller);
    }
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    reported(
        &network.add(&network::Attachment::new(&container))?,
        &container,
    )?;
    let mut first = &silent[0];
    first.set_read_timeout(Some(deadline(SOON)))?;
    let mut answer = String::new();
    first.read_to_string(&mut answer)?;
    ensure!(
        answer.contains("other callers needed the place"),
        "{answer}"
    );
    Ok(())
}

/// Requests like those of plugins, which the mutations start from. None of them concerns the
/// container that keeps its lease meanwhile.
fn seeds() -> Vec<String> {
    let attachment = json!({ "containerID": "fuzz", "network": "other", "ifname": "eth7" });
    let terms = json!({
        "clientId": "mac", "request": [1, 3, 6], "announce": true, "timeout": 0.01,
        "provide": [{ "code": 60, "data": "6162" }], "release": "ifUnused", "broadcast": true,
        "routes": [{ "dst": "10.0.0.0/8", "gw": "10.99.0.1" }], "suppress": ["dns"],
        "servers": { "allow": ["10.99.0.1"], "deny": [] }, "conflictDetection": "fast",
    });
    [
        json!({ "protocol": 1, "verb": "add", "attachment": attachment, "netns": "/run/netns/none", "terms": terms, "waited": 0.5 }),
        json!({ "protocol": 1, "verb": "add", "attachment": attachment, "netns": "/run/netns/fuzzed", "terms": terms }),
        json!({ "protocol": 1, "verb": "check", "attachment": attachment, "addresses": ["10.99.0.7"] }),
        json!({ "protocol": 1, "verb": "del", "attachment": attachment, "traceparent": "00-0af7-b7ad-01" }),
        json!({ "protocol": 1, "verb": "gc", "network": "other", "keep": [attachment, attachment] }),
        json!({ "protocol": 1, "verb": "status" }),
    ]
    .map(|request| request.to_string())
    .to_vec()
}

/// How many of the requests wait for their answers at a time.
const AT_A_TIME: u64 = 100;

/// A request with a few octets changed, left out, repeated or moved in from another one.
fn mutated(random: &mut Random, seeds: &[String]) -> Vec<u8> {
    const WORDS: [&[u8]; 8] = [
        b"-1",
        b"1e400",
        b"null",
        b"\"\\u0000\"",
        b"[[[[[[[[",
        b"\xff\xfe",
        b"\n",
        b"18446744073709551616",
    ];
    let any = |random: &mut Random, limit: usize| random.below(limit as u64) as usize;
    let mut octets = seeds[any(random, seeds.len())].clone().into_bytes();
    for _ in 0..any(random, 5) {
        let at = any(random, octets.len() + 1);
        let end = (at + any(random, 12)).min(octets.len());
        match random.below(5) {
            0 => drop(octets.drain(at..end)),
            1 => octets
                .splice(at..at, octets[at..end].to_vec())
                .for_each(drop),
            2 => octets
                .splice(at..end, WORDS[any(random, WORDS.len())].iter().copied())
                .for_each(drop),
            3 => {
                let other = seeds[any(random, seeds.len())].as_bytes();
                let from = any(random, other.len());
                octets
                    .splice(at..end, other[from..].iter().copied())
                    .for_each(drop);
            }
            _ => octets.insert(at, any(random, 256) as u8),
        }
    }
    if random.below(8) > 0 {
        octets.push(b'\n');
    }
    octets
}

fn requests_that_no_plugin_sends_disturb_nobody(world: &World) -> Result {
    let seed = from_environment("LEASEHOLD_FUZZ_SEED").unwrap_or_else(clock);
    let number = from_environment("LEASEHOLD_FUZZ_REQUESTS").unwrap_or(100_000);
    eprintln!("LEASEHOLD_FUZZ_SEED={seed} LEASEHOLD_FUZZ_REQUESTS={number}");
    let mut scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let _other = scenario.lan.container("fuzzed")?;
    let [kept, coming] = ["kept", "coming"].map(|name| scenario.lan.container(name));
    let (kept, coming) = (kept?, coming?);
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let kept = network::Attachment::new(&kept);
    network.add(&kept)?;
    let socket = scenario.daemon.socket().to_owned();
    let is_over = AtomicBool::new(false);
    let seeds = seeds();
    let throw = || -> Result {
        let mut random = Random(seed);
        let null = fs::File::open("/dev/null")?;
        for _ in 0..number.div_ceil(AT_A_TIME) {
            let mut asked = Vec::new();
            for _ in 0..AT_A_TIME {
                let stream = UnixStream::connect(&socket)?;
                let request = mutated(&mut random, &seeds);
                let descriptor = (random.below(8) == 0).then(|| null.as_fd());
                // The daemon may hang up before it has read the whole of it. Without the end of a
                // line it waits for more, and we hang up.
                let _ = send(&stream, &request, descriptor);
                if request.contains(&b'\n') && random.below(4) > 0 {
                    asked.push(stream);
                }
            }
            for mut stream in asked {
                stream.set_read_timeout(Some(deadline(SOON)))?;
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
        Ok(())
    };
    let mut rounds = 0;
    thread::scope(|scope| -> Result {
        let throwing = scope.spawn(|| {
            let thrown = throw();
            is_over.store(true, Ordering::Relaxed);
            thrown
        });
        let attachment = network::Attachment::new(&coming);
        while !is_over.load(Ordering::Relaxed) || rounds == 0 {
            network.add(&attachment)?;
            network.check(&kept)?;
            network.del(&attachment)?;
            rounds += 1;
        }
        throwing.join().map_err(|_| anyhow!("it panicked"))?
    })
    .with_context(|| format!("LEASEHOLD_FUZZ_SEED={seed}\n{}", scenario.daemon.log()))?;
    eprintln!("{rounds} containers came and went meanwhile");
    network.check(&kept)?;
    network.del(&kept)?;
    until("every address is released", SOON, || {
        server.leases().is_empty()
    })?;
    let log = scenario.daemon.log();
    ensure!(!log.contains("bug") && !log.contains("panicked"), "{log}");
    ensure!(log.lines().all(|line| line.starts_with("20")), "{log}");
    scenario.daemon.process().stop()
}
