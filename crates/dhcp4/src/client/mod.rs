//! The client's interface for its driver.
//!
//! The state machine is in the modules below. Each calls only those further down:
//!
//! - `timeout` and `incoming`: what each state does when its timer is due or a packet arrives;
//! - `keeping`: the states that have a lease;
//! - `acquiring`: the states that lead to one;
//! - `outgoing`: the messages; `grant`: the lease in a message;
//! - `state`: the data; `timers` and `rng`: waits and their jitter.

mod acquiring;
mod grant;
mod incoming;
mod keeping;
mod outgoing;
mod rng;
mod state;
mod timeout;
mod timers;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use crate::config::Config;
use crate::event::Event;
use crate::lease::Lease;
use crate::report::{Ignored, Report};
use crate::state_name::StateName;
use crate::time::Instant;
use crate::transmit::{Awaited, OutgoingKind, Transmit};
use outgoing::Lent;
use rng::Rng;
use state::State;
use timers::TimedLease;

pub use state::Client;

impl Client {
    /// Makes a client that discovers a new address. Its first DISCOVER is ready at once. (RFC 2131
    /// section 4.4.1 asks for a random pause of up to ten seconds, in case many hosts start at the
    /// same time; a container that waits for its address is not worth that delay.)
    ///
    /// All randomness comes from `seed`. Two clients with the same seed and inputs behave the same,
    /// so each client on a network needs a seed of its own.
    pub fn new(config: Config, seed: u64, now: Instant) -> Client {
        let mut client = Client::unstarted(config, seed, now);
        client.enter_selecting(now);
        client
    }

    /// Makes a client that first requests the address of a past lease (INIT-REBOOT). If the request
    /// is refused, or not answered within about a second, the client discovers.
    pub fn reboot(config: Config, seed: u64, past: Lease, now: Instant) -> Client {
        let mut client = Client::unstarted(config, seed, now);
        client.preferred_address = Some(past.address);
        client.enter_rebooting(now, past);
        client
    }

    /// Makes a client that continues a stored lease. According to the lease's age, it starts in
    /// BOUND, RENEWING or REBINDING, without an event. If the lease has expired, or was written in
    /// another boot, it starts with [`Event::Lost`] and discovers.
    pub fn resume(config: Config, seed: u64, lease: Lease, now: Instant) -> Client {
        let mut client = Client::unstarted(config, seed, now);
        client.remember(&lease);
        let timed = TimedLease::new(lease, &mut client.rng);
        client.enter_by_age(now, timed);
        client
    }

    fn unstarted(config: Config, seed: u64, now: Instant) -> Client {
        Client {
            preferred_address: config.requested_address,
            config,
            rng: Rng::new(seed),
            state: State::Stopped,
            unreliable_server: None,
            naks: 0,
            declines: 0,
            wants_broadcast: false,
            began_at: now,
            transmit: None,
            events: VecDeque::new(),
            report: None,
        }
    }

