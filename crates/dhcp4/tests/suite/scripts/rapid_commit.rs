//! Rapid commit: an ACK in answer to the DISCOVER (RFC 4039).

use dhcp4::{Client, Config};

use super::new;
use crate::support::script::play;
use crate::support::{after, config};

fn rapid() -> Client {
    new(Config {
        rapid_commit: true,
        ..config()
    })
}

#[test]
fn rapid_commit_leases_an_address_in_one_round_trip_and_the_lease_starts_with_the_discover() {
    play(
        rapid(),
        "
        0      > DISCOVER to=all rapid
        0.1    < ACK 10.0.0.5 from=10.0.0.1 lease=3600 rapid
        0.1    = BOUND 10.0.0.5 until=3600.0
        ",
    );
}

#[test]
fn an_ack_without_the_option_is_ignored() {
    play(
        rapid(),
        "
        0      > DISCOVER to=all rapid
        0.1    x ACK 10.0.0.5 from=10.0.0.1 lease=3600 / no rapid commit
        ",
    );
}

#[test]
fn an_offer_with_the_option_is_an_ordinary_offer() {
    play(
        rapid(),
        "
        0      > DISCOVER to=all rapid
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=3600 rapid
        0.1    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn after_a_long_silence_the_lease_starts_with_a_recent_discover() {
    let client = play(
        rapid(),
        "
        0      > DISCOVER to=all rapid
        ~1     > DISCOVER to=all rapid
        ~3     > DISCOVER to=all rapid flag=broadcast
        ~7     > DISCOVER to=all rapid flag=broadcast
        ~15    > DISCOVER to=all rapid flag=broadcast
        ~31    > DISCOVER to=all rapid flag=broadcast
        ~61    > DISCOVER to=all rapid flag=broadcast
        ~91    > DISCOVER to=all rapid flag=broadcast
        ~121   > DISCOVER to=all rapid flag=broadcast
        130    < ACK 10.0.0.5 from=10.0.0.1 lease=600 rapid
        130    = BOUND 10.0.0.5
        ",
    );
    assert!(
        client
            .lease()
            .is_some_and(|lease| lease.requested_at > after(100.0))
    );
}

#[test]
fn a_lease_that_has_expired_on_arrival_is_ignored() {
    play(
        rapid(),
        "
        0      > DISCOVER to=all rapid
        ~1     > DISCOVER to=all rapid
        2      x ACK 10.0.0.5 from=10.0.0.1 lease=2 rapid / the lease has ended already
        ",
    );
}
