//! The crate's notion of time: a point on a clock that the caller reads.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: how long after boot, as `CLOCK_BOOTTIME` counts it, so that time spent in
/// suspend counts too.
///
/// Nothing here reads a clock; every instant comes from the caller. An instant written to disk
/// means something only to the same boot of the same machine.
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

    /// How long after boot this is.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant this much earlier; boot, when that is nearer.
    pub const fn before(self, by: Duration) -> Instant {
        Instant(self.0.saturating_sub(by))
    }
}

/// Saturates, so that no lease time a server may name overflows.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, after: Duration) -> Instant {
        Instant(self.0.saturating_add(after))
    }
}

/// Seconds after boot, with milliseconds: `12.345s`.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}
