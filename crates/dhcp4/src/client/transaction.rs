//! What a state keeps: an exchange with servers, and a lease with its timers.

use std::time::Duration;

use crate::config::Retry;
use crate::lease::Lease;
use crate::rng::Rng;
use crate::time::Instant;

/// The shortest wait for anything: a clock that has not moved must not send again.
const TICK: Duration = Duration::from_millis(1);

/// A question to servers, under one transaction id.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) xid: u32,
    /// When the first message under this id went out. A lease won by it runs from here, whichever
    /// of the messages the server may have heard.
    pub(super) since: Instant,
    /// The `secs` of its last message.
    pub(super) secs: u16,
    /// Messages sent.
    pub(super) sent: u32,
    /// When to send again.
    pub(super) next: Instant,
}

impl Exchange {
    pub(super) fn new(xid: u32, now: Instant) -> Exchange {
        Exchange {
            xid,
            since: now,
            secs: 0,
            sent: 0,
            next: now,
        }
    }
}

/// The wait for an answer after the given number of messages: doubling, with a jitter of a second
/// at most, as RFC 2131 section 4.1 has it, and of a quarter of the wait where that is less.
pub(super) fn backoff(retry: &Retry, sent: u32, rng: &mut Rng) -> Duration {
    let doublings = sent.saturating_sub(1).min(31);
    let wait = retry
        .first
        .saturating_mul(1 << doublings)
        .min(retry.max)
        .max(TICK);
    rng.around(wait, (wait / 4).min(Duration::from_secs(1)))
}

/// The wait for an answer while RENEWING or REBINDING: half of what remains, at least a minute (RFC
/// 2131 section 4.4.5). In a lease too short for minutes, at least a quarter of the time that the
/// state has in all.
pub(super) fn renewal_wait(
    remaining: Option<Duration>,
    whole: Duration,
    rng: &mut Rng,
) -> Duration {
    let least = (whole / 4).clamp(TICK, Duration::from_secs(60));
    let half = remaining.unwrap_or(whole) / 2;
    rng.around(half, (half / 4).min(Duration::from_secs(1)))
        .max(least)
}

/// A lease and when to act on it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    /// T1 with jitter.
    pub(super) renew_at: Option<Instant>,
    /// T2 with jitter; not before `renew_at`, not after the lease.
    pub(super) rebind_at: Option<Instant>,
}

impl Held {
    /// RFC 2131 section 4.4.5 wants "some random fuzz" around T1 and T2: a twentieth of the shorter
    /// time beside each, which keeps them in order.
    pub(super) fn new(lease: Lease, rng: &mut Rng) -> Held {
        let mut fuzzed = |before: Duration, time: Duration, after: Duration| {
            let room = time.saturating_sub(before).min(after.saturating_sub(time));
            lease.requested_at + rng.around(time, room / 20)
        };
        // A lease may come from a file that somebody edited: times out of order are put in order.
        let (renew_at, rebind_at) = match (lease.t1, lease.t2, lease.lifetime) {
            (t1, t2, Some(lifetime)) => {
                let t2 = t2.unwrap_or(lifetime).min(lifetime);
                let t1 = t1.unwrap_or(t2).min(t2);
                (
                    Some(fuzzed(Duration::ZERO, t1, t2)),
                    Some(fuzzed(t1, t2, lifetime)),
                )
            }
            (_, _, None) => (None, None),
        };
        Held {
            lease,
            renew_at,
            rebind_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn waits_double_from_one_second_to_sixty_four_and_jitter_by_a_second_at_most() {
        let (retry, mut rng) = (Retry::default(), Rng::new(3));
        for (sent, wait) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (4, 8),
            (5, 16),
            (6, 32),
            (7, 64),
            (8, 64),
            (1000, 64),
        ] {
            let spread = (secs(wait) / 4).min(secs(1));
            for _ in 0..100 {
                let drawn = backoff(&retry, sent, &mut rng);
                assert!(
                    (secs(wait) - spread..=secs(wait) + spread).contains(&drawn),
                    "{sent}: {drawn:?}"
                );
            }
        }
    }

    #[test]
    fn a_renewal_waits_half_of_what_remains_and_at_least_a_minute() {
        let mut rng = Rng::new(3);
        let long = renewal_wait(Some(secs(1000)), secs(1000), &mut rng);
        assert!((secs(499)..=secs(501)).contains(&long), "{long:?}");
        assert_eq!(renewal_wait(Some(secs(70)), secs(1000), &mut rng), secs(60));
    }

    #[test]
    fn a_lease_of_seconds_is_renewed_within_seconds() {
        let mut rng = Rng::new(3);
        let short = renewal_wait(Some(secs(3)), secs(4), &mut rng);
        assert!((secs(1)..secs(2)).contains(&short), "{short:?}");
        assert_eq!(
            renewal_wait(Some(Duration::ZERO), secs(4), &mut rng),
            secs(1)
        );
        assert_eq!(
            renewal_wait(Some(Duration::ZERO), Duration::ZERO, &mut rng),
            TICK
        );
    }

    #[test]
    fn jitter_keeps_t1_before_t2_before_the_end() {
        let mut rng = Rng::new(4);
        for (t1, t2, lifetime) in [
            (5, 8, 10),
            (1, 2, 3),
            (1, 2, 86_400),
            (86_398, 86_399, 86_400),
        ] {
            for _ in 0..100 {
                let lease = lease(Some(secs(t1)), Some(secs(t2)), Some(secs(lifetime)));
                let end = lease.expires_at();
                let held = Held::new(lease, &mut rng);
                assert!(
                    held.renew_at < held.rebind_at && held.rebind_at < end,
                    "{held:?}"
                );
            }
        }
    }

    #[test]
    fn times_out_of_order_in_a_stored_lease_are_put_in_order() {
        let mut rng = Rng::new(5);
        for (t1, t2) in [
            (None, None),
            (Some(secs(99)), Some(secs(98))),
            (Some(secs(7)), None),
        ] {
            let held = Held::new(lease(t1, t2, Some(secs(10))), &mut rng);
            assert!(
                held.renew_at <= held.rebind_at && held.rebind_at <= held.lease.expires_at(),
                "{held:?}"
            );
        }
    }

    fn lease(t1: Option<Duration>, t2: Option<Duration>, lifetime: Option<Duration>) -> Lease {
        Lease {
            address: [10, 0, 0, 5].into(),
            prefix_len: 24,
            server_id: [10, 0, 0, 1].into(),
            requested_at: Instant::BOOT + secs(100),
            lifetime,
            t1,
            t2,
            options: Options::default(),
        }
    }
}
