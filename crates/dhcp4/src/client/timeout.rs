//! What each state does when its timer is due.

use super::state::{Client, Offer, State, Transaction};
use super::timers::is_due;
use crate::event::LossReason;
use crate::lease::Lease;
use crate::time::Instant;

/// How often a REQUEST for an offer is sent while another server's offer could be taken instead.
const REQUESTS_BESIDE_OTHERS: u32 = 2;

/// How often the client asks whether its lease is valid before it goes on with the unconfirmed
/// lease.
const RECONFIRM_ATTEMPTS: u32 = 2;

impl Client {
    /// Ends a lease that has expired. Each call to the client does this first.
    pub(super) fn expire(&mut self, now: Instant) {
        if !is_due(self.state.lease().and_then(Lease::expires_at), now) {
            return;
        }
        if matches!(self.state, State::Granted { .. }) {
            self.start_over(now);
        } else if let Some(timed) = self.state.take_lease() {
            self.lose(now, timed.lease, LossReason::Expired);
        }
    }

    /// Does what is due in a state whose lease, if any, has not expired.
    pub(super) fn advance(&mut self, now: Instant) {
        if !is_due(self.state.next_timeout(), now) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Init { .. } => self.enter_selecting(now),
            State::Selecting {
                transaction,
                fallback: Some(fallback),
            } => self.enter_requesting(now, &transaction, fallback.offer, Vec::new()),
            State::Selecting {
                transaction,
                fallback: None,
            } => self.rediscover(now, transaction),
            State::Requesting {
                transaction,
                offer,
                others,
            } => self.repeat_request(now, transaction, offer, others),
            // One REQUEST is enough: a server that knows nothing of the address must not answer it
            // (RFC 2131 section 4.3.2), and the DISCOVER asks for the same address.
            State::Rebooting { .. } => self.enter_selecting(now),
            State::Reconfirming { transaction, timed }
                if transaction.attempts < RECONFIRM_ATTEMPTS =>
            {
                self.reconfirm_request(now, transaction, timed);
            }
            // RFC 2131 section 3.2: without an answer, the client may use the rest of the lease.
            State::Reconfirming { timed, .. } | State::Bound { timed } => {
                self.enter_by_age(now, timed);
            }
            State::Renewing { timed, .. } if is_due(timed.rebind_at, now) => {
                self.rebind(now, timed);
            }
            State::Renewing { timed, .. } => self.renew(now, timed),
            State::Rebinding { timed, .. } => self.rebind(now, timed),
            state @ (State::Granted { .. } | State::Stopped) => self.state = state,
        }
    }

    /// Sends an unanswered REQUEST again, or gives up the offer.
    fn repeat_request(
        &mut self,
        now: Instant,
        transaction: Transaction,
        offer: Offer,
        others: Vec<Offer>,
    ) {
        let most = match others.is_empty() {
            true => self.config.retry.requests,
            false => self.config.retry.requests.min(REQUESTS_BESIDE_OTHERS),
        };
        if transaction.attempts < most {
            self.request(now, transaction, offer, others);
        } else {
            self.offer_failed(now, &transaction, &offer, others);
        }
    }
}
