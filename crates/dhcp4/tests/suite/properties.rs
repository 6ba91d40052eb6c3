//! Invariants that hold for any sequence of calls, times and answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp4::{Client, Config, Event, Instant, Servers, StateName};
use proptest::prelude::*;

use crate::support::message::{ACK, NAK, OFFER, Reply, Request};
use crate::support::{CLIENT_ID, START, config, past_lease};

/// An operation on a client.
#[derive(Clone, Debug)]
enum Op {
    /// Time passes, and each timer is handled when it is due, up to a hundred timers.
    Wait(Duration),
    /// Time passes, and no timer is handled until the end, as after a suspend.
    Oversleep(Duration),
    Receive(Answer),
    Junk(Vec<u8>),
    Accept,
    Decline,
    LinkRestored,
    /// The client takes no other address than the one that it has, from now on.
    RequireAddress,
    /// A new client continues the lease, as after a restart of the driver.
    Resume,
    Release,
}

#[derive(Clone, Debug)]
struct Answer {
    kind: u8,
    server: u8,
    /// `None`: the address in the client's last message.
    address: Option<Ipv4Addr>,
    lease: u32,
    t1: Option<u32>,
    t2: Option<u32>,
    rapid: bool,
    in_transaction: bool,
    echo: bool,
    /// The codes of options that the server should send and does not.
    lacks: Vec<u8>,
}

impl Answer {
    fn encode(&self, model: &Model) -> Vec<u8> {
        let xid = if self.in_transaction {
            model.xid
        } else {
            model.xid ^ 1
        };
        let server = Ipv4Addr::new(10, 0, 0, self.server);
        let address = self
            .address
            .or(model.address)
            .unwrap_or(Ipv4Addr::new(10, 0, 0, 100));
        let mut reply = Reply::lease(self.kind, xid, address, server, self.lease);
        let times = [(58, self.t1), (59, self.t2)]
            .into_iter()
            .filter_map(|(code, t)| Some((code, t?)));
        reply
            .options
            .extend(times.map(|(code, seconds)| (code, seconds.to_be_bytes().to_vec())));
        reply.options.extend(self.rapid.then(|| (80, Vec::new())));
        reply
            .options
            .extend(self.echo.then(|| (61, CLIENT_ID.to_vec())));
        reply.options.retain(|(code, _)| !self.lacks.contains(code));
        reply.encode()
    }
}

/// A client, and what follows from its messages and events so far.
struct Model {
    config: Config,
    client: Client,
    now: Instant,
    seed: u64,
    xid: u32,
    /// The address in the client's last message.
    address: Option<Ipv4Addr>,
    /// The address in use, according to the events.
    in_use: Option<Ipv4Addr>,
    granted: bool,
    received: u64,
    ignored: u64,
}

