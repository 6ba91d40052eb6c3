//! The way to a lease: INIT, SELECTING, REQUESTING and INIT-REBOOT.

use std::time::Duration;

use super::state::{Client, Offer, State, Transaction};
use super::timers::{backoff, longest_wait};
use crate::lease::Lease;
use crate::time::Instant;

impl Client {
    /// Begins a new acquisition with a DISCOVER.
    pub(super) fn start_over(&mut self, now: Instant) {
        self.began_at = now;
        self.enter_selecting(now);
    }

    pub(super) fn enter_selecting(&mut self, now: Instant) {
        let transaction = self.new_transaction(now);
        self.discover(now, transaction);
    }

    /// Sends another DISCOVER. An old transaction is replaced, because a lease by rapid commit
    /// starts with its transaction.
    pub(super) fn rediscover(&mut self, now: Instant, transaction: Transaction) {
        let is_old = now.since(transaction.started_at) >= self.config.retry.max / 2;
        let transaction = if is_old {
            Transaction {
                xid: self.rng.next_u32(),
                started_at: now,
                ..transaction
            }
        } else {
            transaction
        };
        self.discover(now, transaction);
    }

    fn discover(&mut self, now: Instant, mut transaction: Transaction) {
        transaction.secs = self.elapsed_secs(now);
        self.count_attempt(now, &mut transaction);
        self.send_discover(&transaction);
        self.state = State::Selecting {
            transaction,
            fallback: None,
        };
    }

    /// Requests what a server offered in answer to `discovery`. `others` are offers to fall back
    /// on.
    pub(super) fn enter_requesting(
        &mut self,
        now: Instant,
        discovery: &Transaction,
        offer: Offer,
        others: Vec<Offer>,
    ) {
        // RFC 2131 section 3.1: xid and secs are those of the DISCOVER, so that relays forward both
        // messages to the same servers.
        let transaction = Transaction {
            secs: discovery.secs,
            ..Transaction::new(discovery.xid, now)
        };
        self.request(now, transaction, offer, others);
    }

    /// Sends a REQUEST for an offer.
    pub(super) fn request(
        &mut self,
        now: Instant,
        mut transaction: Transaction,
        offer: Offer,
        others: Vec<Offer>,
    ) {
        self.count_attempt(now, &mut transaction);
        self.send_request(&transaction, &offer);
        self.state = State::Requesting {
            transaction,
            offer,
            others,
        };
    }

    /// Gives up an offer whose server does not grant it: requests the next one, in the same
    /// transaction, or discovers again.
    pub(super) fn offer_failed(
        &mut self,
        now: Instant,
        transaction: &Transaction,
        failed: &Offer,
        mut others: Vec<Offer>,
    ) {
        self.unreliable_server = Some(failed.server.address());
        if others.is_empty() {
            self.enter_selecting(now);
        } else {
            let next = others.remove(0);
            self.enter_requesting(now, transaction, next, others);
        }
    }

    /// Requests the address of a past lease.
    pub(super) fn enter_rebooting(&mut self, now: Instant, past: Lease) {
        let mut transaction = self.new_transaction(now);
        transaction.secs = self.elapsed_secs(now);
        self.count_attempt(now, &mut transaction);
        self.send_reboot(&transaction, past.address);
        self.state = State::Rebooting { transaction, past };
    }

    /// Discovers again after a NAK to a REQUEST for a new address.
    pub(super) fn request_refused(&mut self, now: Instant) {
        self.preferred_address = None;
        let pause = self.refusal_pause(now);
        self.pause(now, pause);
    }

    /// Discovers after a pause in INIT, or at once if the pause is zero.
    pub(super) fn pause(&mut self, now: Instant, pause: Duration) {
        if pause.is_zero() {
            self.enter_selecting(now);
        } else {
            self.transmit = None;
            self.state = State::Init { until: now + pause };
        }
    }

    /// The pause after a NAK. It is zero after the first one, since the network may have been
    /// renumbered. It grows after further ones, so that the client does not loop with a server that
    /// refuses its own offers.
    pub(super) fn refusal_pause(&mut self, now: Instant) -> Duration {
        let before = self.naks;
        self.naks = before.saturating_add(1);
        match before {
            0 => Duration::ZERO,
            _ => self.backoff(now, before),
        }
    }

    /// The pause after a DECLINE. It doubles each time, because the next address of the pool may be
    /// in use by another host too.
    pub(super) fn decline_pause(&mut self, now: Instant) -> Duration {
        let before = self.declines.min(31);
        self.declines = before + 1;
        let after_decline = self.config.retry.after_decline;
        let longest = longest_wait(&self.config.retry, self.left(now)).max(after_decline);
        after_decline.saturating_mul(1 << before).min(longest)
    }

    pub(super) fn new_transaction(&mut self, now: Instant) -> Transaction {
        Transaction::new(self.rng.next_u32(), now)
    }

    /// Counts a message of this transaction and chooses the time of the next one.
    pub(super) fn count_attempt(&mut self, now: Instant, transaction: &mut Transaction) {
        // After two messages without an answer, unicast replies perhaps do not reach this host.
        self.wants_broadcast |= transaction.attempts >= 2;
        transaction.attempts = transaction.attempts.saturating_add(1);
        transaction.resend_at = now + self.backoff(now, transaction.attempts);
    }

    /// The wait for an answer after this many messages.
    fn backoff(&mut self, now: Instant, sent: u32) -> Duration {
        backoff(&self.config.retry, sent, self.left(now), &mut self.rng)
    }

    /// The time until the driver gives up, if it will.
    fn left(&self, now: Instant) -> Option<Duration> {
        self.config.deadline.map(|deadline| deadline.since(now))
    }
}
