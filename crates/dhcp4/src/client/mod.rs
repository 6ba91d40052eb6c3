//! The state machine.

mod exchange;
mod incoming;
mod outgoing;
mod transitions;

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use crate::config::Config;
use crate::event::{Event, Listen, StateName, Transmit};
use crate::lease::Lease;
use crate::report::{Ignored, Report, Sent};
use crate::rng::Rng;
use crate::time::Instant;
use exchange::{Exchange, Held};

/// A DHCPv4 client for one interface, as a value.
///
/// RFC 2131 figure 5, with what this client adds in double lines: a server may commit at once (RFC
/// 4039), and an address may be `GRANTED` only, until the driver has looked for a conflict
/// ([`Config::confirm`]).
///
/// ```text
///   reboot()                         new()
///      │                               │
/// INIT-REBOOT                        INIT ◀──────────────────────────────┐
///      │ REQUEST                       │ DISCOVER                        │
///      ▼           NAK, silence        ▼                                 │
/// REBOOTING ────────────────────▶ SELECTING (again while silent)         │
///      │                           │   ║                                 │
///      │                OFFER taken│   ║                                 │
///      │                    REQUEST▼   ║ ACK with rapid commit           │
///      │                 REQUESTING ───╫─────────────── NAK, silence ───▶│
///      │                           │   ║                                 │
///      │ ACK                    ACK│   ║                                 │
///      │                           ▼   ▼                                 │
///      ╞══════════════════════▶ GRANTED ══ decline(): DECLINE, a pause ═▶│
///      │                           ║                                     │
///      │                           ║ accept()                            │
///      │                           ▼                                     │
///      └──────────────────────▶  BOUND ◀──────────────┐                  │
///                                  │ T1: REQUEST      │                  │
///                                  ▼ to our server    │ ACK              │
///                              RENEWING ──────────────┤                  │
///                                  │  └───────────────┼───────── NAK ───▶│
///                                  │ T2: REQUEST      │                  │
///                                  ▼ to all           │                  │
///                              REBINDING ─────────────┘                  │
///                                     └──────────────── NAK, expiry ─────┘
/// ```
///
/// Not drawn: a lease that runs out ends whatever state holds it, and discovery starts again.
/// [`decline`](Client::decline) does the same to an address in use, after a pause.
/// [`link_restored`](Client::link_restored) leads from an address in use to REBOOTING, the lease
/// kept meanwhile, and back when nobody answers. [`release`](Client::release) leads from anywhere
/// to STOPPED. [`inform`](Client::inform) is a life of its own: INFORMING, then STOPPED.
///
/// Whatever is not an awaited answer is [`Ignored`] and leaves the state as it was.
///
/// **Offers.** The first acceptable one is taken at once, or the best of those that arrive within
/// [`Config::collect`]: one of the address asked for before one from the server that had it, before any other, before
/// one from a server whose last offer came to nothing. The first kind is taken at once even while
/// collecting, and the last kind is always given [`Retry::first`](crate::Retry::first) for a better
/// one to come.
///
/// **Time.** A lease runs from the first message that the server can have been answering. While
/// RENEWING and REBINDING each message is an exchange of its own, so that is the very message.
///
/// **Driving.** After each call, drain [`poll_event`](Client::poll_event) and then
/// [`poll_transmit`](Client::poll_transmit), and call [`handle_timeout`](Client::handle_timeout) no
/// later than [`poll_timeout`](Client::poll_timeout) says. The client never gives up by itself: a
/// driver that has waited long enough drops it, or calls [`release`](Client::release) so that a
/// server does not keep a half-won address.
#[derive(Clone, Debug)]
pub struct Client {
    config: Config,
    rng: Rng,
    state: State,
    /// What to ask for and to prefer when discovery starts again.
    remembered: Remembered,
    /// The server whose last offer came to nothing: its REQUEST was refused or not answered.
    unreliable: Option<Ipv4Addr>,
    /// Refusals since the last lease.
    naks: u32,
    /// Addresses found in use by others since the last lease.
    declines: u32,
    /// Two messages in a row went unanswered since the last lease, so replies are asked for by
    /// broadcast.
    wants_broadcast: bool,
    /// When acquisition or renewal began, for `secs`.
    began: Instant,
    transmit: Option<(Sent, Transmit)>,
    events: VecDeque<Event>,
    report: Report,
}

