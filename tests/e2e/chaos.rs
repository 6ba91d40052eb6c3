//! Everything at once: containers come and go, in order and out of it, while the daemon is killed
//! and replaced, the server forgets, and messages are lost. In the end server, daemon, disk and
//! kernel agree.
//!
//! `LEASEHOLD_CHAOS_SECONDS` makes it last longer, `LEASEHOLD_CHAOS_SEED` does the same again as
//! far as threads let it.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use lab::anyhow::{Context, anyhow, bail, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::plugin::CniError;
use lab::serde_json::{self, Value, json};
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};

use crate::scenario::{SOON, address, conflist, netns_held_by, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(after_random_failures_server_daemon_disk_and_kernel_agree)
        .within(Duration::from_secs(3600)),
    test!(killing_the_daemon_during_adds_loses_no_lease_and_no_address)
        .within(Duration::from_secs(180)),
];

const WORKERS: usize = 4;
const CONTAINERS: usize = 8; // of each worker
const LEASE_TIME: Duration = Duration::from_secs(8);

fn after_random_failures_server_daemon_disk_and_kernel_agree(world: &World) -> Result {
    let seconds = from_environment("LEASEHOLD_CHAOS_SECONDS").unwrap_or(12);
    let seed = from_environment("LEASEHOLD_CHAOS_SEED").unwrap_or_else(clock);
    eprintln!("LEASEHOLD_CHAOS_SEED={seed} LEASEHOLD_CHAOS_SECONDS={seconds}");
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, settings())?;
    let mut daemon = Daemon::start(world, &lan.host)?;
    let configuration = dhcp(daemon.socket());
    let over = AtomicBool::new(false);
    let order = RwLock::new(());
    let there: Mutex<BTreeMap<String, network::Attachment>> = Mutex::default();

    let containers = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (lan, over, order, there) = (&lan, &over, &order, &there);
                let network = Network::new(&lan.host, configuration.clone());
                let random = Random(seed ^ (number as u64 + 1) << 32);
                scope.spawn(move || {
                    Worker {
                        number,
                        lan,
                        network,
                        random,
                        order,
                        there,
                    }
                    .work(over)
                })
            })
            .collect();
        let disturbed = disturb(
            &mut Random(seed),
            Duration::from_secs(seconds),
            world,
            &lan,
            &server,
            &mut daemon,
            &order,
            &there,
        );
        over.store(true, Ordering::Relaxed);
        let mut containers = Vec::new();
        for worker in workers {
            containers.extend(worker.join().map_err(|_| anyhow!("a worker panicked"))??);
        }
        disturbed.map(|()| containers)
    })
    .with_context(|| format!("with LEASEHOLD_CHAOS_SEED={seed}"))?;

    server.behave();
    let agreed = until("all agree", LEASE_TIME + LEASE_TIME + SOON, || {
        agreement(&server, &containers).ok()
    });
    if agreed.is_err() {
        agreement(&server, &containers)
            .with_context(|| format!("with LEASEHOLD_CHAOS_SEED={seed}\n{}", daemon.log()))?;
    }
    let pid = daemon.process().pid();
    until("no netns is held", SOON, || {
        netns_held_by(pid).is_ok_and(|held| held == 0)
    })?;

    let network = Network::new(&lan.host, configuration);
    for container in &containers {
        network.del(&network::Attachment::new(&container.node))?;
    }
    until("everything is given back", SOON, || {
        server.leases().is_empty()
    })?;
    ensure!(held_on_disk()?.is_empty(), "{:?}", held_on_disk()?);
    daemon.stop()
}

/// Fails unless server, disk and kernel agree on every container, and know no others.
fn agreement(server: &DhcpServer, containers: &[Container]) -> Result {
    let mut kernel = BTreeMap::new();
    for Container { node, attached } in containers {
        let links: Vec<String> = node.links()?.into_iter().map(|link| link.name).collect();
        if *attached {
            ensure!(links == ["lo", "eth0"], "{} has {links:?}", node.name());
            kernel.insert(node.name().to_owned(), address(node)?);
        } else {
            ensure!(links == ["lo"], "{} has {links:?}", node.name());
        }
    }
    let disk = held_on_disk()?;
    ensure!(
        disk == kernel,
        "on disk: {disk:?}\nin the containers: {kernel:?}"
    );
    let mut served: Vec<Ipv4Addr> = server
        .leases()
        .into_iter()
        .map(|lease| lease.address)
        .collect();
    let mut used: Vec<Ipv4Addr> = kernel.into_values().collect();
    served.sort_unstable();
    used.sort_unstable();
    ensure!(
        served == used,
        "the server lends {served:?}, and used are {used:?}"
    );
    Ok(())
}

