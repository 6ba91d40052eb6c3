//! The clock that leases live by.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since boot, suspend included (`CLOCK_BOOTTIME`): a lease runs on while its holder
/// sleeps.
pub fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .expect("CLOCK_BOOTTIME is in every Linux since 2.6.39")
}
