//! The simulated network with its clients and its clock.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp4::{Client, Config, Event, Instant, Lease, Transmit};

use super::server::{Mac, Server};
use crate::support::START;
use crate::support::message::Request;

/// The faults of a network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// The share of packets lost.
    pub(super) loss: f64,
    /// The share of packets delivered twice.
    pub(super) duplication: f64,
    /// The longest delay of a packet, in milliseconds. Each packet has its own, of at least one.
    pub(super) slowest_ms: u64,
    /// Whether containers and drivers are started, stopped and restarted.
    pub(super) churn: bool,
}

impl Faults {
    pub(super) const NONE: Faults = Faults {
        loss: 0.0,
        duplication: 0.0,
        slowest_ms: 2,
        churn: false,
    };
}

pub(super) struct Lan {
    pub(super) faults: Faults,
    pub(super) server: Server,
    /// A digest of all events in their order.
    pub(super) trace: u64,
    pub(super) sent: u64,
    pub(super) renewals: u64,
    pub(super) losses: u64,
    clients: Vec<Option<Client>>,
    /// The MAC address of each client.
    macs: Vec<Mac>,
    now: Instant,
    /// What is to happen, by time and then in the order of scheduling.
    events: BTreeMap<(Instant, u64), Happening>,
    scheduled: u64,
    dice: Dice,
    /// How many clients there ever were.
    known: u32,
    /// Which client uses which address, according to the clients.
    users: BTreeMap<Ipv4Addr, usize>,
}

#[derive(Clone, Debug)]
enum Happening {
    Timer(usize),
    AtServer(usize, Transmit),
    AtClient(usize, Vec<u8>),
    Churn(usize),
}

impl Lan {
    pub(super) fn new(seed: u64, clients: usize, lease_time: u32) -> Lan {
        let mut lan = Lan {
            faults: Faults::NONE,
            server: Server::new(clients, lease_time),
            trace: 0,
            sent: 0,
            renewals: 0,
            losses: 0,
            clients: Vec::new(),
            macs: Vec::new(),
            now: START,
            events: BTreeMap::new(),
            scheduled: 0,
            dice: Dice(seed),
            known: 0,
            users: BTreeMap::new(),
        };
        for index in 0..clients {
            let mac = lan.new_mac();
            lan.macs.push(mac);
            let client = Client::new(config(mac), lan.dice.roll(), lan.now);
            lan.clients.push(Some(client));
            lan.settle(index);
            let at = START + Duration::from_secs(1 + lan.dice.below(600));
            lan.schedule(at, Happening::Churn(index));
        }
        lan
    }

    /// Lets this many seconds pass.
    pub(super) fn run(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(next) = self
            .events
            .first_entry()
            .filter(|next| next.key().0 <= until)
        {
            let ((at, _), happening) = next.remove_entry();
            self.now = at;
            self.happen(happening);
        }
        self.now = until;
    }

    /// Stops the first `count` clients, which releases their leases.
    pub(super) fn release(&mut self, count: usize) {
        for index in 0..count {
            self.stop(index);
        }
    }

    pub(super) fn bound(&self) -> usize {
        self.clients
            .iter()
            .flatten()
            .filter(|client| client.lease().is_some())
            .count()
    }

    pub(super) fn alive(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.clients
            .iter()
            .flatten()
            .filter_map(Client::lease)
            .map(|lease| lease.address)
    }

