//! Whether the daemon's memory, descriptors and threads stay constant while it renews leases for a
//! long time.
//!
//! ```text
//! cargo bench --bench soak
//! cargo bench --bench soak -- --containers 2000 --seconds 3600
//! ```
//!
//! It makes a world of its own (no privileges are needed). Half-way through every container is
//! detached and attached again, so that ADD and DEL count too. It fails when the daemon holds more
//! at the end than after the first renewals, or has lost a lease.

use std::{
    env, fs,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use lab::{
    Attachment, Daemon, DhcpServer, Lan, Network, Node, Result, World,
    anyhow::{Context, ensure},
    dhcp_server::Settings,
    plugin::DEBIANS_PLUGINS,
    serde_json::json,
    until,
};

/// Watches the daemon over time.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// How many containers have a lease
    #[arg(long, default_value_t = 500)]
    containers: u32,
    /// How long to watch
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Lease time, in seconds
    #[arg(long, default_value_t = 30)]
    lease: u64,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a process holds.
#[derive(Clone, Copy)]
struct Holdings {
    /// Resident memory, in KiB.
    memory: u64,
    descriptors: usize,
    threads: usize,
}

fn main() -> ExitCode {
    lab::exit_code(run(&Options::parse()))
}

fn run(options: &Options) -> Result {
    let world = lab::world::enter()?;
    let program = env::var_os("LEASEHOLD_PLUGIN_DIR").map_or_else(built, Into::into);
    let lan = Lan::new()?;
    let server = DhcpServer::start(
        &lan.lan,
        Settings {
            lease_time: Some(Duration::from_secs(options.lease)),
            pool: [10, 99, 1, 0].into()..=[10, 99, 255, 0].into(),
            prefix_len: 16,
            ..Settings::default()
        },
    )?;
    let (mut daemon, containers) = begin(&world, &lan, &program, options)?;
    let pid = daemon.process().pid().as_raw();
    let attachments: Vec<Attachment> = containers.iter().map(Attachment::new).collect();
    let conflist = json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [{
        "type": "macvlan", "master": Lan::MASTER,
        "ipam": { "type": "dhcp", "daemonSocketPath": daemon.socket() },
    }] });
    let network = Network::with_path(&lan.host, conflist, vec![program, DEBIANS_PLUGINS.into()]);
    for attachment in &attachments {
        network.add(attachment)?;
    }

    println!(
        "{:>6}  {:>8}  {:>11}  {:>7}  {:>6}",
        "s", "RSS KiB", "descriptors", "threads", "leases"
    );
    let began = Instant::now();
    let mut seen = Vec::new();
    let mut renewed = false;
    while began.elapsed() < Duration::from_secs(options.seconds) {
        thread::sleep(Duration::from_secs(options.lease.min(options.seconds) / 3));
        let holdings = Holdings::of(pid)?;
        let leases = server.leases().len();
        println!(
            "{:>6}  {:>8}  {:>11}  {:>7}  {:>6}",
            began.elapsed().as_secs(),
            holdings.memory,
            holdings.descriptors,
            holdings.threads,
            leases
        );
        ensure!(
            leases == containers.len(),
            "a lease was lost: {}",
            daemon.log()
        );
        seen.push(holdings);
        if !renewed && began.elapsed() > Duration::from_secs(options.seconds / 2) {
            renewed = true;
            for attachment in &attachments {
                network.del(attachment)?;
                network.add(attachment)?;
            }
        }
    }
    for attachment in &attachments {
        network.check(attachment)?;
        network.del(attachment)?;
    }
    until("everything is given back", Duration::from_secs(5), || {
        server.leases().is_empty()
    })?;
    let last = Holdings::of(pid)?;
    println!(
        "{:>6}  {:>8}  {:>11}  {:>7}  {:>6}",
        "end", last.memory, last.descriptors, last.threads, 0
    );
    flat(&seen)
}

/// Whether the last third holds no more than the first did, give or take what an exchange takes.
fn flat(seen: &[Holdings]) -> Result {
    let third = seen.len() / 3;
    ensure!(third > 0, "too short to tell");
    let most =
        |part: &[Holdings], of: fn(&Holdings) -> u64| part.iter().map(of).max().unwrap_or_default();
    let (first, last) = (&seen[..third], &seen[seen.len() - third..]);
    let memory: fn(&Holdings) -> u64 = |holdings| holdings.memory;
    ensure!(
        most(last, memory) <= most(first, memory) * 11 / 10 + 512,
        "memory grows"
    );
    let descriptors: fn(&Holdings) -> u64 = |holdings| holdings.descriptors as u64;
    ensure!(
        most(last, descriptors) <= most(first, descriptors) + 32,
        "descriptors are not closed"
    );
    let threads: fn(&Holdings) -> u64 = |holdings| holdings.threads as u64;
    ensure!(
        most(last, threads) <= most(first, threads) + 4,
        "threads are not ended"
    );
    Ok(())
}

fn begin(
    world: &World,
    lan: &Lan,
    program: &Path,
    options: &Options,
) -> Result<(Daemon, Vec<Node>)> {
    let daemon = Daemon::start_program(world, &lan.host, &program.join("dhcp"), &[])?;
    let containers = (0..options.containers)
        .map(|i| lan.container(&format!("c{i}")))
        .collect::<Result<_>>()?;
    Ok((daemon, containers))
}

/// Where cargo has put the plugins.
fn built() -> std::path::PathBuf {
    Path::new(env!("CARGO_BIN_EXE_dhcp"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

impl Holdings {
    fn of(pid: i32) -> Result<Holdings> {
        let count = |what: &str| {
            Ok::<_, lab::anyhow::Error>(fs::read_dir(format!("/proc/{pid}/{what}"))?.count())
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("VmRSS")?;
        let memory = memory.trim().trim_end_matches("kB").trim().parse()?;
        Ok(Holdings {
            memory,
            descriptors: count("fd")?,
            threads: count("task")?,
        })
    }
}
