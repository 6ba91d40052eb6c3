//! How often something has failed of late.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use dhcp4::Instant;

/// For how long a failure counts.
const RECENT: Duration = Duration::from_secs(3600);

/// Failures of so much time count as those of one moment, so that a million of them take no more
/// memory than sixty.
const GRAIN: Duration = Duration::from_secs(60);

/// The failures of the last hour: ADDs that got no lease, and leases that were lost.
#[derive(Debug, Default)]
pub(super) struct Failures(RefCell<VecDeque<(Instant, usize)>>);

impl Failures {
    /// Counts one.
    pub(super) fn note(&self, now: Instant) {
        let mut moments = self.0.borrow_mut();
        forget(&mut moments, now);
        match moments.back_mut() {
            Some((begun, count)) if now.since(*begun) < GRAIN => *count += 1,
            _ => moments.push_back((now, 1)),
        }
    }

    /// How many there were in the last hour.
    pub(super) fn recent(&self, now: Instant) -> usize {
        let mut moments = self.0.borrow_mut();
        forget(&mut moments, now);
        moments.iter().map(|(_, count)| count).sum()
    }
}

fn forget(moments: &mut VecDeque<(Instant, usize)>, now: Instant) {
    while moments
        .front()
        .is_some_and(|(begun, _)| now.since(*begun) > RECENT)
    {
        moments.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_for_an_hour() {
        let failures = Failures::default();
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        assert_eq!(failures.recent(at(0)), 0);
        for seconds in [10, 20, 69, 70, 3000] {
            failures.note(at(seconds));
        }
        assert_eq!(failures.recent(at(3000)), 5);
        assert_eq!(failures.recent(at(3610)), 5);
        assert_eq!(failures.recent(at(3611)), 2);
        assert_eq!(failures.recent(at(3671)), 1);
        assert_eq!(failures.recent(at(6601)), 0);
    }

    #[test]
    fn a_million_failures_take_no_more_memory_than_one_for_each_minute() {
        let failures = Failures::default();
        for number in 0..1_000_000 {
            failures.note(Instant::from_boot(Duration::from_millis(number * 10)));
        }
        assert!(
            failures.0.borrow().len() <= 61,
            "{}",
            failures.0.borrow().len()
        );
    }
}
