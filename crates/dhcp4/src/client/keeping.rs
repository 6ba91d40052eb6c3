//! The life of a lease: GRANTED, BOUND, RENEWING, REBINDING, and its end.

use std::sync::Arc;
use std::time::Duration;

use super::outgoing::Lent;
use super::state::{Client, State, Transaction};
use super::timers::{MIN_WAIT, TimedLease, is_due, renewal_wait};
use crate::event::{Event, LossReason};
use crate::lease::Lease;
use crate::time::Instant;

impl Client {
    /// Takes a new lease: GRANTED if the driver wants to probe the address, otherwise BOUND.
    pub(super) fn lease_granted(&mut self, now: Instant, lease: Lease) {
        self.report_mut().assumptions = lease.assumptions();
        let timed = TimedLease::new(lease, &mut self.rng);
        if self.config.probe_before_bind {
            self.events.push_back(Event::Granted(timed.lease.clone()));
            self.transmit = None;
            self.state = State::Granted { timed };
        } else {
            self.bind(now, timed);
        }
    }

    pub(super) fn bind(&mut self, now: Instant, timed: TimedLease) {
        self.remember(&timed.lease);
        self.events.push_back(Event::Bound(timed.lease.clone()));
        self.enter_by_age(now, timed);
    }

    /// Replaces a lease by its extension.
    pub(super) fn extend(&mut self, now: Instant, old: Lease, new: Lease) {
        self.remember(&new);
        let timed = TimedLease::new(new, &mut self.rng);
        self.events.push_back(Event::Renewed {
            old,
            new: timed.lease.clone(),
        });
        self.enter_by_age(now, timed);
    }

    /// Enters BOUND, RENEWING or REBINDING, or ends the lease, according to its age.
    pub(super) fn enter_by_age(&mut self, now: Instant, timed: TimedLease) {
        self.transmit = None;
        if timed.lease.is_over(now) {
            self.lose(now, timed.lease, LossReason::Expired);
        } else if is_due(timed.rebind_at, now) {
            self.began_at = now;
            self.rebind(now, timed);
        } else if is_due(timed.renew_at, now) {
            self.began_at = now;
            self.renew(now, timed);
        } else {
            self.state = State::Bound { timed };
        }
    }

    /// Sends a REQUEST to the server of the lease.
    pub(super) fn renew(&mut self, now: Instant, timed: TimedLease) {
        let whole = interval(timed.renew_at, timed.rebind_at);
        let remaining = timed.rebind_at.map(|end| end.since(now));
        let transaction = self.new_renewal(now, remaining, whole);
        self.send_renew(&transaction, &timed.lease);
        self.state = State::Renewing { transaction, timed };
    }

    /// Sends a REQUEST to all servers.
    pub(super) fn rebind(&mut self, now: Instant, timed: TimedLease) {
        let whole = interval(timed.rebind_at, timed.lease.expires_at());
        let transaction = self.new_renewal(now, timed.lease.remaining(now), whole);
        self.send_rebind(&transaction, &timed.lease);
        self.state = State::Rebinding { transaction, timed };
    }

    /// Starts a transaction of a single message, with the wait that RENEWING and REBINDING have.
    fn new_renewal(
        &mut self,
        now: Instant,
        remaining: Option<Duration>,
        whole: Duration,
    ) -> Transaction {
        let wait = renewal_wait(remaining, whole, &mut self.rng);
        Transaction {
            secs: self.elapsed_secs(now),
            resend_at: now + wait,
            ..self.new_transaction(now)
        }
    }

    /// Starts again with what the client has: confirms its lease, requests the address that it had
    /// before, or discovers.
    pub(super) fn reconfirm(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Init { .. } | State::Selecting { .. } | State::Requesting { .. } => {
                self.start_over(now);
            }
            State::Rebooting { past, .. } => {
                self.began_at = now;
                self.enter_rebooting(now, past);
            }
            State::Bound { timed }
            | State::Renewing { timed, .. }
            | State::Rebinding { timed, .. }
            | State::Reconfirming { timed, .. } => {
                self.began_at = now;
                let transaction = self.new_transaction(now);
                self.reconfirm_request(now, transaction, timed);
            }
            state @ (State::Granted { .. } | State::Stopped) => self.state = state,
        }
    }

    /// Continues with another Ethernet address, and the client identifier that goes with it.
    pub(super) fn change_identity(
        &mut self,
        now: Instant,
        mac: [u8; 6],
        client_id: Option<Arc<[u8]>>,
    ) {
        let is_same_client = client_id.is_some() && client_id == self.config.client_id;
        let ended = match is_same_client {
            true => None,
            false => self.state.take_lease(),
        };
        let is_lost = ended.is_some();
        if let Some(TimedLease { lease, .. }) = ended {
            let lent = Lent::from(&lease);
            self.lose(now, lease, LossReason::MacChanged);
            self.send_release(lent);
        }
        self.config.mac = mac;
        self.config.client_id = client_id;
        if !is_lost {
            self.reconfirm(now);
        }
    }

    /// Sends a REQUEST that asks whether the lease is valid on this link.
    pub(super) fn reconfirm_request(
        &mut self,
        now: Instant,
        mut transaction: Transaction,
        timed: TimedLease,
    ) {
        transaction.secs = self.elapsed_secs(now);
        self.count_attempt(now, &mut transaction);
        self.send_reboot(&transaction, timed.lease.address);
        self.state = State::Reconfirming { transaction, timed };
    }

    /// Ends a lease and looks for another one. An address that was refused or declined is not asked
    /// for again.
    pub(super) fn lose(&mut self, now: Instant, lease: Lease, reason: LossReason) {
        let pause = match &reason {
            LossReason::Expired => Duration::ZERO,
            LossReason::Nak(_) => self.refusal_pause(now),
            LossReason::Declined => self.decline_pause(now),
            // The driver fetches the RELEASE before the DISCOVER.
            LossReason::MacChanged => MIN_WAIT,
        };
        if matches!(reason, LossReason::Nak(_) | LossReason::Declined) {
            self.preferred_address = None;
        }
        self.events.push_back(Event::Lost { lease, reason });
        self.began_at = now;
        self.pause(now, pause);
    }

    /// Declines the address, granted or in use. `false` if there is none.
    pub(super) fn decline_lease(&mut self, now: Instant) -> bool {
        let was_granted = matches!(self.state, State::Granted { .. });
        let Some(TimedLease { lease, .. }) = self.state.take_lease() else {
            return false;
        };
        let declined = Lent::from(&lease);
        if was_granted {
            self.preferred_address = None;
            self.began_at = now;
            let pause = self.decline_pause(now);
            self.pause(now, pause);
        } else {
            self.lose(now, lease, LossReason::Declined);
        }
        self.send_decline(declined);
        true
    }

    /// Notes that there is a lease, which ends all counts of failures, and nobody waits any more.
    pub(super) fn remember(&mut self, lease: &Lease) {
        self.preferred_address = Some(lease.address);
        self.unreliable_server = None;
        self.naks = 0;
        self.declines = 0;
        self.wants_broadcast = false;
        self.config.deadline = None;
    }
}

fn interval(from: Option<Instant>, to: Option<Instant>) -> Duration {
    match (from, to) {
        (Some(from), Some(to)) => to.since(from),
        _ => Duration::ZERO,
    }
}
