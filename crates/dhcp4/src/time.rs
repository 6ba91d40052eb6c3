//! Points in time on a clock that the caller reads.

use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time, as the time since boot on `CLOCK_BOOTTIME`, which also counts time spent in
/// suspend.
///
/// This crate never reads a clock: every instant comes from the caller. A stored instant has a
/// meaning only within the boot of the machine that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(Duration);

impl Instant {
    /// The moment of boot.
    pub const BOOT: Instant = Instant(Duration::ZERO);

    /// The instant this long after boot.
    pub const fn from_boot(elapsed: Duration) -> Instant {
        Instant(elapsed)
    }

    /// The time from boot to this instant.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this instant; zero if `earlier` is not before it.
    pub const fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Saturates, so that a server cannot cause an overflow with a long lease time.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, after: Duration) -> Instant {
        Instant(self.0.saturating_add(after))
    }
}