/// The states, each with what only it knows.
#[derive(Clone, Debug)]
enum State {
    Init {
        until: Instant,
    },
    Selecting {
        exchange: Exchange,
        best: Option<Candidate>,
    },
    Requesting {
        exchange: Exchange,
        offer: Offer,
    },
    Rebooting {
        exchange: Exchange,
        address: Ipv4Addr,
        held: Option<Held>,
    },
    Granted {
        held: Held,
    },
    Bound {
        held: Held,
    },
    Renewing {
        exchange: Exchange,
        held: Held,
    },
    Rebinding {
        exchange: Exchange,
        held: Held,
    },
    Informing {
        exchange: Exchange,
        address: Ipv4Addr,
    },
    Stopped,
}

/// What a server offered.
#[derive(Clone, Copy, Debug)]
struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// The best offer so far, and until when a better one may come.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    offer: Offer,
    decide_at: Instant,
}

/// An address held before and the server it came from.
#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    address: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

impl Client {
    /// A client in INIT: its first DISCOVER is ready at once. (RFC 2131 section 4.4.1 wants a
    /// random pause of up to ten seconds first, against a power cut's many hosts; containers do not
    /// start that way, and somebody is waiting.)
    ///
    /// The seed is all the randomness there is: two clients with the same seed and inputs act
    /// alike, so no two on one network should share one.
    pub fn new(config: Config, seed: u64, now: Instant) -> Client {
        let mut client = Client::idle(config, seed, now);
        client.enter_selecting(now);
        client
    }

    /// A client in INIT-REBOOT: its first REQUEST, for an address that it had before, is ready at
    /// once. `server` is where the address came from, if that is known. Refused or unanswered,
    /// discovery follows.
    pub fn reboot(
        config: Config,
        seed: u64,
        address: Ipv4Addr,
        server: Option<Ipv4Addr>,
        now: Instant,
    ) -> Client {
        let mut client = Client::idle(config, seed, now);
        client.remembered = Remembered {
            address: Some(address),
            server,
        };
        client.enter_rebooting(now, address, None);
        client
    }

    /// A client that goes on with a lease from before: BOUND, RENEWING or REBINDING as the time may
    /// be, without an event; or, when the lease has run out meanwhile or is of another boot, with
    /// [`Event::Lost`] and discovery.
    pub fn resume(config: Config, seed: u64, lease: Lease, now: Instant) -> Client {
        let mut client = Client::idle(config, seed, now);
        client.remember(&lease);
        let held = Held::new(lease, &mut client.rng);
        client.settle(now, held);
        client
    }

    /// A client that asks for options alone, for an address configured by other means (RFC 2131
    /// section 3.4). It ends with [`Event::Informed`].
    pub fn inform(config: Config, seed: u64, address: Ipv4Addr, now: Instant) -> Client {
        let mut client = Client::idle(config, seed, now);
        client.enter_informing(now, address);
        client
    }

    fn idle(config: Config, seed: u64, now: Instant) -> Client {
        Client {
            remembered: Remembered {
                address: config.requested_address,
                server: None,
            },
            config,
            rng: Rng::new(seed),
            state: State::Stopped,
            unreliable: None,
            naks: 0,
            declines: 0,
            wants_broadcast: false,
            began: now,
            transmit: None,
            events: VecDeque::new(),
            report: Report::default(),
        }
    }

