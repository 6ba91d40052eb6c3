//! Shared by the tests: a server's messages, and clients driven by a script.

pub(crate) mod message;
pub(crate) mod script;

use std::time::Duration;

use dhcp4::{Config, Instant, Lease, Options, RawOption};

/// The client's Ethernet address in all tests.
pub(crate) const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The one that it gets in some of them.
pub(crate) const OTHER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// The client's identifier in all tests.
pub(crate) const CLIENT_ID: &[u8] = b"\0c0ffee/lan/eth0";
/// The time at which all tests begin. It is not boot, to tell an instant from a duration.
pub(crate) const START: Instant = Instant::from_boot(Duration::from_secs(1_000_000));

/// The default configuration with a client identifier.
pub(crate) fn config() -> Config {
    Config {
        client_id: Some(CLIENT_ID.into()),
        ..Config::new(MAC)
    }
}

/// A lease of 10.0.0.5/24 from 10.0.0.1 for a minute, which the client had before.
pub(crate) fn past_lease() -> Lease {
    Lease {
        address: [10, 0, 0, 5].into(),
        prefix_len: 24,
        server_id: [10, 0, 0, 1].into(),
        requested_at: Instant::BOOT,
        lifetime: Some(Duration::from_secs(60)),
        t1: Some(Duration::from_secs(30)),
        t2: Some(Duration::from_secs(50)),
        options: Options {
            raw: vec![RawOption::new(1, [255, 255, 255, 0])].into(),
            ..Options::default()
        },
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
