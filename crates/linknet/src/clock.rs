//! The clock that leases are measured by.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since boot, including time in suspend (`CLOCK_BOOTTIME`): a lease expires even while
/// its holder is suspended.
pub fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .expect("every Linux since 2.6.39 has CLOCK_BOOTTIME")
}
