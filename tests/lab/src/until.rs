use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Result;

/// Something that may hold by now: `bool`, or an `Option` that will be `Some`.
pub trait Condition {
    /// What is known once it holds.
    type Value;
    /// The value, if it holds.
    fn met(self) -> Option<Self::Value>;
}

impl Condition for bool {
    type Value = ();
    fn met(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Value = T;
    fn met(self) -> Option<T> {
        self
    }
}

/// Waits until `condition` holds, for at most `within`.
///
/// # Errors
/// When the time is over; the message is "not within 5s: " and `what`, so `what` reads like "the
/// lease is gone".
pub fn until<C: Condition>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> C,
) -> Result<C::Value> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(1);
    loop {
        // Asked once more after the deadline, so that a machine that slept through it is not
        // blamed.
        let last = Instant::now() >= deadline;
        if let Some(value) = condition().met() {
            return Ok(value);
        }
        if last {
            bail!("not within {within:?}: {what}");
        }
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_gives_its_value() {
        let mut calls = 0;
        let value = until("three calls", Duration::from_secs(5), || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn the_error_says_what_did_not_happen() {
        let error = until("pigs fly", Duration::from_millis(3), || false).unwrap_err();
        assert_eq!(error.to_string(), "not within 3ms: pigs fly");
    }
}
