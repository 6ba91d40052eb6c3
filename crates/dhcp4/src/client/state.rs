//! What a client knows, and its states.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::rng::Rng;
use super::timers::TimedLease;
use crate::config::Config;
use crate::event::Event;
use crate::lease::Lease;
use crate::options::RawOption;
use crate::report::Report;
use crate::state_name::StateName;
use crate::time::Instant;
use crate::transmit::Transmit;

/// A DHCPv4 client for one interface, as a value. The [crate's front page](crate) draws its states
/// and shows a driver.
///
/// # Driving
///
/// After each call, fetch all of [`poll_event`](Client::poll_event) and then of
/// [`poll_transmit`](Client::poll_transmit). Call [`handle_packet`](Client::handle_packet) for each
/// packet, and [`handle_timeout`](Client::handle_timeout) at the time that
/// [`poll_timeout`](Client::poll_timeout) returns. The client never gives up by itself: a driver
/// that has waited long enough calls [`release`](Client::release), so that no server keeps an
/// address for it.
///
/// # Received packets
///
/// A packet that is not an expected answer is [`Ignored`](crate::Ignored) and changes nothing. An
/// offer of an address that the client must not take is reported as an event besides.
///
/// # Choice of an offer
///
/// 1. The client takes the first acceptable offer at once.
/// 2. The exception is an offer from the server whose previous offer failed, because it refused or
///    ignored the REQUEST. The client takes that one only if no other server makes an offer within
///    [`Retry::first`](crate::Retry::first).
/// 3. Offers of other servers that arrive afterwards are kept. The client requests the next one if
///    the server refuses its own offer, or does not answer two REQUESTs.
///
/// # Start of a lease
///
/// A lease starts when the client sent the first message of the transaction, because the server may
/// have answered that one. In RENEWING and REBINDING each message starts a new transaction, so an
/// extended lease starts exactly when the answered message was sent.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) config: Config,
    pub(super) rng: Rng,
    pub(super) state: State,
    /// The address to ask for in DISCOVER: the last one leased, or the configured one.
    pub(super) preferred_address: Option<Ipv4Addr>,
    /// The server whose last offer failed because it refused or ignored the REQUEST.
    pub(super) unreliable_server: Option<Ipv4Addr>,
    /// How many REQUESTs for a new address were refused, and leases ended by a NAK, since the last
    /// lease.
    pub(super) naks: u32,
    /// How many addresses the driver declined since the last lease.
    pub(super) declines: u32,
    /// Whether two messages in a row went unanswered since the last lease, so that the client asks
    /// for broadcast replies.
    pub(super) wants_broadcast: bool,
    /// When acquisition or renewal began, for the `secs` field.
    pub(super) began_at: Instant,
    /// The message that the driver has not fetched yet.
    pub(super) transmit: Option<Transmit>,
    /// The events that the driver has not fetched yet.
    pub(super) events: VecDeque<Event>,
    /// `None` as long as there is nothing to report.
    pub(super) report: Option<Box<Report>>,
}

/// The state of a client, with the data that exists only in that state.
#[derive(Clone, Debug)]
pub(super) enum State {
    Init {
        until: Instant,
    },
    Selecting {
        transaction: Transaction,
        fallback: Option<Fallback>,
    },
    Requesting {
        transaction: Transaction,
        offer: Offer,
        /// Offers of other servers, at most [`MAX_OTHERS`], in the order of their arrival.
        others: Vec<Offer>,
    },
    /// REBOOTING without a lease: the client asks for the address of a past one.
    Rebooting {
        transaction: Transaction,
        past: Lease,
    },
    /// REBOOTING with a lease: the client asks whether its lease is valid on this link.
    Reconfirming {
        transaction: Transaction,
        timed: TimedLease,
    },
    Granted {
        timed: TimedLease,
    },
    Bound {
        timed: TimedLease,
    },
    Renewing {
        transaction: Transaction,
        timed: TimedLease,
    },
    Rebinding {
        transaction: Transaction,
        timed: TimedLease,
    },
    Stopped,
}

/// The messages that share a transaction id, and their answer.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) xid: u32,
    /// When the first message was sent. A lease from this transaction starts here, whichever of the
    /// messages the server answered.
    pub(super) started_at: Instant,
    /// The `secs` of the last message.
    pub(super) secs: u16,
    /// How many messages were sent.
    pub(super) attempts: u32,
    /// When to send the next message.
    pub(super) resend_at: Instant,
}