impl Model {
    fn new(config: Config, client: Client) -> Model {
        let mut model = Model {
            config,
            client,
            now: START,
            seed: 1,
            xid: 0,
            address: None,
            in_use: None,
            granted: false,
            received: 0,
            ignored: 0,
        };
        model.settle();
        model
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Wait(span) => self.wait(*span),
            Op::Oversleep(span) => {
                self.now = self.now + *span;
                self.client.handle_timeout(self.now);
                self.settle();
            }
            Op::Receive(answer) => {
                self.receive(&answer.encode(self), Ipv4Addr::new(10, 0, 0, answer.server));
            }
            Op::Junk(payload) => self.receive(payload, Ipv4Addr::UNSPECIFIED),
            Op::Accept => {
                let accepted = self.client.accept(self.now);
                assert_eq!(accepted, self.granted);
                self.granted = false;
            }
            Op::Decline => {
                let declined = self.client.decline(self.now);
                assert_eq!(declined, self.granted || self.in_use.is_some());
                self.granted = false;
            }
            Op::LinkRestored => self.client.link_restored(self.now),
            Op::RequireAddress => {
                if let Some(address) = self.in_use {
                    self.config.only_address = Some(address);
                    self.client.require_address(address);
                }
            }
            Op::Resume => {
                if let Some(lease) = self.client.lease().cloned() {
                    self.seed += 1;
                    self.client = Client::resume(self.config.clone(), self.seed, lease, self.now);
                    (self.received, self.ignored) = (0, 0);
                }
            }
            Op::Release => {
                self.client.release(self.now);
                (self.in_use, self.granted) = (None, false);
            }
        }
        self.settle();
    }

    fn receive(&mut self, payload: &[u8], from: Ipv4Addr) {
        self.received += 1;
        self.ignored += u64::from(self.client.handle_packet(self.now, payload, from).is_err());
    }

    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..100 {
            let Some(due) = self.client.poll_timeout().filter(|&due| due <= until) else {
                self.now = until;
                return;
            };
            assert!(due > self.now, "a timer must be in the future");
            self.now = due;
            self.client.handle_timeout(due);
            self.settle();
        }
    }

    /// Fetches events and messages, and checks the invariants.
    fn settle(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Granted(_) => {
                    assert!(self.in_use.is_none() && !self.granted);
                    self.granted = true;
                }
                Event::Bound(lease) => {
                    assert_eq!(self.in_use, None, "bound twice");
                    let only = self.config.only_address;
                    assert!(
                        only.is_none_or(|only| only == lease.address),
                        "another address"
                    );
                    self.in_use = Some(lease.address);
                }
                Event::Renewed { old, new } => {
                    assert_eq!((Some(old.address), old.address), (self.in_use, new.address));
                    let known = old.assumptions();
                    assert!(
                        new.assumptions().iter().all(|it| known.contains(it)),
                        "a renewal exchanged what was known for a guess: {old:?}, {new:?}"
                    );
                }
                Event::Lost { lease, .. } => {
                    assert_eq!(
                        self.in_use.take(),
                        Some(lease.address),
                        "lost an address that was not in use"
                    );
                }
                Event::OtherOffered { address, .. } => {
                    assert!(self.config.only_address.is_some_and(|only| only != address));
                }
            }
        }
        if self.client.state() != StateName::Granted {
            self.granted = false; // it expired
        }

        if let Some(transmit) = self.client.poll_transmit() {
            let request = Request::read(transmit);
            assert_eq!(
                request.client_id(),
                Some(CLIENT_ID),
                "the identifier is the same in every message: {request}"
            );
            assert_eq!(self.client.poll_transmit(), None, "two messages at once");
            self.xid = request.xid();
            let requested = request.requested_address();
            self.address =
                requested.or(Some(request.message.ciaddr()).filter(|a| !a.is_unspecified()));
        }

        let lease = self.client.lease();
        assert_eq!(
            lease.map(|lease| lease.address),
            self.in_use,
            "in {}",
            self.client.state()
        );
        if let Some(lease) = lease {
            assert!(lease.requested_at <= self.now);
            assert!(
                lease.expires_at().is_none_or(|end| end > self.now),
                "an address in use after the end of its lease"
            );
            assert!(lease.t1 < lease.t2 && lease.t2 < lease.lifetime || lease.lifetime.is_none());
        }
        let infinite = lease.is_some_and(|lease| lease.lifetime.is_none()) || self.granted;
        match self.client.poll_timeout() {
            Some(due) => assert!(due > self.now, "already due in {}", self.client.state()),
            None => assert!(infinite || self.client.state() == StateName::Stopped),
        }
        let awaits = !matches!(
            self.client.state(),
            StateName::Init | StateName::Granted | StateName::Bound | StateName::Stopped
        );
        assert_eq!(self.client.awaited().is_some(), awaits);

        let report = self.client.report();
        assert_eq!(report.received, self.received);
        assert_eq!(report.ignored.values().sum::<u64>(), self.ignored);
    }

    /// Lets a server answer every message at once, until the client has an address.
    fn serve(&mut self) {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let end = self.now + Duration::from_secs(900);
        while self.now < end && self.in_use.is_none() && self.client.state() != StateName::Stopped {
            let kind = match self.client.state() {
                StateName::Selecting => Some(OFFER),
                StateName::Requesting | StateName::Rebooting => Some(ACK),
                _ => None,
            };
            if let Some(kind) = kind {
                let any = Ipv4Addr::new(10, 0, 0, 50);
                let address = match kind {
                    ACK => self.address.unwrap_or(any),
                    _ => self.config.only_address.unwrap_or(any),
                };
                let reply = Reply::lease(kind, self.xid, address, server, 3600);
                self.receive(&reply.encode(), server);
                self.settle();
            }
            if self.granted {
                self.apply(&Op::Accept);
            }
            if self.in_use.is_none()
                && let Some(due) = self.client.poll_timeout()
            {
                self.wait(due.since(self.now).min(Duration::from_millis(500)));
            }
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..60)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => span().prop_map(Op::Wait),
        1 => span().prop_map(Op::Oversleep),
        12 => answer().prop_map(Op::Receive),
        1 => prop::collection::vec(any::<u8>(), 0..400).prop_map(Op::Junk),
        2 => Just(Op::Accept),
        1 => Just(Op::Decline),
        1 => Just(Op::LinkRestored),
        1 => Just(Op::RequireAddress),
        1 => Just(Op::Resume),
        1 => Just(Op::Release),
    ]
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        (0..3_000u64).prop_map(Duration::from_millis),
        (0..3_000u64).prop_map(Duration::from_secs),
        (0..3_000u64).prop_map(|hours| Duration::from_secs(3600 * hours)),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let kind = prop_oneof![4 => Just(OFFER), 6 => Just(ACK), 1 => Just(NAK), 1 => 0..20u8];
    let address = prop_oneof![6 => Just(None), 1 => (0..4u8).prop_map(|n| Some(Ipv4Addr::new(10, 0, 0, 100 + n)))];
    let seconds = || prop_oneof![0..10u32, 0..100_000u32, any::<u32>(), Just(u32::MAX)];
    let mostly = |p| prop::bool::weighted(p);
    (
        (kind, 1..4u8, address, seconds()),
        (prop::option::of(seconds()), prop::option::of(seconds())),
        (mostly(0.3), mostly(0.9), mostly(0.5)),
        prop::sample::subsequence(vec![1, 51, 54], 0..=3),
    )
        .prop_map(
            |((kind, server, address, lease), (t1, t2), (rapid, in_transaction, echo), lacks)| {
                Answer {
                    kind,
                    server,
                    address,
                    lease,
                    t1,
                    t2,
                    rapid,
                    in_transaction,
                    echo,
                    lacks,
                }
            },
        )
}

fn any_config() -> impl Strategy<Value = Config> {
    let deny = prop_oneof![3 => Just(vec![]), 1 => Just(vec![Ipv4Addr::new(10, 0, 0, 3)])];
    let deadline =
        prop::option::of((0..120u64).prop_map(|seconds| START + Duration::from_secs(seconds)));
    (any::<bool>(), any::<bool>(), any::<bool>(), deny, deadline).prop_map(
        |(probe_before_bind, rapid_commit, broadcast, deny, deadline)| Config {
            probe_before_bind,
            rapid_commit,
            broadcast,
            deadline,
            servers: Servers {
                allow: Vec::new(),
                deny,
            },
            ..config()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_and_a_server_that_answers_gets_every_client_bound(
        config in any_config(), reboots: bool, seed: u64, ops in ops(),
    ) {
        let client = if reboots {
            Client::reboot(config.clone(), seed, past_lease(), START)
        } else {
            Client::new(config.clone(), seed, START)
        };
        let mut model = Model::new(config, client);
        for op in &ops {
            model.apply(op);
        }
        model.serve();
        let ended = model.client.state() == StateName::Stopped;
        prop_assert!(ended || model.in_use.is_some(), "still without an address: {}", model.client.report());
    }
}
