//! From state to state, and what falls due in each.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::exchange::{Exchange, Held, backoff, renewal_wait};
use super::{Candidate, Client, Offer, Remembered, State};
use crate::config::Retry;
use crate::event::{Delivery, Event, Why};
use crate::lease::Lease;
use crate::time::Instant;

impl Client {
    /// Does what is due in this state. A lease that ran out was dealt with before
    /// ([`Client::expire`]).
    pub(super) fn advance(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Init { .. } => self.enter_selecting(now),
            State::Selecting {
                exchange,
                best: Some(Candidate { offer, .. }),
            } => {
                self.enter_requesting(now, &exchange, offer);
            }
            State::Selecting {
                exchange,
                best: None,
            } => self.discover_again(now, exchange),
            State::Requesting { exchange, offer } if exchange.sent < self.config.retry.requests => {
                self.request(now, exchange, offer);
            }
            State::Requesting { offer, .. } => {
                self.unreliable = Some(offer.server);
                self.enter_selecting(now);
            }
            State::Rebooting {
                exchange,
                address,
                held,
            } if exchange.sent < self.config.retry.reboots => {
                self.request_remembered(now, exchange, address, held);
            }
            // RFC 2131 section 3.2: without an answer the rest of the lease may still be used.
            State::Rebooting {
                held: Some(held), ..
            } => self.settle(now, held),
            State::Rebooting { held: None, .. } => self.enter_selecting(now),
            State::Bound { held } => self.settle(now, held),
            State::Renewing { held, .. } if is_due(held.rebind_at, now) => self.rebind(now, held),
            State::Renewing { held, .. } => self.renew(now, held),
            State::Rebinding { held, .. } => self.rebind(now, held),
            State::Informing { exchange, address } => self.inform_again(now, exchange, address),
            state @ (State::Granted { .. } | State::Stopped) => self.state = state,
        }
    }

    /// Ends a lease that has run out, before anything else happens at this time.
    pub(super) fn expire(&mut self, now: Instant) {
        let is_over = match &self.state {
            State::Granted { held }
            | State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. }
            | State::Rebooting {
                held: Some(held), ..
            } => is_due(held.lease.expires_at(), now),
            State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { held: None, .. }
            | State::Informing { .. }
            | State::Stopped => false,
        };
        if !is_over {
            return;
        }
        if matches!(self.state, State::Granted { .. }) {
            self.start_over(now);
        } else if let Some(held) = self.take_held() {
            self.lose(now, held.lease, Why::Expired);
        }
    }

    /// INIT without a pause, and so SELECTING: DISCOVER.
    pub(super) fn enter_selecting(&mut self, now: Instant) {
        let exchange = self.open_exchange(now);
        self.discover(now, exchange);
    }

    pub(super) fn enter_requesting(&mut self, now: Instant, discovery: &Exchange, offer: Offer) {
        // RFC 2131 section 3.1: the same xid and secs as the DISCOVER, so that relays treat both
        // alike.
        let exchange = Exchange {
            secs: discovery.secs,
            ..Exchange::new(discovery.xid, now)
        };
        self.request(now, exchange, offer);
    }

    pub(super) fn enter_rebooting(&mut self, now: Instant, address: Ipv4Addr, held: Option<Held>) {
        let exchange = self.open_exchange(now);
        self.request_remembered(now, exchange, address, held);
    }

    pub(super) fn enter_informing(&mut self, now: Instant, address: Ipv4Addr) {
        let exchange = self.open_exchange(now);
        self.inform_again(now, exchange, address);
    }

    /// A lease was won: GRANTED if it is to be confirmed, or bound at once.
    pub(super) fn win(&mut self, now: Instant, lease: Lease) {
        let held = Held::new(lease, &mut self.rng);
        if self.config.confirm {
            self.events.push_back(Event::Granted(held.lease.clone()));
            self.transmit = None;
            self.state = State::Granted { held };
        } else {
            self.bind(now, held);
        }
    }

    pub(super) fn bind(&mut self, now: Instant, held: Held) {
        self.remember(&held.lease);
        self.events.push_back(Event::Bound(held.lease.clone()));
        self.settle(now, held);
    }

    /// The lease held was extended.
    pub(super) fn extend(&mut self, now: Instant, old: Lease, new: Lease) {
        self.remember(&new);
        let held = Held::new(new, &mut self.rng);
        self.events.push_back(Event::Renewed {
            old,
            new: held.lease.clone(),
        });
        self.settle(now, held);
    }

    /// The state that a lease is in by its age.
    pub(super) fn settle(&mut self, now: Instant, held: Held) {
        self.transmit = None;
        if held.lease.is_over(now) {
            self.lose(now, held.lease, Why::Expired);
        } else if is_due(held.rebind_at, now) {
            self.began = now;
            self.rebind(now, held);
        } else if is_due(held.renew_at, now) {
            self.began = now;
            self.renew(now, held);
        } else {
            self.state = State::Bound { held };
        }
    }

    /// The address is no longer ours. An expired one may still be had again; another one may not.
    pub(super) fn lose(&mut self, now: Instant, lease: Lease, why: Why) {
        let pause = match &why {
            Why::Expired => Duration::ZERO,
            Why::Nak(_) => self.refusal_pause(),
            Why::Declined => self.decline_pause(),
        };
        if why != Why::Expired {
            self.remembered.address = None;
        }
        self.events.push_back(Event::Lost { lease, why });
        self.began = now;
        self.pause(now, pause);
    }

    /// A REQUEST for an address not held yet was refused.
    pub(super) fn refused(&mut self, now: Instant) {
        self.remembered.address = None;
        let pause = self.refusal_pause();
        self.pause(now, pause);
    }

    pub(super) fn give_up_conflicting(&mut self, now: Instant) -> bool {
        let was_granted = matches!(self.state, State::Granted { .. });
        let Some(Held { lease, .. }) = self.take_held() else {
            return false;
        };
        let declined = Offer {
            address: lease.address,
            server: lease.server_id,
        };
        if was_granted {
            self.remembered.address = None;
            self.began = now;
            let pause = self.decline_pause();
            self.pause(now, pause);
        } else {
            self.lose(now, lease, Why::Declined);
        }
        self.send_decline(declined);
        true
    }

    pub(super) fn ask_again(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Init { .. } | State::Selecting { .. } | State::Requesting { .. } => {
                self.start_over(now)
            }
            State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. }
            | State::Rebooting {
                held: Some(held), ..
            } => {
                self.began = now;
                self.enter_rebooting(now, held.lease.address, Some(held));
            }
            State::Rebooting {
                address,
                held: None,
                ..
            } => {
                self.began = now;
                self.enter_rebooting(now, address, None);
            }
            State::Informing { address, .. } => self.enter_informing(now, address),
            state @ (State::Granted { .. } | State::Stopped) => self.state = state,
        }
    }

    /// Takes the lease out of a state that has one, leaving a hole that the caller fills; leaves
    /// any other as it is.
    pub(super) fn take_held(&mut self) -> Option<Held> {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Granted { held }
            | State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. }
            | State::Rebooting {
                held: Some(held), ..
            } => Some(held),
            state @ (State::Init { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { held: None, .. }
            | State::Informing { .. }
            | State::Stopped) => {
                self.state = state;
                None
            }
        }
    }

    pub(super) fn remember(&mut self, lease: &Lease) {
        self.remembered = Remembered {
            address: Some(lease.address),
            server: Some(lease.server_id),
        };
        self.unreliable = None;
        self.naks = 0;
        self.declines = 0;
        self.wants_broadcast = false;
    }

    fn start_over(&mut self, now: Instant) {
        self.began = now;
        self.enter_selecting(now);
    }

    /// INIT, for so long.
    fn pause(&mut self, now: Instant, pause: Duration) {
        if pause.is_zero() {
            self.enter_selecting(now);
        } else {
            self.transmit = None;
            self.state = State::Init { until: now + pause };
        }
    }

    /// The first refusal is followed by discovery at once (a network renumbered), further ones by
    /// longer and longer pauses: a server that offers what it then refuses must not be asked in a
    /// loop.
    fn refusal_pause(&mut self) -> Duration {
        let before = self.naks;
        self.naks = before.saturating_add(1);
        match before {
            0 => Duration::ZERO,
            _ => backoff(&self.config.retry, before, &mut self.rng),
        }
    }

    /// Where one address is in use by somebody else, the next one may be too: each pause is twice
    /// the one before.
    fn decline_pause(&mut self) -> Duration {
        let before = self.declines.min(31);
        self.declines = before + 1;
        let Retry {
            after_decline, max, ..
        } = self.config.retry;
        after_decline
            .saturating_mul(1 << before)
            .min(max.max(after_decline))
    }

    fn discover_again(&mut self, now: Instant, exchange: Exchange) {
        // An exchange that has gone on for long begins anew: a lease won by rapid commit runs from
        // its beginning.
        let is_old = now.since(exchange.since) >= self.config.retry.max / 2;
        let exchange = if is_old {
            Exchange {
                xid: self.rng.next_u32(),
                since: now,
                ..exchange
            }
        } else {
            exchange
        };
        self.discover(now, exchange);
    }

    fn discover(&mut self, now: Instant, mut exchange: Exchange) {
        exchange.secs = self.secs(now);
        self.count_attempt(now, &mut exchange);
        self.send_discover(&exchange);
        self.state = State::Selecting {
            exchange,
            best: None,
        };
    }

    fn request(&mut self, now: Instant, mut exchange: Exchange, offer: Offer) {
        self.count_attempt(now, &mut exchange);
        self.send_request_for_offer(&exchange, offer);
        self.state = State::Requesting { exchange, offer };
    }

    fn request_remembered(
        &mut self,
        now: Instant,
        mut exchange: Exchange,
        address: Ipv4Addr,
        held: Option<Held>,
    ) {
        exchange.secs = self.secs(now);
        self.count_attempt(now, &mut exchange);
        self.send_request_for_remembered(&exchange, address);
        self.state = State::Rebooting {
            exchange,
            address,
            held,
        };
    }

    fn renew(&mut self, now: Instant, held: Held) {
        let whole = span(held.renew_at, held.rebind_at);
        let remaining = held.rebind_at.map(|end| end.since(now));
        let exchange = self.open_renewal(now, remaining, whole);
        let lease = &held.lease;
        let to = Delivery::Unicast {
            source: lease.address,
            server: lease.server_id,
        };
        self.send_request_for_more(&exchange, lease.address, to);
        self.state = State::Renewing { exchange, held };
    }

    fn rebind(&mut self, now: Instant, held: Held) {
        let whole = span(held.rebind_at, held.lease.expires_at());
        let exchange = self.open_renewal(now, held.lease.remaining(now), whole);
        let address = held.lease.address;
        self.send_request_for_more(&exchange, address, Delivery::Broadcast { source: address });
        self.state = State::Rebinding { exchange, held };
    }

    fn inform_again(&mut self, now: Instant, mut exchange: Exchange, address: Ipv4Addr) {
        exchange.secs = self.secs(now);
        self.count_attempt(now, &mut exchange);
        self.send_inform(&exchange, address);
        self.state = State::Informing { exchange, address };
    }

    fn open_exchange(&mut self, now: Instant) -> Exchange {
        Exchange::new(self.rng.next_u32(), now)
    }

    fn open_renewal(
        &mut self,
        now: Instant,
        remaining: Option<Duration>,
        whole: Duration,
    ) -> Exchange {
        let wait = renewal_wait(remaining, whole, &mut self.rng);
        let exchange = self.open_exchange(now);
        Exchange {
            secs: self.secs(now),
            sent: 1,
            next: now + wait,
            ..exchange
        }
    }

    /// One more message of an exchange, and when the next one is due.
    fn count_attempt(&mut self, now: Instant, exchange: &mut Exchange) {
        // Two were not answered: perhaps the answers cannot reach us by unicast.
        self.wants_broadcast |= exchange.sent >= 2;
        exchange.sent = exchange.sent.saturating_add(1);
        exchange.next = now + backoff(&self.config.retry, exchange.sent, &mut self.rng);
    }
}

fn is_due(time: Option<Instant>, now: Instant) -> bool {
    time.is_some_and(|time| time <= now)
}

fn span(from: Option<Instant>, to: Option<Instant>) -> Duration {
    match (from, to) {
        (Some(from), Some(to)) => to.since(from),
        _ => Duration::ZERO,
    }
}
