//! BOUND, RENEWING and REBINDING: a lease is kept or lost.

use std::time::Duration;

use dhcp4::StateName;

use super::bound;
use crate::support::message::{ACK, Reply, Request};
use crate::support::script::{play, play_from};
use crate::support::{START, after, config};

#[test]
fn a_lease_is_renewed_after_half_its_time_from_its_address_by_its_server() {
    play(
        bound(config(), "lease=3600"),
        "
        ~1800  > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        1900   . RENEWING
        1900   < ACK 10.0.0.5 from=10.0.0.1 lease=3600
        1900   = RENEWED 10.0.0.5
        1900   . BOUND
        ~3600  > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
}

#[test]
fn an_unanswered_renewal_is_repeated_after_half_the_remaining_time() {
    play(
        bound(config(), "lease=86400"),
        "
        ~43200 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~59400 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~67500 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~71550 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~73575 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~74600 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~75100 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~75340 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
}

#[test]
fn without_answers_a_lease_of_ten_seconds_is_renewed_then_rebound_then_lost() {
    play(
        bound(config(), "lease=10"),
        "
        ~5     > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~6.9   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~7.8   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~8.75  > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        ~9.4   > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        ~9.7   > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        9.9    . REBINDING
        10     = LOST 10.0.0.5 expired
        10     > DISCOVER to=all 50=10.0.0.5
        ~11    > DISCOVER to=all 50=10.0.0.5
        ",
    );
}

#[test]
fn renewal_begins_at_the_time_that_the_server_sent() {
    play(
        bound(config(), "lease=1000 t1=100 t2=900"),
        "
        ~100   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        120    < ACK 10.0.0.5 from=10.0.0.1 lease=1000 t1=700 t2=800
        120    = RENEWED 10.0.0.5
        ~800   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
}

#[test]
fn missing_and_contradictory_times_are_replaced_by_the_defaults() {
    for (sent, t1, t2) in [
        ("", 50.0, 87.5),
        ("t1=0 t2=0", 50.0, 87.5),
        ("t1=90", 50.0, 87.5),
        ("t1=100 t2=100", 50.0, 87.5),
        ("t1=4294967295 t2=4294967295", 50.0, 87.5),
        ("t2=200", 50.0, 87.5),
        ("t2=35", 20.0, 35.0),
        ("t2=99", 50.0, 99.0),
        ("t1=35 t2=35", 20.0, 35.0),
        ("t1=60 t2=50", 28.571_428, 50.0),
        ("t1=10 t2=20", 10.0, 20.0),
    ] {
        let client = bound(config(), &format!("lease=100 {sent}"));
        let lease = client.lease().expect("a lease");
        assert_eq!(lease.requested_at, START);
        let close = |time: Option<Duration>, seconds: f64| {
            time.is_some_and(|time| (time.as_secs_f64() - seconds).abs() < 0.001)
        };
        assert!(
            close(lease.t1, t1) && close(lease.t2, t2),
            "{sent}: {lease:?}"
        );
    }
}

#[test]
fn an_infinite_lease_is_never_renewed() {
    let client = bound(config(), "lease=4294967295 t1=10 t2=20");
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.lease().and_then(dhcp4::Lease::expires_at), None);
    let client = play(client, "100000000 . BOUND");
    assert_eq!(client.state(), StateName::Bound);
}

#[test]
fn another_server_may_extend_the_lease_in_rebinding() {
    let client = play(
        bound(config(), "lease=100 t1=99"),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~68    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~78    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~87    > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        90     < ACK 10.0.0.5 from=10.0.0.2 lease=100
        90     = RENEWED 10.0.0.5
        ~137   > REQUEST to=10.0.0.2 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
    assert_eq!(
        client.lease().map(|lease| lease.server_id),
        Some([10, 0, 0, 2].into())
    );
}

#[test]
fn an_extended_lease_starts_with_the_message_that_was_answered() {
    let client = play(
        bound(config(), "lease=1000 t1=500 t2=900"),
        "
        ~500   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~700   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        710    x ACK 10.0.0.5 from=10.0.0.1 lease=1000 xid=1 / wrong transaction id
        710    < ACK 10.0.0.5 from=10.0.0.1 lease=1000
        710    = RENEWED 10.0.0.5
        ",
    );
    assert!(
        client
            .lease()
            .is_some_and(|lease| lease.requested_at > after(650.0))
    );
}

#[test]
fn a_nak_from_its_server_ends_the_lease_and_discovery_does_not_ask_for_its_address() {
    play(
        bound(config(), "lease=100"),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        55     x NAK from=10.0.0.2 / not from the server asked
        55     < NAK from=10.0.0.1 text=renumbered
        55     = LOST 10.0.0.5 NAK from 10.0.0.1: \"renumbered\"
        55     > DISCOVER to=all
        55.1   < OFFER 192.168.1.5 from=192.168.1.1 lease=100
        55.1   > REQUEST to=all 50=192.168.1.5 54=192.168.1.1
        55.1   < ACK 192.168.1.5 from=192.168.1.1 lease=100
        55.1   = BOUND 192.168.1.5
        ",
    );
}

#[test]
fn a_nak_from_any_server_ends_the_lease_in_rebinding() {
    play(
        bound(config(), "lease=100 t1=86 t2=87"),
        "
        ~86    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~86.5  > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~86.8  > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ~87    > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5
        88     < NAK from=10.0.0.9
        88     = LOST 10.0.0.5 NAK from 10.0.0.9
        88     > DISCOVER to=all
        ",
    );
}

#[test]
fn every_message_is_ignored_in_bound() {
    play(
        bound(config(), "lease=100"),
        "
        1      x ACK 10.0.0.5 from=10.0.0.1 lease=100 / not awaited in BOUND
        1      x NAK from=10.0.0.1 / not awaited in BOUND
        1      x OFFER 10.0.0.6 from=10.0.0.1 lease=100 / not awaited in BOUND
        1      . BOUND
        ",
    );
}

#[test]
fn a_lease_that_expired_in_suspend_is_lost_before_a_late_answer_is_handled() {
    let mut client = bound(config(), "lease=100");
    client.handle_timeout(after(60.0));
    let renewal = Request::read(client.poll_transmit().expect("a renewal"));
    let server = [10, 0, 0, 1].into();
    let answer = Reply::lease(ACK, renewal.xid(), [10, 0, 0, 5].into(), server, 10_000).encode();

    let ignored = client
        .handle_packet(after(5000.0), &answer, server)
        .expect_err("too late");
    assert_eq!(ignored.to_string(), "ACK ignored: wrong transaction id");
    play_from(
        5000.0,
        client,
        "
        5000   = LOST 10.0.0.5 expired
        5000   > DISCOVER to=all 50=10.0.0.5
        ",
    );
}
