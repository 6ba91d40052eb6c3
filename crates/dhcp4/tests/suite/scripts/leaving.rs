//! GRANTED, DECLINE and RELEASE: an address is accepted or given back.

use std::time::Duration;

use dhcp4::{Client, Config, Retry, StateName};

use super::{bound, new};
use crate::support::script::play;
use crate::support::{START, after, config, past_lease};

fn probing() -> Config {
    Config {
        probe_before_bind: true,
        ..config()
    }
}

fn granted() -> Client {
    play(
        new(probing()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=100
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=100
        0      = GRANTED 10.0.0.5 until=100.0
        0      . GRANTED
        ",
    )
}

#[test]
fn a_granted_address_may_not_be_used_before_it_is_accepted() {
    let client = granted();
    assert_eq!(client.lease(), None);
    let client = play(
        client,
        "
        0.2    ! accept
        0.2    = BOUND 10.0.0.5 until=100.0
        0.2    . BOUND
        ",
    );
    assert!(client.lease().is_some());
}

#[test]
fn a_declined_address_is_not_asked_for_again() {
    play(
        granted(),
        "
        0.2    ! decline
        0.2    > DECLINE to=all 50=10.0.0.5 54=10.0.0.1
        0.2    . INIT
        10.2   > DISCOVER to=all
        ",
    );
}

#[test]
fn the_pause_after_a_decline_doubles_until_there_is_a_lease() {
    let retry = Retry {
        after_decline: Duration::from_secs(1),
        ..config().retry
    };
    let granted = |at: u32, host: u8| {
        format!(
            "
            {at}   > DISCOVER to=all
            {at}   < OFFER 10.0.0.{host} from=10.0.0.1 lease=1000
            {at}   > REQUEST to=all 50=10.0.0.{host} 54=10.0.0.1
            {at}   < ACK 10.0.0.{host} from=10.0.0.1 lease=1000
            {at}   = GRANTED 10.0.0.{host}
            "
        )
    };
    let declined = |at: u32, host: u8| {
        granted(at, host)
            + &format!("{at} ! decline\n{at} > DECLINE to=all 50=10.0.0.{host} 54=10.0.0.1\n")
    };
    let script = [
        declined(0, 5),
        declined(1, 6),
        declined(3, 7),
        granted(7, 8),
    ]
    .concat()
        + "
        7      ! accept
        7      = BOUND 10.0.0.8
        8      ! decline
        8      = LOST 10.0.0.8 declined
        8      > DECLINE to=all 50=10.0.0.8 54=10.0.0.1
        9      > DISCOVER to=all
        ";
    play(new(Config { retry, ..probing() }), &script);
}

#[test]
fn a_granted_address_that_is_never_accepted_expires() {
    let mut client = play(granted(), "100 > DISCOVER to=all");
    assert!(!client.accept(after(100.0)));
    assert!(!client.decline(after(100.0)));
    assert_eq!(client.state(), StateName::Selecting);
}

#[test]
fn a_granted_address_accepted_after_t1_is_renewed_at_once() {
    play(
        granted(),
        "
        60     ! accept
        60     = BOUND 10.0.0.5
        60     > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
}

#[test]
fn an_address_from_rapid_commit_or_reboot_is_granted_first_too() {
    play(
        new(Config {
            rapid_commit: true,
            ..probing()
        }),
        "
        0      > DISCOVER to=all rapid
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=100 rapid
        0      = GRANTED 10.0.0.5
        ",
    );
    play(
        Client::reboot(probing(), 1, past_lease(), START),
        "
        0      > REQUEST to=all 50=10.0.0.5
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=100
        0      = GRANTED 10.0.0.5
        ",
    );
}

#[test]
fn a_renewed_address_is_not_granted_again() {
    let client = play(granted(), "0 ! accept\n 0 = BOUND 10.0.0.5");
    play(
        client,
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        55     < ACK 10.0.0.5 from=10.0.0.1 lease=100
        55     = RENEWED 10.0.0.5
        ",
    );
}

#[test]
fn an_address_in_use_is_lost_when_it_is_declined() {
    play(
        bound(config(), "lease=100"),
        "
        20     ! decline
        20     = LOST 10.0.0.5 declined
        20     > DECLINE to=all 50=10.0.0.5 54=10.0.0.1
        30     > DISCOVER to=all
        ",
    );
}

#[test]
fn a_bound_address_is_released_from_that_address() {
    let mut client = play(
        bound(config(), "lease=100"),
        "
        20     ! release
        20     > RELEASE to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5 54=10.0.0.1
        20     . STOPPED
        ",
    );
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.lease(), None);
    client.release(after(21.0));
    client.link_restored(after(22.0));
    assert_eq!(client.poll_transmit(), None);
    assert_eq!(client.state(), StateName::Stopped);
}

#[test]
fn a_granted_address_is_released() {
    play(
        granted(),
        "
        1      ! release
        1      > RELEASE to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn a_requested_address_is_released() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=100
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.1    ! release
        0.1    > RELEASE to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn the_address_of_a_past_lease_is_released_too() {
    play(
        Client::reboot(config(), 1, past_lease(), START),
        "
        0      > REQUEST to=all 50=10.0.0.5
        0.1    ! release
        0.1    > RELEASE to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn a_client_that_requested_nothing_releases_nothing() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0.1    ! release
        0.1    . STOPPED
        ",
    );
}

#[test]
fn an_expired_lease_is_not_released() {
    let mut client = bound(config(), "lease=100");
    client.release(after(100.0));
    assert_eq!(client.poll_transmit(), None);
}
