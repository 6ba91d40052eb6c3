//! Every system call of the daemon failing once: it starts or says why it cannot, it goes on
//! serving, and no lease is lost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{ERRORS, STRACE, Syscall, syscalls_of};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{self, Value, json};
use lab::{
    Daemon, DhcpServer, FaultInjector, Lan, Network, Process, Result, Test, Threads, World,
    network, suite, test, until,
};

use crate::chaos::lease_files;
use crate::confinement::setpriv;
use crate::limits::{dhcp, dhcp_with};
use crate::persistence::under_strace;
use crate::scenario::SOON;

pub(crate) const TESTS: &[Test] = &[
    test!(whichever_syscall_fails_a_daemon_that_starts_loses_no_lease)
        .needs(&[STRACE])
        .within(Duration::from_secs(120)),
    test!(whichever_syscall_fails_a_daemon_goes_on_serving)
        .needs(&[STRACE])
        .within(Duration::from_secs(180)),
    test!(a_daemon_that_gets_no_thread_serves_and_renews).needs(&[STRACE]),
];

/// Everything that can fail for want of something, except the way back from a namespace: a process
/// that is in the wrong one ends at once.
const CALLS: &str = "socket,bind,listen,connect,sendto,recvfrom,sendmsg,recvmsg,accept4,setsockopt,\
                     getsockname,?open,openat,read,write,ioctl,flock,fcntl,?stat,statx,fstat,newfstatat,\
                     getdents64,?mkdir,?unlink,?rename,ftruncate,fchmod,timerfd_create,\
                     timerfd_settime,inotify_init1,inotify_add_watch,epoll_create1,epoll_ctl,\
                     eventfd2,socketpair,clone3,prctl,landlock_create_ruleset,landlock_add_rule,\
                     landlock_restrict_self";

fn whichever_syscall_fails_a_daemon_that_starts_loses_no_lease(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let daemon = Daemon::start(world, &lan.host)?;
    let (plain, reached) = (lan.container("c1")?, lan.container("c2")?);
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    network.add(&network::Attachment::new(&plain))?;
    let with_access = with_host_access(daemon.socket());
    let with_access = Network::new(&lan.host, with_access);
    with_access.add(&network::Attachment::new(&reached))?;
    let socket = daemon.socket().to_owned();
    daemon.kill()?;
    let discovers = server.received_of(MessageType::Discover).len();

    let syscalls = syscalls(world, &lan, &socket)?;
    ensure!(syscalls.len() > 50, "only {} calls", syscalls.len());
    let mut failures = Vec::new();
    for (index, (name, nth)) in syscalls.iter().enumerate() {
        let error = ERRORS[index % ERRORS.len()];
        let fault = format!("-e trace={name} -e inject={name}:error={error}:when={nth}");
        let outcome = start_and_kill(world, &lan, &socket, &fault);
        if let Err(failure) = outcome.and_then(|()| ensure_both_active()) {
            failures.push(format!("{name} number {nth}: {error}: {failure}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));

    let _daemon = Daemon::start(world, &lan.host)?;
    network.check(&network::Attachment::new(&plain))?;
    with_access.check(&network::Attachment::new(&reached))?;
    ensure!(
        server.received_of(MessageType::Release).is_empty()
            && server.received_of(MessageType::Discover).len() == discovers,
        "{}",
        server.transcript()
    );
    Ok(())
}

fn whichever_syscall_fails_a_daemon_goes_on_serving(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let mut daemon = Daemon::start(world, &lan.host)?;
    let (other, container) = (lan.container("c1")?, lan.container("c2")?);
    let conflist = dhcp_with(daemon.socket(), json!({ "timeout": "3s" }));
    let network = Network::new(&lan.host, conflist);
    let (other, attachment) = (
        network::Attachment::new(&other),
        network::Attachment::new(&container),
    );
    network.add(&other)?;
    let comes_and_goes = || {
        network
            .add(&attachment)
            .and_then(|_| network.del(&attachment))
    };
    let threads = (daemon.process().pid(), Threads::All);
    let recorded = FaultInjector::record(world, &lan.host, threads, CALLS)?;
    comes_and_goes()?;
    let syscalls = recorded.syscalls()?;
    recorded.detach()?;
    ensure!(syscalls.len() > 50, "only {} calls", syscalls.len());
    let mut struck = 0;
    for (syscall, error) in syscalls.iter().zip(ERRORS.iter().cycle()) {
        let injector = FaultInjector::fail_at(world, &lan.host, threads, syscall, error)?;
        let outcome = comes_and_goes();
        struck += usize::from(injector.has_struck());
        injector.detach()?;
        // An ADD or DEL may fail once, and is repeated, as a runtime does.
        network
            .del(&attachment)
            .and_then(|()| comes_and_goes())
            .and_then(|()| network.check(&other))
            .with_context(|| {
                let log = daemon.log();
                format!("after {syscall:?}: {error}: {outcome:?}\n{log}")
            })?;
    }
    eprintln!("{struck} of {} have failed", syscalls.len());
    ensure!(struck > syscalls.len() / 2, "only {struck} have failed");
    until("only one address is leased", SOON, || {
        server.leases().len() == 1
    })
}

/// As at a limit of processes (`pids.max`), which counts threads.
fn a_daemon_that_gets_no_thread_serves_and_renews(world: &World) -> Result {
    let lan = Lan::new()?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, settings)?;
    let fault = "-e trace=clone,clone3 -e inject=clone,clone3:error=EAGAIN";
    let mut daemon = Daemon::start_program(world, &lan.host, &under_strace(world, fault)?, &[])?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, with_host_access(daemon.socket()));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.process().pid()))?.count();
    ensure!(threads == 1, "{threads} threads");
    until("the lease is renewed", SOON, || {
        daemon.log().contains("lease renewed")
    })
    .with_context(|| daemon.log())?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    network.add(&attachment).context("another ADD")?;
    Ok(())
}

