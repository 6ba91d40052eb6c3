//! A container moves between two hosts under its name, in one way after the other: whatever happens
//! to those that it leaves behind, it has its lease and its address.
//!
//! `LEASEHOLD_MOVES_SEED` repeats a run.

use lab::anyhow::{Context, ensure};
use lab::{Attachment, Lan, Network, Node, Result, Test, World, test, until};
use linknet::NewMacvlan;

use super::two_hosts::{Hosts, SOCKETS};
use super::web;
use crate::chaos::{Random, clock, from_environment};
use crate::scenario::{SOON, address};

pub(super) const TESTS: &[Test] = &[test!(whatever_way_it_moves_a_container_keeps_its_lease)];

/// How often the container moves.
const MOVES: usize = 14;

/// A container, and the number of its host.
struct Place {
    host: usize,
    container: Option<Node>,
    attachment: Attachment,
}

/// The container and those that it has left behind, whose DEL is yet to come.
struct Walk<'a> {
    world: &'a World,
    hosts: &'a Hosts,
    daemons: &'a mut [lab::Daemon; 2],
    networks: [Network<'a>; 2],
    living: Place,
    left: Vec<Place>,
}

fn whatever_way_it_moves_a_container_keeps_its_lease(world: &World) -> Result {
    let seed = from_environment("LEASEHOLD_MOVES_SEED").unwrap_or_else(clock);
    eprintln!("LEASEHOLD_MOVES_SEED={seed}");
    let mut random = Random(seed);
    let (hosts, mut daemons) = Hosts::new(world)?;
    let networks = hosts.networks(&daemons);
    let living = attach(&hosts, &networks, 0, "web-0")?;
    let mut walk = Walk {
        world,
        hosts: &hosts,
        daemons: &mut daemons,
        networks,
        living,
        left: Vec::new(),
    };
    for nth in 1..=MOVES {
        let (to, way) = (random.below(2) as usize, random.below(6));
        eprintln!("move {nth} to host {to}, way {way}");
        walk.step(to, &format!("web-{nth}"), way)?;
        walk.ensure_one_holder()
            .with_context(|| format!("after move {nth}\n{}", hosts.server.transcript()))?;
        if !walk.left.is_empty() && random.below(2) == 0 {
            let late = walk
                .left
                .remove(random.below(walk.left.len() as u64) as usize);
            walk.del(&late)?;
            walk.ensure_one_holder()
                .with_context(|| format!("a late DEL\n{}", hosts.server.transcript()))?;
        }
    }
    for late in std::mem::take(&mut walk.left) {
        walk.del(&late)?;
    }
    walk.ensure_one_holder()?;
    walk.del(&walk.living)?;
    let released = until("the last DEL releases the address", SOON, || {
        hosts.server.leases().is_empty()
    });
    released.with_context(|| walk.daemons.each_ref().map(lab::Daemon::log).concat())
}

fn attach(hosts: &Hosts, networks: &[Network; 2], host: usize, name: &str) -> Result<Place> {
    let container = hosts.lan.container(name)?;
    let attachment = web(&container);
    networks[host].add(&attachment)?;
    Ok(Place {
        host,
        container: Some(container),
        attachment,
    })
}

/// Removes a container, and waits for its end. The kernel ends a namespace at its leisure, and
/// until then its interface has the address, and answers for it. Macvlans of one parent have
/// different MACs.
fn remove(host: &Node, container: Node) -> Result {
    let mac = container.link("eth0")?.mac;
    container.remove()?;
    let netlink = host.netlink()?;
    let same_mac = NewMacvlan {
        mac,
        up: true,
        ..NewMacvlan::new("probe", host.link(Lan::MASTER)?.index)
    };
    until("the container's interface is gone", SOON, || {
        netlink
            .add_macvlan(&same_mac, host.netns(), &netlink)
            .is_ok()
    })?;
    netlink.delete_link(host.link("probe")?.index)?;
    Ok(())
}

impl Walk<'_> {
    /// Moves the container.
    fn step(&mut self, to: usize, name: &str, way: u64) -> Result {
        if way == 0 {
            self.del(&self.living)?;
        }
        let new = attach(self.hosts, &self.networks, to, name)?;
        let mut old = std::mem::replace(&mut self.living, new);
        match way {
            0 => {}
            1 => self.del(&old)?,
            2 => self.left.push(old),
            3 => {
                if let Some(container) = old.container.take() {
                    remove(self.host(old.host), container)?;
                }
                self.left.push(old);
            }
            4 => {
                self.gc(old.host)?;
                self.left.push(old);
            }
            _ => {
                let host = old.host;
                self.daemons[host].process().kill()?;
                self.del(&old)?;
                self.daemons[host] =
                    lab::Daemon::start_on(self.world, self.host(host), SOCKETS[host])?;
            }
        }
        Ok(())
    }

    fn host(&self, number: usize) -> &Node {
        [&self.hosts.lan.host, &self.hosts.second][number]
    }

    fn del(&self, place: &Place) -> Result {
        self.networks[place.host].del(&place.attachment)
    }

    /// GC on a host. The hosts of this world see each other's containers, so those of the other are
    /// valid too.
    fn gc(&self, host: usize) -> Result {
        let elsewhere = self.left.iter().filter(|place| place.host != host);
        let mut valid: Vec<_> = elsewhere.map(|place| &place.attachment).collect();
        valid.push(&self.living.attachment);
        self.networks[host].gc(&valid)
    }

    /// The container has its lease, and no other on its host has the address.
    fn ensure_one_holder(&self) -> Result {
        let Place {
            host, container, ..
        } = &self.living;
        let leased = address(container.as_ref().context("it lives")?)?;
        ensure!(
            self.hosts
                .server
                .leases()
                .iter()
                .any(|lease| lease.address == leased),
            "the lease of {leased} was given back"
        );
        self.networks[*host].check(&self.living.attachment)?;
        for left in self.left.iter().filter(|left| left.host == *host) {
            if let Some(container) = &left.container
                && container.find_link("eth0")?.is_some()
            {
                let has = container.ipv4("eth0")?;
                ensure!(
                    !has.iter().any(|net| net.addr() == leased),
                    "{} has {leased} too",
                    container.name()
                );
            }
        }
        Ok(())
    }
}
