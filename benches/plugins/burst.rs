//! Many containers at once, as on a node that has restarted.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, anyhow};
use lab::dhcp_server::Settings;
use lab::servers::{Config, KEA};
use lab::{DhcpServer, Lan, Node, Result, World};

use crate::side::Side;
use crate::{config, with_dhcp};

/// How many calls there are at the same time.
const AT_ONCE: usize = 32;

/// The most containers that there are addresses for.
pub(crate) const MAX: usize = 240;

/// The servers' addresses.
const POOL: RangeInclusive<Ipv4Addr> = Ipv4Addr::new(10, 99, 0, 10)..=Ipv4Addr::new(10, 99, 0, 250);

/// Attaches so many containers with each side's plugins, by the lab's server and by Kea, if it is
/// installed, and prints how long all of them took together.
pub(crate) fn run(world: &World, lan: &Lan, directories: &[PathBuf], containers: usize) -> Result {
    let nodes = (0..containers).map(|number| lan.container(&format!("burst{number}")));
    let nodes = nodes.collect::<Result<Vec<Node>>>()?;
    println!("\n{containers} ADDs of macvlan + dhcp, {AT_ONCE} at a time, in ms");
    for server in ["the lab's server", KEA.name] {
        let mut times = Vec::new();
        for directory in directories {
            let settings = Settings {
                pool: POOL,
                ..Settings::default()
            };
            let config = Config {
                pool: POOL,
                ..Config::default()
            };
            // Each side has a server that has leased nothing yet.
            let (_lab, _kea) = match server == KEA.name {
                true => (None, Some(KEA.start(world, &lan.lan, &config)?)),
                false => (Some(DhcpServer::start(&lan.lan, settings)?), None),
            };
            times.push(burst(world, lan, &nodes, directory)?);
        }
        print!("{server:<28}  {:>27}", format!("{:.0}", times[0]));
        if let [ours, others] = times[..] {
            print!("  {:>27}  {:>5.1}×", format!("{others:.0}"), others / ours);
        }
        println!();
    }
    Ok(())
}

/// How long the ADDs of all containers take, in milliseconds. They are detached afterwards.
fn burst(world: &World, lan: &Lan, nodes: &[Node], directory: &Path) -> Result<f64> {
    let side = Side::start(world, &lan.host, directory)?;
    let config = with_dhcp(config(), &side);
    let each = |verb: &str| {
        in_threads(nodes, |node| {
            let call = side.call("macvlan", verb, node, &config);
            call.run(&lan.host)?.success().map(drop)
        })
    };
    let took = each("ADD")?;
    each("DEL")?;
    Ok(took.as_secs_f64() * 1000.0)
}

/// Does something for each container, for several at a time.
fn in_threads(nodes: &[Node], step: impl Fn(&Node) -> Result + Sync) -> Result<Duration> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let work = || -> Result {
        while let Some(node) = nodes.get(next.fetch_add(1, Ordering::Relaxed)) {
            step(node).with_context(|| node.name().to_owned())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a panic"))?)
    })?;
    Ok(begun.elapsed())
}
