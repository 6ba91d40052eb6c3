//! Times, as the tables have them.

use std::time::Duration;

/// The sample that this many percent of all are below.
pub(crate) fn percentile(mut samples: Vec<Duration>, percent: usize) -> Duration {
    samples.sort_unstable();
    let place = samples.len() * percent / 100;
    samples.get(place).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
