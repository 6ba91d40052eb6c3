//! Pauses between attempts to get back what the kernel refused for want of something.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Pauses that double, from a second to a minute.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    /// The shortest pause is next.
    pub(super) fn new() -> Backoff {
        Backoff(FIRST)
    }

    /// The pause before another attempt.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_second_to_a_minute() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
