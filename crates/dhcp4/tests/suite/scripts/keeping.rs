//! BOUND, RENEWING, REBINDING: a lease kept, or lost.

use dhcp4::{Client, StateName};

use super::bound;
use crate::support::message::{ACK, Reply, Request};
use crate::support::script::{play, play_from};
use crate::support::{after, config};

#[test]
fn a_lease_is_renewed_at_half_its_time_from_its_own_address_to_its_own_server() {
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
fn an_unanswered_renewal_is_repeated_at_half_the_remaining_time_then_asked_of_all_then_over() {
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
fn a_lease_of_ten_seconds_is_tried_for_to_its_end() {
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
fn the_times_of_the_server_are_kept() {
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
fn times_that_make_no_sense_are_replaced_by_the_usual_ones() {
    for (told, t1, t2) in [
        ("", 50.0, 87.5),
        ("t1=0 t2=0", 50.0, 87.5),
        ("t1=90", 50.0, 87.5),
        ("t1=100 t2=100", 50.0, 87.5),
        ("t1=4294967295 t2=4294967295", 50.0, 87.5),
        ("t2=200", 50.0, 87.5),
        ("t2=35", 20.0, 35.0),
        ("t1=60 t2=50", 28.571_428, 50.0),
        ("t1=10 t2=20", 10.0, 20.0),
    ] {
        let client = bound(config(), &format!("lease=100 {told}"));
        let lease = client.lease().expect("a lease");
        let close = |time: Option<dhcp4::Instant>, seconds: f64| {
            time.is_some_and(|time| {
                time.since(after(seconds - 0.001)) < std::time::Duration::from_millis(2)
            })
        };
        assert!(
            close(lease.t1_at(), t1) && close(lease.t2_at(), t2),
            "{told}: {lease:?}"
        );
    }
}

#[test]
fn a_lease_without_end_is_never_renewed() {
    let client = bound(config(), "lease=4294967295 t1=10 t2=20");
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.lease().and_then(dhcp4::Lease::expires_at), None);
    let client = play(client, "100000000 . BOUND");
    assert_eq!(client.state(), StateName::Bound);
}

#[test]
fn another_server_may_take_the_lease_over_when_rebinding() {
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
fn a_renewed_lease_runs_from_the_very_message_that_was_answered() {
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
fn a_refused_renewal_ends_the_lease_and_discovery_does_not_ask_for_its_address() {
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
fn any_server_may_refuse_when_rebinding() {
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
fn nothing_is_awaited_while_bound() {
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
fn a_lease_that_ran_out_in_suspend_is_lost_before_a_late_answer_is_read() {
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

mod resuming {
    use super::*;

    fn resumed(at: f64) -> Client {
        let client = bound(config(), "lease=1000");
        let lease = client.lease().expect("a lease").clone();
        let stored = serde_json::to_string(&lease).expect("a lease can be written");
        let read = serde_json::from_str(&stored).expect("and read");
        assert_eq!(lease, read);
        Client::resume(config(), 2, read, after(at))
    }

    #[test]
    fn early_is_bound() {
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
    fn past_t1_is_renewing() {
        play_from(
            700.0,
            resumed(700.0),
            "700 > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5",
        );
    }

    #[test]
    fn past_t2_is_rebinding() {
        play_from(
            950.0,
            resumed(950.0),
            "950 > REQUEST to=all from=10.0.0.5 ciaddr=10.0.0.5",
        );
    }

    #[test]
    fn past_the_end_is_lost() {
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
    fn in_another_boot_is_lost() {
        play_from(
            -10.0,
            resumed(-10.0),
            "
            -10    = LOST 10.0.0.5 expired
            -10    > DISCOVER to=all 50=10.0.0.5
            ",
        );
    }
}

mod carrier {
    use super::*;

    #[test]
    fn returning_to_the_same_network_confirms_the_lease() {
        play(
            bound(config(), "lease=1000"),
            "
            100    ! link
            100    > REQUEST to=all 50=10.0.0.5
            100    . REBOOTING
            100.1  < ACK 10.0.0.5 from=10.0.0.1 lease=1000
            100.1  = RENEWED 10.0.0.5 until=1100.0
            100.1  . BOUND
            ",
        );
    }

    #[test]
    fn returning_to_another_network_loses_it() {
        play(
            bound(config(), "lease=1000"),
            "
            100    ! link
            100    > REQUEST to=all 50=10.0.0.5
            100.1  < NAK from=192.168.1.1
            100.1  = LOST 10.0.0.5 NAK from 192.168.1.1
            100.1  > DISCOVER to=all
            ",
        );
    }

    #[test]
    fn returning_to_silence_keeps_what_is_left_of_it() {
        let client = play(
            bound(config(), "lease=1000"),
            "
            100    ! link
            100    > REQUEST to=all 50=10.0.0.5
            ~101   > REQUEST to=all 50=10.0.0.5
            120    . BOUND
            ~500   > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
            ",
        );
        assert!(client.lease().is_some());
    }

    #[test]
    fn returning_just_before_the_end_does_not_prolong_it() {
        play(
            bound(config(), "lease=1000 t1=998 t2=999"),
            "
            997    ! link
            997    > REQUEST to=all 50=10.0.0.5
            ~998   > REQUEST to=all 50=10.0.0.5
            1000   = LOST 10.0.0.5 expired
            1000   > DISCOVER to=all 50=10.0.0.5
            ",
        );
    }
}
