use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{Result, deadline};

/// Something that may hold by now: `bool`, or an `Option` that will be `Some`.
pub trait Condition {
    /// The value that becomes known when it holds.
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

/// Waits until `condition` holds, for at most `within` on an idle machine
/// (see [`deadline`](crate::deadline())).
///
/// # Errors
/// When the time is over; the message is like "not within 20s: the lease is gone", with `what` at
/// its end.
pub fn until<C: Condition>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> C,
) -> Result<C::Value> {
    let within = deadline(within);
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
        let within = deadline(Duration::from_millis(3));
        assert_eq!(
            error.to_string(),
            format!("not within {within:?}: pigs fly")
        );
    }
}