/// The leases that the daemon has written down as held, by container.
pub(crate) fn held_on_disk() -> Result<BTreeMap<String, Ipv4Addr>> {
    let mut held = BTreeMap::new();
    for file in lease_files()? {
        // Rewritten, or gone, meanwhile: the next look will tell.
        let Ok(document) = fs::read(&file) else {
            continue;
        };
        let record: Value = serde_json::from_slice(&document)?;
        if record["standing"] == "held" {
            let container = record["attachment"]["containerID"]
                .as_str()
                .context("a container")?;
            let address = record["lease"]["address"]
                .as_str()
                .context("an address")?
                .parse()?;
            held.insert(container.to_owned(), address);
        }
    }
    Ok(held)
}

/// The files of all networks' leases, past ones too. The world's /var/lib is its own.
pub(crate) fn lease_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for store in fs::read_dir("/var/lib/cni")?.flatten() {
        let networks = fs::read_dir(store.path()).into_iter().flatten().flatten();
        for network in networks {
            let entries = fs::read_dir(network.path()).into_iter().flatten().flatten();
            let paths = entries.map(|entry| entry.path());
            files.extend(paths.filter(|path| path.extension().is_some_and(|kind| kind == "json")));
        }
    }
    Ok(files)
}

/// Disturbs daemon and server as it may happen in production.
#[allow(
    clippy::too_many_arguments,
    reason = "a test's own helper, called once"
)]
fn disturb(
    random: &mut Random,
    time: Duration,
    world: &World,
    lan: &Lan,
    server: &DhcpServer,
    daemon: &mut Daemon,
    order: &RwLock<()>,
    there: &Mutex<BTreeMap<String, network::Attachment>>,
) -> Result {
    let end = Instant::now() + time;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(random.below(400)));
        match random.below(10) {
            0..3 => {
                daemon.process().kill()?;
                thread::sleep(Duration::from_millis(random.below(100)));
                *daemon = Daemon::start(world, &lan.host)?;
            }
            3 => {
                let successor = Daemon::start_with(world, &lan.host, &["--takeover"])?;
                let mut first = std::mem::replace(daemon, successor);
                let status = first.process().wait(SOON)?;
                ensure!(status.success(), "{status}: {}", first.log());
            }
            4 => server.forget(),
            5..8 => {
                let kinds = [
                    MessageType::Discover,
                    MessageType::Request,
                    MessageType::Release,
                ];
                let kind = kinds[random.below(3) as usize];
                server
                    .when(kind)
                    .times(random.below(4) as usize)
                    .then(Reaction::silence());
            }
            8 => server
                .when(MessageType::Request)
                .once()
                .then(Reaction::answer().late(LEASE_TIME / 4)),
            _ => {
                let _alone = order.write().map_err(|_| anyhow!("a worker panicked"))?;
                let there = there
                    .lock()
                    .map_err(|_| anyhow!("a worker panicked"))?
                    .clone();
                network.gc(&there.values().collect::<Vec<_>>())?;
            }
        }
    }
    Ok(())
}

struct Container {
    node: Node,
    attached: bool,
}

/// A runtime with some containers.
struct Worker<'a> {
    number: usize,
    lan: &'a Lan,
    network: Network<'a>,
    random: Random,
    /// Held for reading while a verb is under way, because no runtime calls GC meanwhile.
    order: &'a RwLock<()>,
    /// All attached containers of all workers: what GC is to keep.
    there: &'a Mutex<BTreeMap<String, network::Attachment>>,
}

impl Worker<'_> {
    fn work(mut self, over: &AtomicBool) -> Result<Vec<Container>> {
        let mut containers = Vec::new();
        for i in 0..CONTAINERS {
            let node = self.lan.container(&format!("c{}-{i}", self.number))?;
            containers.push(Container {
                node,
                attached: false,
            });
        }
        while !over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(self.random.below(50)));
            let order = self.order;
            let _order = order.read().map_err(|_| anyhow!("a worker panicked"))?;
            let index = self.random.below(CONTAINERS as u64) as usize;
            let container = containers.swap_remove(index);
            containers.push(self.act(container)?);
        }
        Ok(containers)
    }

    fn act(&mut self, mut container: Container) -> Result<Container> {
        let attachment = network::Attachment::new(&container.node);
        match (container.attached, self.random.below(10)) {
            (false, 0..7) => match self.network.add(&attachment) {
                Ok(_) => container.attached = true,
                Err(error) => {
                    expected(&error, &[11, 50]).context("ADD")?;
                    self.network
                        .del(&attachment)
                        .context("DEL after an ADD that failed")?;
                }
            },
            (false, 7..9) => {
                let call = self
                    .network
                    .prepare("ADD", 0, &attachment, None)?
                    .start(&self.lan.host)?;
                thread::sleep(Duration::from_millis(self.random.below(40)));
                call.kill()?;
                self.network
                    .del(&attachment)
                    .context("DEL after an ADD that was killed")?;
            }
            (false, _) => self.network.del(&attachment).context("DEL without ADD")?,
            (true, 0..4) => {
                self.network.del(&attachment).context("DEL")?;
                container.attached = false;
            }
            (true, 4..6) => {
                self.note(&container.node, None)?;
                let name = container.node.name().to_owned();
                container.node.remove()?;
                return Ok(Container {
                    node: self.lan.container(&name)?,
                    attached: false,
                });
            }
            (true, _) => {
                if let Err(error) = self.network.check(&attachment) {
                    // No daemon; address lost, or another, since the server forgot.
                    expected(&error, &[11, 50, 120, 121]).or_else(|error| {
                        // macvlan compares addresses itself.
                        if error.to_string().contains("address") {
                            Ok(())
                        } else {
                            Err(error)
                        }
                    })?;
                }
            }
        }
        self.note(&container.node, container.attached.then_some(attachment))?;
        Ok(container)
    }

    fn note(&self, node: &Node, attachment: Option<network::Attachment>) -> Result {
        let mut there = self
            .there
            .lock()
            .map_err(|_| anyhow!("a worker panicked"))?;
        match attachment {
            Some(attachment) => there.insert(node.name().to_owned(), attachment),
            None => there.remove(node.name()),
        };
        Ok(())
    }
}

