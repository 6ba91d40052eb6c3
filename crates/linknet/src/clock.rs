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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_time_since_boot() {
        // `/proc/uptime` has this clock's time with two decimals.
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_secs_f64(seconds)
        };
        let (before, now, after) = (uptime(), boottime(), uptime());
        let hundredth = Duration::from_millis(10);
        assert!(
            before <= now && now <= after + hundredth,
            "{before:?}, {now:?}, {after:?}"
        );
    }
}
