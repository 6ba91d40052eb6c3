//! Any octets as a received packet, in every state. The fuzz target `dhcp4_packet` and the test
//! that replays its corpus share this module.

use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::Duration;

use dhcp4::{Client, Config, Event, Instant, Lease, Options, StateName};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;
const START: Instant = Instant::from_boot(Duration::from_secs(1000));

/// Gives the packet to a client in each state and checks the invariants. A transaction id of 0 is
/// replaced by the one that the client awaits, because a fuzzer would not guess it.
pub(crate) fn receive(packet: &[u8]) {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(cases);
    for case in CASES.iter() {
        case.clone().receive(packet);
    }
}

fn past_lease() -> Lease {
    Lease {
        address: ADDRESS,
        prefix_len: 24,
        server_id: SERVER,
        requested_at: Instant::BOOT,
        lifetime: None,
        t1: None,
        t2: None,
        options: Options::default(),
    }
}

/// A client in some state.
#[derive(Clone)]
struct Case {
    client: Client,
    now: Instant,
    xid: [u8; 4],
}

fn cases() -> Vec<Case> {
    let config = Config {
        client_id: Some(b"\0fuzz/lan/eth0"[..].into()),
        rapid_commit: true,
        requested_address: Some(ADDRESS),
        ..Config::new(MAC)
    };
    let probing = Config {
        probe_before_bind: true,
        ..config.clone()
    };
    let new = |config: &Config| Case::new(Client::new(config.clone(), 1, START));

    let bound = new(&config).after(ACK, true);
    let mut declined = bound.clone();
    assert!(declined.client.decline(START));
    let mut confirming = bound.clone();
    confirming.client.link_restored(START);
    let mut stopped = bound.clone();
    stopped.client.release(START);
    let renewing = bound.clone().at_next_timer();
    let mut rebinding = renewing.clone();
    while rebinding.client.state() == StateName::Renewing {
        rebinding = rebinding.at_next_timer();
    }

    let cases = [
        declined,
        new(&config),
        new(&config)
            .after(OFFER, false)
            .after(NAK, false)
            .after(OFFER, false),
        new(&config).after(OFFER, false),
        Case::new(Client::reboot(config, 1, past_lease(), START)),
        confirming,
        new(&probing).after(ACK, true),
        bound,
        renewing,
        rebinding,
        stopped,
    ];
    cases.map(Case::quiet).to_vec()
}

impl Case {
    fn new(client: Client) -> Case {
        Case {
            client,
            now: START,
            xid: [0; 4],
        }
        .quiet()
    }

    /// Discards events and messages, but keeps the transaction id of the last message.
    fn quiet(mut self) -> Case {
        while self.client.poll_event().is_some() {}
        if let Some(transmit) = self.client.poll_transmit() {
            self.xid.copy_from_slice(&transmit.payload[4..8]);
        }
        self
    }

    /// Gives the client an answer that it awaits.
    fn after(mut self, kind: u8, rapid: bool) -> Case {
        let mut packet = vec![2, 1, 6, 0];
        packet.extend(self.xid);
        packet.resize(16, 0);
        packet.extend(ADDRESS.octets());
        packet.resize(28, 0);
        packet.extend(MAC);
        packet.resize(236, 0);
        packet.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
        packet.extend(SERVER.octets());
        packet.extend([51, 4, 0, 0, 14, 16]);
        packet.extend(rapid.then_some([80, 0]).iter().flatten());
        self.client
            .handle_packet(self.now, &packet, SERVER)
            .expect("an awaited answer");
        self.quiet()
    }

    fn at_next_timer(mut self) -> Case {
        self.now = self.client.poll_timeout().expect("a timer");
        self.client.handle_timeout(self.now);
        self.quiet()
    }

    fn receive(mut self, packet: &[u8]) {
        let mut packet = packet.to_vec();
        if let Some(xid) = packet.get_mut(4..8).filter(|xid| **xid == [0; 4]) {
            xid.copy_from_slice(&self.xid);
        }
        let before = (self.client.state(), self.client.lease().cloned());
        let result = self.client.handle_packet(self.now, &packet, SERVER);
        if result.is_err() {
            assert_eq!(before, (self.client.state(), self.client.lease().cloned()));
            assert_eq!(
                self.client.poll_event(),
                None,
                "an ignored packet has no effect"
            );
            assert_eq!(
                self.client.poll_transmit(),
                None,
                "an ignored packet has no effect"
            );
            return;
        }
        self.check();

        // Handle a few timers after the packet.
        for _ in 0..4 {
            let Some(due) = self.client.poll_timeout() else {
                break;
            };
            assert!(due > self.now);
            self.now = due;
            self.client.handle_timeout(due);
            self.check();
        }
    }

    fn check(&mut self) {
        if let Some(lease) = self.client.lease() {
            assert!(lease.expires_at().is_none_or(|end| end > self.now));
            check_lease(lease);
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Granted(lease) | Event::Bound(lease) | Event::Lost { lease, .. } => {
                    check_lease(&lease);
                }
                Event::Renewed { old, new } => {
                    assert_eq!(old.address, new.address);
                    check_lease(&new);
                }
                Event::OtherOffered { .. } => panic!("it takes any address"),
            }
        }
        while let Some(transmit) = self.client.poll_transmit() {
            assert!(transmit.payload.len() >= 300);
        }
        assert!(!self.client.report().to_string().contains(char::is_control));
    }
}

fn check_lease(lease: &Lease) {
    assert!(lease.prefix_len <= 32);
    for route in lease.routes() {
        assert_eq!(route.dst, route.dst.trunc());
    }
    let options = &lease.options;
    check_names(options.domain.iter().chain(&options.search));
    assert!(options.mtu.is_none_or(|mtu| mtu >= 576));
    let stored = serde_json::to_string(lease).expect("a lease can be written");
    assert_eq!(
        serde_json::from_str::<Lease>(&stored).expect("and read"),
        *lease
    );
}

fn check_names<'a>(names: impl Iterator<Item = &'a String>) {
    for name in names {
        assert!((1..=253).contains(&name.len()), "{name:?}");
        assert!(
            name.bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)),
            "{name:?}"
        );
    }
}