/// The system calls of a start.
fn syscalls(world: &World, lan: &Lan, socket: &Path) -> Result<Vec<Syscall>> {
    let log = world.dir().join("syscalls");
    let trace = format!("-o {} -e trace={CALLS}", log.display());
    start_and_kill(world, lan, socket, &trace)?;
    Ok(syscalls_of(&fs::read_to_string(&log)?))
}

/// Starts the daemon under strace, with the capabilities of its unit, and kills it once it serves.
/// If it does not serve, it must end with an error that says why.
fn start_and_kill(world: &World, lan: &Lan, socket: &Path, arguments: &str) -> Result {
    let mut command = setpriv();
    // strace is not its parent, so that signals reach it.
    command
        .args(["strace", "-D", "-f", "-qq"])
        .args(arguments.split_whitespace());
    if !arguments.contains("-o ") {
        command.args(["-o", "/dev/null"]);
    }
    command
        .arg(suite::plugin_dir().join("dhcp"))
        .args(["daemon", "-socketpath"])
        .arg(socket);
    let mut daemon = Process::spawn(world, &lan.host, "daemon", command)?;
    if daemon
        .until("the daemon serves", SOON, || serves(socket))
        .is_ok()
    {
        return daemon.kill();
    }
    let status = daemon.wait(SOON)?;
    let log = daemon.log();
    let says_why = status.code() == Some(1) && log.contains("ERROR");
    // The runtime panics if its own descriptors fail.
    let is_runtimes = log.contains("panicked") && log.contains("/tokio-");
    ensure!(says_why || is_runtimes, "{status}: {log}");
    Ok(())
}

fn serves(socket: &Path) -> bool {
    let ask = || -> Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"{\"protocol\":1,\"verb\":\"status\"}\n")?;
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply)?;
        Ok(reply)
    };
    ask().is_ok_and(|reply| reply.trim() == "\"done\"")
}

fn ensure_both_active() -> Result {
    let mut active = 0;
    for file in lease_files()? {
        let lease: Value = serde_json::from_slice(&fs::read(&file)?)?;
        ensure!(lease["standing"] == "held", "{}: {lease}", file.display());
        active += 1;
    }
    ensure!(active == 2, "{active} lease files");
    Ok(())
}

fn with_host_access(socket: &Path) -> Value {
    let mut conflist = dhcp_with(socket, json!({}));
    conflist["plugins"][0]["hostAccess"] = json!(["10.99.0.0/24"]);
    conflist
}
