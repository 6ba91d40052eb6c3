//! Timers: the waits between messages, and when to act on a lease.

use std::time::Duration;

use super::rng::Rng;
use crate::config::Retry;
use crate::lease::Lease;
use crate::time::Instant;

/// The shortest wait between two messages, so that every timer lies in the future.
pub(super) const MIN_WAIT: Duration = Duration::from_millis(1);
/// The shortest wait in RENEWING and REBINDING (RFC 2131 section 4.4.5), unless the lease is too
/// short for it.
const MIN_RENEWAL_WAIT: Duration = Duration::from_secs(60);
/// The most by which a wait deviates from its nominal value (RFC 2131 section 4.1).
const MAX_JITTER: Duration = Duration::from_secs(1);

/// The longest wait for an answer while the driver has a deadline.
const MAX_WAIT_WITH_DEADLINE: Duration = Duration::from_secs(8);
/// How long before its deadline the client asks once more.
const LAST_TRY: Duration = Duration::from_secs(2);

/// A lease and when to act on it.
#[derive(Clone, Debug)]
pub(super) struct TimedLease {
    pub(super) lease: Lease,
    /// T1 with jitter; `None` if the lease is infinite.
    pub(super) renew_at: Option<Instant>,
    /// T2 with jitter, between `renew_at` and the end of the lease; `None` if the lease is
    /// infinite.
    pub(super) rebind_at: Option<Instant>,
}

impl TimedLease {
    /// Chooses the times for a lease. RFC 2131 section 4.4.5 asks for "some random fuzz" around T1
    /// and T2. It is at most a twentieth of the shorter interval on either side, which keeps the
    /// times in order.
    pub(super) fn new(lease: Lease, rng: &mut Rng) -> TimedLease {
        let mut fuzzed = |before: Duration, time: Duration, after: Duration| {
            let room = time.saturating_sub(before).min(after.saturating_sub(time));
            lease.requested_at + rng.around(time, room / 20)
        };
        // A stored lease may have been edited by hand, so its times may be out of order.
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
        TimedLease {
            lease,
            renew_at,
            rebind_at,
        }
    }
}

/// The wait for an answer after this many messages. It doubles with each message. Its jitter is one
/// second, as in RFC 2131 section 4.1, or a quarter of the wait if that is less. `left` is the time
/// until the driver gives up, if it will; no wait crosses the time of the last try.
pub(super) fn backoff(retry: &Retry, sent: u32, left: Option<Duration>, rng: &mut Rng) -> Duration {
    let longest = longest_wait(retry, left);
    let doublings = sent.saturating_sub(1).min(31);
    let wait = retry.first.saturating_mul(1 << doublings).min(longest);
    let drawn = rng
        .around(wait, (wait / 4).min(MAX_JITTER))
        .min(longest)
        .max(MIN_WAIT);
    left.and_then(|left| left.checked_sub(LAST_TRY))
        .filter(|last_try| !last_try.is_zero() && *last_try <= wait.max(drawn))
        .unwrap_or(drawn)
}

/// The longest wait for an answer, if the driver gives up after the time that is `left`.
pub(super) fn longest_wait(retry: &Retry, left: Option<Duration>) -> Duration {
    let share = |left: Duration| (left / 4).min(MAX_WAIT_WITH_DEADLINE).max(retry.first);
    left.map_or(retry.max, |left| share(left).min(retry.max))
}

/// The wait for an answer in RENEWING or REBINDING: half of the time that remains in that state,
/// but at least a minute (RFC 2131 section 4.4.5), or a quarter of the state's `whole` duration if
/// that is less.
pub(super) fn renewal_wait(
    remaining: Option<Duration>,
    whole: Duration,
    rng: &mut Rng,
) -> Duration {
    let least = (whole / 4).clamp(MIN_WAIT, MIN_RENEWAL_WAIT);
    let half = remaining.unwrap_or(whole) / 2;
    rng.around(half, (half / 4).min(MAX_JITTER)).max(least)
}

/// Whether this time has come.
pub(super) fn is_due(time: Option<Instant>, now: Instant) -> bool {
    time.is_some_and(|time| time <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn waits_double_from_1_to_30_seconds_with_at_most_a_second_of_jitter() {
        let (retry, mut rng) = (Retry::default(), Rng::new(3));
        for (sent, wait) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (4, 8),
            (5, 16),
            (6, 30),
            (7, 30),
            (1000, 30),
        ] {
            let spread = (secs(wait) / 4).min(secs(1));
            for _ in 0..100 {
                let drawn = backoff(&retry, sent, None, &mut rng);
                let longest = (secs(wait) + spread).min(retry.max);
                assert!(
                    (secs(wait) - spread..=longest).contains(&drawn),
                    "{sent}: {drawn:?}"
                );
            }
        }
    }

    #[test]
    fn before_a_deadline_no_wait_exceeds_8_seconds_or_a_quarter_of_what_is_left() {
        let retry = Retry::default();
        for (left, longest) in [
            (secs(3600), secs(8)),
            (secs(32), secs(8)),
            (secs(20), secs(5)),
            (secs(2), secs(1)),
            (Duration::ZERO, secs(1)),
        ] {
            assert_eq!(longest_wait(&retry, Some(left)), longest, "{left:?}");
            let mut rng = Rng::new(9);
            for _ in 0..100 {
                let drawn = backoff(&retry, 9, Some(left), &mut rng);
                assert!((longest * 3 / 4..=longest).contains(&drawn), "{drawn:?}");
            }
        }
        for left in [2001, 2500, 3000] {
            let left = Duration::from_millis(left);
            let drawn = backoff(&retry, 9, Some(left), &mut Rng::new(9));
            assert_eq!(drawn, left - secs(2), "{left:?}");
        }
        assert_eq!(longest_wait(&retry, None), retry.max);
        let brief = Retry {
            max: secs(3),
            ..retry
        };
        assert_eq!(longest_wait(&brief, Some(secs(3600))), secs(3));
    }

    #[test]
    fn a_renewal_is_repeated_after_half_the_remaining_time_but_at_least_a_minute() {
        let mut rng = Rng::new(3);
        let long = renewal_wait(Some(secs(1000)), secs(1000), &mut rng);
        assert!((secs(499)..=secs(501)).contains(&long), "{long:?}");
        assert_eq!(renewal_wait(Some(secs(70)), secs(1000), &mut rng), secs(60));
    }

    #[test]
    fn the_renewal_of_a_lease_of_seconds_is_repeated_within_seconds() {
        let mut rng = Rng::new(3);
        let short = renewal_wait(Some(secs(3)), secs(4), &mut rng);
        assert!((secs(1)..secs(2)).contains(&short), "{short:?}");
        assert_eq!(
            renewal_wait(Some(Duration::ZERO), secs(4), &mut rng),
            secs(1)
        );
        assert_eq!(
            renewal_wait(Some(Duration::ZERO), Duration::ZERO, &mut rng),
            MIN_WAIT
        );
    }

    #[test]
    fn jitter_keeps_t1_before_t2_and_t2_before_the_end() {
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
                let timed = TimedLease::new(lease, &mut rng);
                assert!(
                    timed.renew_at < timed.rebind_at && timed.rebind_at < end,
                    "{timed:?}"
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
            let timed = TimedLease::new(lease(t1, t2, Some(secs(10))), &mut rng);
            assert!(
                timed.renew_at <= timed.rebind_at && timed.rebind_at <= timed.lease.expires_at(),
                "{timed:?}"
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