    pub(super) fn summary(&self) -> String {
        let Lan {
            sent,
            renewals,
            losses,
            ..
        } = self;
        let (bound, alive) = (self.bound(), self.alive());
        format!("{bound} of {alive} bound, {sent} sent, {renewals} renewals, {losses} losses")
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Timer(index) => {
                let Some(client) = &mut self.clients[index] else {
                    return;
                };
                if client.poll_timeout().is_some_and(|due| due <= self.now) {
                    client.handle_timeout(self.now);
                    self.settle(index);
                }
            }
            Happening::AtServer(index, transmit) => {
                let request = Request::read(transmit);
                if let Some(reply) = self.server.handle(self.now, &request) {
                    let reply = reply.encode();
                    // A broadcast reaches another client too.
                    let bystander = self.dice.below(self.clients.len() as u64) as usize;
                    self.carry(Happening::AtClient(index, reply.clone()));
                    self.carry(Happening::AtClient(bystander, reply));
                }
            }
            Happening::AtClient(index, payload) => {
                let from = self.server.id();
                if let Some(client) = &mut self.clients[index] {
                    // The client counts what it ignores; all else shows in its events.
                    let _ = client.handle_packet(self.now, &payload, from);
                    self.settle(index);
                }
            }
            Happening::Churn(index) => {
                if self.faults.churn {
                    self.churn(index);
                }
                let at = self.now + Duration::from_secs(1 + self.dice.below(1200));
                self.schedule(at, Happening::Churn(index));
            }
        }
    }

    fn churn(&mut self, index: usize) {
        let lease = self.clients[index]
            .as_ref()
            .and_then(Client::lease)
            .cloned();
        let seed = self.dice.roll();
        let same = config(self.macs[index]);
        match (self.dice.below(5), lease) {
            // Another container replaces this one.
            (0, _) => {
                self.stop(index);
                self.macs[index] = self.new_mac();
                let client = Client::new(config(self.macs[index]), self.dice.roll(), self.now);
                self.clients[index] = Some(client);
            }
            // The container is recreated with the same identity.
            (1, Some(lease)) => {
                self.users.remove(&lease.address);
                self.clients[index] = Some(Client::reboot(same, seed, lease, self.now));
            }
            // The driver restarts.
            (2, Some(lease)) => {
                let json = serde_json::to_string(&lease).unwrap();
                let lease: Lease = serde_json::from_str(&json).unwrap();
                self.clients[index] = Some(Client::resume(same, seed, lease, self.now));
            }
            (3, _) => {
                if let Some(client) = &mut self.clients[index] {
                    client.link_restored(self.now);
                }
            }
            _ => {}
        }
        self.settle(index);
    }

    /// A MAC address that no client had before. (A delayed RELEASE of an earlier client could take
    /// the address from a later one with the same identity.)
    fn new_mac(&mut self) -> Mac {
        self.known += 1;
        let [a, b, c, d] = self.known.to_be_bytes();
        [2, 0, a, b, c, d]
    }

    /// Releases a client's lease and removes the client.
    fn stop(&mut self, index: usize) {
        if let Some(client) = &mut self.clients[index] {
            if let Some(lease) = client.lease() {
                self.users.remove(&lease.address);
            }
            client.release(self.now);
            self.settle(index);
            self.clients[index] = None;
        }
    }

    /// Fetches events and messages, and checks the events against the other clients and the server.
    fn settle(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        let mut events = Vec::new();
        while let Some(event) = client.poll_event() {
            events.push(event);
        }
        let mut sent = Vec::new();
        while let Some(transmit) = client.poll_transmit() {
            sent.push(transmit);
        }
        let due = client.poll_timeout();

        for event in events {
            match event {
                Event::Bound(lease) => {
                    self.note(index, 1, lease.address);
                    self.check(index, &lease);
                    let other = self.users.insert(lease.address, index);
                    assert_eq!(
                        other, None,
                        "client {} and another use {}",
                        index, lease.address
                    );
                }
                Event::Renewed { new, .. } => {
                    self.note(index, 2, new.address);
                    self.check(index, &new);
                    self.renewals += 1;
                }
                Event::Lost { lease, .. } => {
                    self.note(index, 3, lease.address);
                    assert_eq!(self.users.remove(&lease.address), Some(index));
                    self.losses += 1;
                }
                Event::Granted(_) | Event::OtherOffered { .. } => panic!("not configured"),
            }
        }
        for transmit in sent {
            self.sent += 1;
            self.carry(Happening::AtServer(index, transmit));
        }
        if let Some(due) = due {
            self.schedule(due, Happening::Timer(index));
        }
    }

    /// Checks that a lease does not end later for the client than for the server.
    fn check(&self, index: usize, lease: &Lease) {
        let end = self.server.end_of(lease.address, self.macs[index]);
        assert!(
            lease.expires_at() <= end,
            "client {index} has {lease:?}, but it ends at {end:?} for the server"
        );
    }

    /// Delivers a packet once, twice, or not at all.
    fn carry(&mut self, packet: Happening) {
        let copies = if self.dice.chance(self.faults.duplication) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = Duration::from_millis(1 + self.dice.below(self.faults.slowest_ms));
            if !self.dice.chance(self.faults.loss) {
                self.schedule(self.now + delay, packet.clone());
            }
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), happening);
    }

    fn note(&mut self, index: usize, what: u64, address: Ipv4Addr) {
        for part in [
            self.now.since(START).as_nanos() as u64,
            index as u64,
            what,
            u32::from(address).into(),
        ] {
            self.trace = (self.trace ^ part)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(29);
        }
    }
}

fn config(mac: Mac) -> Config {
    Config {
        rapid_commit: mac[5].is_multiple_of(3),
        ..Config::new(mac)
    }
}

/// The network's random numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(limit)) >> 64) as u64
    }

    fn chance(&mut self, share: f64) -> bool {
        (self.below(1 << 32) as f64) < share * (1u64 << 32) as f64
    }
}