    /// Takes in a UDP payload received on port 68, and the IP address that sent it.
    ///
    /// # Errors
    ///
    /// [`Ignored`], counted in the [`report`](Client::report), when it is not an answer to what was
    /// asked.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        payload: &[u8],
        from: Ipv4Addr,
    ) -> Result<(), Ignored> {
        self.report.received += 1;
        self.expire(now);
        self.receive(now, payload, from)
            .inspect_err(|&ignored| self.report.count_ignored(ignored))
    }

    /// Does whatever is due by now; nothing, when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        self.advance(now);
    }

    /// When to call [`handle_timeout`](Client::handle_timeout); `None`: only a packet or a call can
    /// change anything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Init { until } => Some(*until),
            State::Selecting {
                best: Some(candidate),
                ..
            } => Some(candidate.decide_at),
            State::Selecting {
                exchange,
                best: None,
            }
            | State::Requesting { exchange, .. }
            | State::Rebooting {
                exchange,
                held: None,
                ..
            }
            | State::Informing { exchange, .. } => Some(exchange.next),
            State::Rebooting {
                exchange,
                held: Some(held),
                ..
            }
            | State::Rebinding { exchange, held } => {
                earliest([Some(exchange.next), held.lease.expires_at()])
            }
            State::Granted { held } => held.lease.expires_at(),
            State::Bound { held } => earliest([held.renew_at, held.lease.expires_at()]),
            State::Renewing { exchange, held } => {
                earliest([Some(exchange.next), held.rebind_at, held.lease.expires_at()])
            }
            State::Stopped => None,
        }
    }

    /// The next message to send, if there is one.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let (kind, transmit) = self.transmit.take()?;
        self.report.count_sent(kind);
        Some(transmit)
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Gives the address back and stops. A RELEASE is queued when a server counts an address as
    /// ours, or may: also when its ACK has not arrived yet, or the address is only granted. Nobody
    /// answers a RELEASE.
    pub fn release(&mut self, now: Instant) {
        let remembered = self.remembered;
        let given_back = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Granted { held }
            | State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. }
            | State::Rebooting {
                held: Some(held), ..
            } => (!held.lease.is_over(now)).then_some(Offer {
                address: held.lease.address,
                server: held.lease.server_id,
            }),
            State::Requesting { offer, .. } => Some(offer),
            State::Rebooting {
                address,
                held: None,
                ..
            } => remembered.server.map(|server| Offer { address, server }),
            State::Init { .. }
            | State::Selecting { .. }
            | State::Informing { .. }
            | State::Stopped => None,
        };
        self.transmit = None;
        if let Some(lease) = given_back {
            self.send_release(lease);
        }
    }

    /// Takes the granted address into use: [`Event::Bound`] follows. `false`, when there is none
    /// (any more).
    pub fn accept(&mut self, now: Instant) -> bool {
        self.expire(now);
        if !matches!(self.state, State::Granted { .. }) {
            return false;
        }
        if let Some(held) = self.take_held() {
            self.bind(now, held);
        }
        true
    }

    /// Refuses the address, granted or in use, because somebody else was seen to use it (RFC 2131
    /// section 3.1.5): a DECLINE is queued, and discovery starts again after a pause. An address in
    /// use is [`Event::Lost`]. `false`, when there is none.
    pub fn decline(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.give_up_conflicting(now)
    }

    /// Tells that the link's carrier came back, possibly on another network. A lease is kept and
    /// asked for again (INIT-REBOOT); where there is none, the search for one starts afresh,
    /// without waiting for a timer.
    pub fn link_restored(&mut self, now: Instant) {
        self.expire(now);
        self.ask_again(now);
    }

    /// Where the client stands.
    pub fn state(&self) -> StateName {
        match &self.state {
            State::Init { .. } => StateName::Init,
            State::Selecting { .. } => StateName::Selecting,
            State::Requesting { .. } => StateName::Requesting,
            State::Rebooting { .. } => StateName::Rebooting,
            State::Granted { .. } => StateName::Granted,
            State::Bound { .. } => StateName::Bound,
            State::Renewing { .. } => StateName::Renewing,
            State::Rebinding { .. } => StateName::Rebinding,
            State::Informing { .. } => StateName::Informing,
            State::Stopped => StateName::Stopped,
        }
    }

    /// The lease under which the address may be used.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. }
            | State::Rebooting {
                held: Some(held), ..
            } => Some(&held.lease),
            State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { held: None, .. }
            | State::Granted { .. }
            | State::Informing { .. }
            | State::Stopped => None,
        }
    }

    /// Where replies can arrive.
    pub fn listen(&self) -> Listen {
        match &self.state {
            State::Init { .. } | State::Granted { .. } | State::Bound { .. } | State::Stopped => {
                Listen::Nothing
            }
            State::Selecting { .. } | State::Requesting { .. } | State::Rebooting { .. } => {
                Listen::Link
            }
            State::Renewing { held, .. } | State::Rebinding { held, .. } => {
                Listen::Address(held.lease.address)
            }
            State::Informing { address, .. } => Listen::Address(*address),
        }
    }

    /// What was sent, received and ignored in this client's life.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What the client was told at its beginning.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}
