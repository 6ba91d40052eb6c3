//! A client continues a stored lease.

use dhcp4::Client;

use super::bound;
use crate::support::script::play_from;
use crate::support::{after, config};

/// A client that resumes a stored lease of 1000 seconds at this age.
fn resumed(at: f64) -> Client {
    let client = bound(config(), "lease=1000");
    let lease = client.lease().expect("a lease").clone();
    let stored = serde_json::to_string(&lease).expect("a lease can be written");
    let read = serde_json::from_str(&stored).expect("and read");
    assert_eq!(lease, read);
    Client::resume(config(), 2, read, after(at))
}

#[test]
fn a_lease_resumed_before_t1_is_bound() {
    play_from(
        10.0,
        resumed(10.0),
        "
        10     . BOUND
        ~500   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
}

#[test]
fn a_lease_resumed_after_t1_is_renewed_at_once() {
    play_from(
        700.0,
        resumed(700.0),
        "700 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5",
    );
}

#[test]
fn a_lease_resumed_after_t2_is_rebound_at_once() {
    play_from(
        950.0,
        resumed(950.0),
        "950 > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5",
    );
}

#[test]
fn a_lease_resumed_after_its_end_is_lost() {
    play_from(
        1000.0,
        resumed(1000.0),
        "
        1000   = LOST 10.0.0.5 expired
        1000   > DISCOVER to=all 50=10.0.0.5
        ",
    );
}

#[test]
fn a_lease_from_another_boot_is_lost() {
    play_from(
        -10.0,
        resumed(-10.0),
        "
        -10    = LOST 10.0.0.5 expired
        -10    > DISCOVER to=all 50=10.0.0.5
        ",
    );
}
