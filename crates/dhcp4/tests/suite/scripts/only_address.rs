//! A client that takes no other address than the one that it had.

use dhcp4::{Client, Config};

use super::bound;
use crate::support::config;
use crate::support::script::play;

/// A client that has 10.0.0.5 for 100 seconds, and takes no other.
fn requiring(config: Config) -> Client {
    play(bound(config, "lease=100 t1=50"), "1 ! require")
}

#[test]
fn after_a_nak_it_asks_for_its_address_and_ignores_offers_of_others_until_it_gets_it() {
    let client = play(
        requiring(config()),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        55     < NAK from=10.0.0.1
        55     = LOST 10.0.0.5 NAK from 10.0.0.1
        55     > DISCOVER to=all 50=10.0.0.5
        55.1   x OFFER 10.0.0.6 from=10.0.0.1 lease=100 / not the address that must stay
        55.1   = OFFERED 10.0.0.6 by 10.0.0.1
        55.2   x OFFER 10.1.0.9 from=10.0.0.2 lease=100 / not the address that must stay
        55.2   = OFFERED 10.1.0.9 by 10.0.0.2
        55.2   . SELECTING
        ~56    > DISCOVER to=all 50=10.0.0.5
        57     < OFFER 10.0.0.5 from=10.0.0.2 lease=100
        57     > REQUEST to=all 50=10.0.0.5 54=10.0.0.2
        57     x OFFER 10.0.0.6 from=10.0.0.1 lease=100 / not the address that must stay
        57     = OFFERED 10.0.0.6 by 10.0.0.1
        57     < ACK 10.0.0.5 from=10.0.0.2 lease=100
        57     = BOUND 10.0.0.5
        ",
    );
    assert_eq!(client.only_address(), Some([10, 0, 0, 5].into()));
    let report = client.report().to_string();
    assert!(
        report.contains("3 offers ignored: not the address that must stay"),
        "{report}"
    );
}

#[test]
fn a_server_that_refuses_the_address_again_and_again_is_asked_after_growing_pauses() {
    play(
        requiring(config()),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        63     < NAK from=10.0.0.1
        63     = LOST 10.0.0.5 NAK from 10.0.0.1
        63     > DISCOVER to=all 50=10.0.0.5
        63     < OFFER 10.0.0.5 from=10.0.0.1 lease=100
        63     > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        63     < NAK from=10.0.0.1
        63     . INIT
        ~64    > DISCOVER to=all 50=10.0.0.5
        ~65    > DISCOVER to=all 50=10.0.0.5
        ",
    );
}

#[test]
fn an_address_that_expired_is_asked_for_without_rapid_commit() {
    let rapid = Config {
        rapid_commit: true,
        ..config()
    };
    let client = play(
        super::new(rapid),
        "
        0      > DISCOVER to=all rapid
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=10 rapid
        0      = BOUND 10.0.0.5
        1      ! require
        ~5     > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~6.9   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~7.8   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~8.75  > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        ~9.4   > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        ~9.7   > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        ~9.9   > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        10     = LOST 10.0.0.5 expired
        10     > DISCOVER to=all 50=10.0.0.5
        10.1   x ACK 10.0.0.6 from=10.0.0.1 lease=60 rapid / no rapid commit
        10.1   . SELECTING
        ",
    );
    assert_eq!(client.lease(), None);
}

#[test]
fn a_declined_address_is_asked_for_again_after_a_pause() {
    play(
        requiring(config()),
        "
        10     ! decline
        10     = LOST 10.0.0.5 declined
        10     > DECLINE to=all 50=10.0.0.5 54=10.0.0.1
        20     > DISCOVER to=all 50=10.0.0.5
        20     x OFFER 10.0.0.6 from=10.0.0.1 lease=100 / not the address that must stay
        20     = OFFERED 10.0.0.6 by 10.0.0.1
        ",
    );
}

#[test]
fn another_address_in_a_renewal_is_not_taken_either() {
    play(
        requiring(config()),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        60     x ACK 10.0.0.6 from=10.0.0.1 lease=100 / not the address asked for
        60     . RENEWING
        ",
    );
}

#[test]
fn a_new_client_may_be_told_the_only_address() {
    let config = Config {
        only_address: Some([10, 0, 0, 5].into()),
        requested_address: Some([10, 0, 0, 9].into()),
        ..config()
    };
    play(
        super::new(config),
        "
        0      > DISCOVER to=all 50=10.0.0.5
        0.1    x OFFER 10.0.0.9 from=10.0.0.1 lease=100 / not the address that must stay
        0.1    = OFFERED 10.0.0.9 by 10.0.0.1
        0.2    < OFFER 10.0.0.5 from=10.0.0.1 lease=100
        0.2    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.3    < ACK 10.0.0.5 from=10.0.0.1 lease=100
        0.3    = BOUND 10.0.0.5
        ",
    );
}
