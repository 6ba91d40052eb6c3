//! Shared by the tests: a server's messages, and clients driven by a script.

pub(crate) mod message;
pub(crate) mod script;

use std::time::Duration;

use dhcp4::{Config, Instant};

/// The client's Ethernet address in all tests.
pub(crate) const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The client's identifier in all tests.
pub(crate) const CLIENT_ID: &[u8] = b"\0c0ffee/lan/eth0";
/// The time at which all tests begin. It is not boot, to tell an instant from a duration.
pub(crate) const START: Instant = Instant::from_boot(Duration::from_secs(1_000_000));

/// The default configuration with a client identifier.
pub(crate) fn config() -> Config {
    Config {
        client_id: Some(CLIENT_ID.to_vec()),
        ..Config::new(MAC)
    }
}

/// The instant this many seconds after [`START`], or before it if negative.
pub(crate) fn after(seconds: f64) -> Instant {
    let span = Duration::from_secs_f64(seconds.abs());
    if seconds < 0.0 {
        Instant::from_boot(START.since_boot() - span)
    } else {
        START + span
    }
}