fn expected(error: &lab::anyhow::Error, codes: &[u64]) -> Result {
    match error.downcast_ref::<CniError>() {
        Some(error) if codes.contains(&error.code) => Ok(()),
        _ => bail!("{error:#}"),
    }
}

/// Rounds of ADDs with a kill -9 of the daemon in the middle of them, at a time of its own each.
fn killing_the_daemon_during_adds_loses_no_lease_and_no_address(world: &World) -> Result {
    const ROUNDS: u64 = 24;
    const AT_A_TIME: usize = 3;
    let lan = Lan::new()?;
    let server = DhcpServer::start(
        &lan.lan,
        Settings {
            lease_time: Some(Duration::from_secs(600)),
            ..settings()
        },
    )?;
    let mut daemon = Daemon::start(world, &lan.host)?;
    let configuration = dhcp(daemon.socket());
    let old = lan.container("old")?;
    let network = Network::new(&lan.host, configuration.clone());
    network.add(&network::Attachment::new(&old))?;
    let nodes = (0..AT_A_TIME)
        .map(|i| lan.container(&format!("c{i}")))
        .collect::<Result<Vec<_>>>()?;
    let (mut failed, mut halfway) = (0, 0);
    for round in 0..ROUNDS {
        let outcomes = thread::scope(|scope| {
            let adds: Vec<_> = nodes
                .iter()
                .map(|node| {
                    let network = Network::new(&lan.host, configuration.clone());
                    scope.spawn(move || (network.add(&network::Attachment::new(node)), network))
                })
                .collect();
            thread::sleep(Duration::from_millis(4 + 5 * round % 24));
            let killed = daemon.process().kill();
            let outcomes: Vec<_> = adds
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            killed.map(|()| outcomes)
        })?;
        // What the server lent, whether or not anybody was told.
        let lent: BTreeMap<Vec<u8>, Ipv4Addr> = server
            .leases()
            .into_iter()
            .filter_map(|lease| Some((lease.client_id?, lease.address)))
            .collect();
        daemon = Daemon::start(world, &lan.host)?;
        network
            .check(&network::Attachment::new(&old))
            .context("a lease is lost")?;
        for (node, outcome) in nodes.iter().zip(outcomes) {
            let attachment = network::Attachment::new(node);
            let (outcome, network) = outcome.map_err(|_| anyhow!("an ADD panicked"))?;
            let mut identifier = vec![0];
            identifier.extend(format!("{}/lan/eth0", node.name()).bytes());
            match outcome {
                Ok(result) => {
                    reported(&result, node)?;
                    network
                        .check(&attachment)
                        .context("a lease that was told of is lost")?;
                }
                Err(error) => {
                    expected(&error, &[11, 50])?;
                    failed += 1;
                    let again = reported(&network.add(&attachment)?, node)?;
                    if let Some(lent) = lent.get(&identifier) {
                        halfway += 1;
                        ensure!(
                            again == *lent,
                            "{lent} was lent, and {again} is what the next ADD got"
                        );
                    }
                }
            }
            network.del(&attachment)?;
        }
        until("all is given back", SOON, || server.leases().len() == 1)?;
    }
    eprintln!(
        "{failed} of {} ADDs failed, {halfway} of them after the server had lent an address",
        ROUNDS * 3
    );
    ensure!(failed > 0, "no ADD was under way at any kill");
    Ok(())
}

fn settings() -> Settings {
    Settings {
        lease_time: Some(LEASE_TIME),
        pool: Ipv4Addr::new(10, 99, 0, 10)..=Ipv4Addr::new(10, 99, 0, 250),
        ..Settings::default()
    }
}

fn dhcp(socket: &Path) -> Value {
    let mut conflist = conflist(json!({ "ipam": { "type": "dhcp", "daemonSocketPath": socket } }));
    conflist["cniVersion"] = json!("1.1.0"); // GC
    conflist
}

pub(crate) fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub(crate) fn clock() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| u64::from(since.subsec_nanos()))
}

/// SplitMix64: enough to choose by, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit.max(1)
    }
}
