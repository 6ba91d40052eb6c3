//! Deadlines that fit the machine.
//!
//! A deadline in a test says how long an idle machine may take until a condition holds. It is only
//! an upper bound for the wait, so it can be generous: all deadlines are multiplied by a factor,
//! which is measured once for a run of a suite and handed to the processes of its tests.
//! `LAB_SLOWDOWN` sets the factor instead.
//!
//! What must *not* happen, or not too early, has no deadline. Such a test looks at the order of
//! events, or waits for a fixed time after which a slow machine can only have done less.

use std::{env, sync::OnceLock, time::Duration};

/// The environment variable with the factor: in a runner it overrides the measurement, in a test's
/// process it is the runner's result.
pub(crate) const VARIABLE: &str = "LAB_SLOWDOWN";

/// The factor on a machine that is idle when the suite begins. Tests run side by side and load it
/// themselves.
const HEADROOM: f64 = 4.0;

/// How long an idle machine with two cores needs for the runner's probe: three processes, one
/// inside the other, and a world of namespaces.
const IDLE_PROBE: Duration = Duration::from_millis(10);

/// The slowest machine that is reckoned with, as a multiple: a test that fails must end some time,
/// even in an emulated machine.
const MAX_SLOWDOWN: f64 = 10.0;

static FACTOR: OnceLock<f64> = OnceLock::new();

/// How long to wait at most for what an idle machine does within `idle`.
pub fn deadline(idle: Duration) -> Duration {
    idle.mul_f64(factor())
}

/// By how much deadlines are multiplied.
fn factor() -> f64 {
    *FACTOR.get_or_init(|| from_environment().unwrap_or(HEADROOM))
}

/// Sets the factor for this process, unless the environment has one, from the time that the
/// runner's probe took.
pub(crate) fn calibrate(probe: Duration) {
    let factor = *FACTOR.get_or_init(|| from_environment().unwrap_or_else(|| factor_of(probe)));
    if factor > HEADROOM {
        eprintln!("this machine is busy or slow: deadlines are multiplied by {factor:.0}");
    }
}

/// The factor, once [`calibrate`] has set it.
pub(crate) fn calibrated() -> Option<f64> {
    FACTOR.get().copied()
}

fn factor_of(probe: Duration) -> f64 {
    HEADROOM * probe.div_duration_f64(IDLE_PROBE).clamp(1.0, MAX_SLOWDOWN)
}

/// # Panics
/// When the variable has another value than a positive number: it would be ignored otherwise.
fn from_environment() -> Option<f64> {
    let value = env::var(VARIABLE).ok()?;
    let factor = value.parse().ok().filter(|factor| *factor > 0.0);
    Some(factor.unwrap_or_else(|| panic!("{VARIABLE} is a positive number, not {value:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_probes_slowly_gets_longer_deadlines() {
        assert_eq!(factor_of(3 * IDLE_PROBE), 3.0 * HEADROOM);
    }

    #[test]
    fn the_factor_has_a_least_and_a_greatest_value() {
        assert_eq!(factor_of(IDLE_PROBE / 3), HEADROOM);
        assert_eq!(factor_of(1000 * IDLE_PROBE), HEADROOM * MAX_SLOWDOWN);
    }
}