    /// Handles a UDP payload received on port 68. `from` is the IP address that sent it.
    ///
    /// # Errors
    ///
    /// [`Ignored`] if the payload is not an expected answer. The [`report`](Client::report) counts
    /// it.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        payload: &[u8],
        from: Ipv4Addr,
    ) -> Result<(), Ignored> {
        self.report_mut().received += 1;
        self.expire(now);
        self.receive(now, payload, from)
            .inspect_err(|&ignored| self.report_mut().count_ignored(ignored))
    }

    /// Does what is due by now, if anything.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        self.advance(now);
    }

    /// When to call [`handle_timeout`](Client::handle_timeout); `None` if only a packet or a call
    /// can change anything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.state.next_timeout()
    }

    /// Fetches the next message to send. A message that cannot be sent counts as lost on the way.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmit.take()
    }

    /// Notes that a message of this type was sent, for the [`report`](Client::report).
    pub fn note_sent(&mut self, kind: OutgoingKind) {
        self.report_mut().count_sent(kind);
    }

    /// Fetches the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // Room for events is larger than an idle client.
            self.events = VecDeque::new();
        }
        event
    }

    /// Gives the address back and stops. The client sends a RELEASE if a server has leased an
    /// address to it, or may have: also in GRANTED, and while the ACK is outstanding. No server
    /// answers a RELEASE.
    pub fn release(&mut self, now: Instant) {
        let lent = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Granted { timed }
            | State::Bound { timed }
            | State::Renewing { timed, .. }
            | State::Rebinding { timed, .. }
            | State::Reconfirming { timed, .. } => {
                (!timed.lease.is_over(now)).then(|| Lent::from(&timed.lease))
            }
            State::Requesting { offer, .. } => Some(Lent::from(&offer)),
            State::Rebooting { past, .. } => Some(Lent::from(&past)),
            State::Init { .. } | State::Selecting { .. } | State::Stopped => None,
        };
        self.transmit = None;
        if let Some(lent) = lent {
            self.send_release(lent);
        }
    }

    /// Accepts the granted address, which leads to [`Event::Bound`]. Returns `false` if there is
    /// none, perhaps because it has expired.
    pub fn accept(&mut self, now: Instant) -> bool {
        self.expire(now);
        if !matches!(self.state, State::Granted { .. }) {
            return false;
        }
        if let Some(timed) = self.state.take_lease() {
            self.bind(now, timed);
        }
        true
    }

    /// Declines the address, granted or in use, because another host uses it (RFC 2131 section
    /// 3.1.5). The client sends a DECLINE and discovers after a pause. An address in use leads to
    /// [`Event::Lost`]. Returns `false` if there is no address.
    pub fn decline(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.decline_lease(now)
    }

    /// From now on, the client takes no other address than this one, which it has or had: after the
    /// loss of its lease it asks for this address until a server grants it
    /// ([`Config::only_address`]).
    pub fn require_address(&mut self, address: Ipv4Addr) {
        self.config.only_address = Some(address);
    }

    /// The only address that the client takes, if there is one.
    pub fn only_address(&self) -> Option<Ipv4Addr> {
        self.config.only_address
    }

    /// Tells the client that the link's carrier has returned, perhaps on another network. A client
    /// with a lease keeps it and asks servers to confirm it (INIT-REBOOT). Any other client starts
    /// over at once, without waiting for its timer.
    pub fn link_restored(&mut self, now: Instant) {
        self.expire(now);
        self.reconfirm(now);
    }

    /// Tells the client that the interface has another Ethernet address, and the client identifier
    /// that goes with it.
    ///
    /// If the identifier is the same as before, servers know the client by it (RFC 2131 section
    /// 4.2): the lease stays, and the client asks them to confirm it, as after
    /// [`link_restored`](Client::link_restored). Otherwise they take it for another client. The
    /// lease is released under the old identity, which leads to [`Event::Lost`], and the client
    /// requests the same address under the new one.
    pub fn adopt_mac(&mut self, now: Instant, mac: [u8; 6], client_id: Option<Arc<[u8]>>) {
        self.expire(now);
        self.change_identity(now, mac, client_id);
    }

    /// The name of the current state.
    pub fn state(&self) -> StateName {
        self.state.name()
    }

    /// The lease whose address may be used now. A granted address has none yet.
    pub fn lease(&self) -> Option<&Lease> {
        match self.state {
            State::Granted { .. } => None,
            _ => self.state.lease(),
        }
    }

    /// The reply that the client awaits; `None` if it awaits none, and the driver need not listen.
    pub fn awaited(&self) -> Option<Awaited> {
        Some(Awaited {
            xid: self.state.xid()?.to_be_bytes(),
            chaddr: self.config.mac,
        })
    }

    /// What the client sent, received and ignored so far, or since [`Client::forget_report`].
    pub fn report(&self) -> &Report {
        static NOTHING: LazyLock<Report> = LazyLock::new(Report::default);
        self.report.as_deref().unwrap_or(&NOTHING)
    }

    /// Empties the report. It takes memory, and a driver may keep a client for a long time after it
    /// has last used the report.
    pub fn forget_report(&mut self) {
        self.report = None;
    }

    fn report_mut(&mut self) -> &mut Report {
        self.report.get_or_insert_default()
    }
}