impl Transaction {
    pub(super) fn new(xid: u32, now: Instant) -> Transaction {
        Transaction {
            xid,
            started_at: now,
            secs: 0,
            attempts: 0,
            resend_at: now,
        }
    }
}

/// How many offers the client keeps beside the one that it requests.
pub(super) const MAX_OTHERS: usize = 4;

/// A server, as one of its messages names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The server identifier (option 54). RFC 2131 table 3 demands it, but some servers leave it
    /// out, or send 0.0.0.0.
    pub(super) id: Option<Ipv4Addr>,
    /// The IP source of the message: the server's address, or that of a relay.
    pub(super) source: Ipv4Addr,
}

impl Server {
    /// The server's identifier or, if it sent none, the address that it sent from.
    pub(super) fn address(self) -> Ipv4Addr {
        self.id.unwrap_or(self.source)
    }

    /// Whether two messages come from the same server. Without an identifier in both, only their
    /// sources can tell.
    pub(super) fn is(self, other: Server) -> bool {
        match (self.id, other.id) {
            (Some(id), Some(other)) => id == other,
            _ => self.source == other.source,
        }
    }
}

/// What a server offered.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) address: Ipv4Addr,
    pub(super) server: Server,
    /// All options of the OFFER.
    pub(super) options: Vec<RawOption>,
}

/// An offer of an unreliable server, to be taken if no better one arrives.
#[derive(Clone, Debug)]
pub(super) struct Fallback {
    pub(super) offer: Offer,
    pub(super) take_at: Instant,
}

impl State {
    pub(super) fn name(&self) -> StateName {
        match self {
            State::Init { .. } => StateName::Init,
            State::Selecting { .. } => StateName::Selecting,
            State::Requesting { .. } => StateName::Requesting,
            State::Rebooting { .. } | State::Reconfirming { .. } => StateName::Rebooting,
            State::Granted { .. } => StateName::Granted,
            State::Bound { .. } => StateName::Bound,
            State::Renewing { .. } => StateName::Renewing,
            State::Rebinding { .. } => StateName::Rebinding,
            State::Stopped => StateName::Stopped,
        }
    }

    /// The lease of a state that has one, even if its address may not be used yet.
    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            State::Granted { timed }
            | State::Bound { timed }
            | State::Renewing { timed, .. }
            | State::Rebinding { timed, .. }
            | State::Reconfirming { timed, .. } => Some(&timed.lease),
            State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Stopped => None,
        }
    }

    /// Takes the lease out of a state that has one, which leaves `Stopped` for the caller to
    /// replace. Leaves any other state as it is.
    pub(super) fn take_lease(&mut self) -> Option<TimedLease> {
        match std::mem::replace(self, State::Stopped) {
            State::Granted { timed }
            | State::Bound { timed }
            | State::Renewing { timed, .. }
            | State::Rebinding { timed, .. }
            | State::Reconfirming { timed, .. } => Some(timed),
            state @ (State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Stopped) => {
                *self = state;
                None
            }
        }
    }

    /// The id that an answer must have now; `None` if the client awaits no answer.
    pub(super) fn xid(&self) -> Option<u32> {
        match self {
            State::Selecting { transaction, .. }
            | State::Requesting { transaction, .. }
            | State::Rebooting { transaction, .. }
            | State::Reconfirming { transaction, .. }
            | State::Renewing { transaction, .. }
            | State::Rebinding { transaction, .. } => Some(transaction.xid),
            State::Init { .. } | State::Granted { .. } | State::Bound { .. } | State::Stopped => {
                None
            }
        }
    }

    /// When the next timer is due; `None` if only a packet or a call can change the state.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self {
            State::Init { until } => Some(*until),
            State::Selecting {
                fallback: Some(fallback),
                ..
            } => Some(fallback.take_at),
            State::Selecting {
                transaction,
                fallback: None,
            }
            | State::Requesting { transaction, .. }
            | State::Rebooting { transaction, .. } => Some(transaction.resend_at),
            State::Reconfirming { transaction, timed }
            | State::Rebinding { transaction, timed } => {
                earliest([Some(transaction.resend_at), timed.lease.expires_at()])
            }
            State::Granted { timed } => timed.lease.expires_at(),
            State::Bound { timed } => earliest([timed.renew_at, timed.lease.expires_at()]),
            State::Renewing { transaction, timed } => earliest([
                Some(transaction.resend_at),
                timed.rebind_at,
                timed.lease.expires_at(),
            ]),
            State::Stopped => None,
        }
    }
}

fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}
