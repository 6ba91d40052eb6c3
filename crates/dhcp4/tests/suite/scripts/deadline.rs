//! A driver that gives up at some time, because somebody waits for the address.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp4::{Client, Config, Retry};

use super::new;
use crate::support::message::{ACK, OFFER, Reply, Request};
use crate::support::script::{play, play_from};
use crate::support::{after, config};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A client whose driver gives up after this many seconds.
fn until(seconds: f64) -> Client {
    new(Config {
        deadline: Some(after(seconds)),
        ..config()
    })
}

/// When the client sends DISCOVERs before its deadline, in seconds, if nobody answers.
fn discovers(deadline: f64) -> Vec<f64> {
    let mut client = until(deadline);
    let mut times = vec![0.0];
    while let Some(due) = client.poll_timeout().filter(|&due| due < after(deadline)) {
        client.handle_timeout(due);
        assert!(client.poll_transmit().is_some());
        times.push(due.since(after(0.0)).as_secs_f64());
    }
    times
}

#[test]
fn without_an_answer_no_pause_is_longer_than_8_seconds_or_a_quarter_of_what_is_left() {
    for deadline in [1.0, 5.0, 10.0, 60.0, 110.0, 3600.0] {
        let times = discovers(deadline);
        for pair in times.windows(2) {
            let [before, pause] = [pair[0], pair[1] - pair[0]];
            let longest = ((deadline - before) / 4.0).clamp(1.25, 8.0);
            assert!(
                pause <= longest + 1e-6,
                "{deadline}: {pause} after {before}"
            );
        }
        assert!(times.len() <= 30 + deadline as usize / 7, "{times:?}");
    }
}

#[test]
fn two_seconds_before_the_deadline_the_client_asks_again() {
    for deadline in [5.0, 10.0, 60.0] {
        let times = discovers(deadline);
        let last_try = deadline - 2.0;
        let asks = times.iter().any(|time| (time - last_try).abs() < 1e-6);
        assert!(asks, "{deadline}: {times:?}");
    }
}

#[test]
fn the_deadline_ends_with_the_lease() {
    let client = play(
        until(10.0),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=100
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=100
        0      = BOUND 10.0.0.5
        ",
    );
    let mut client = client;
    client.handle_timeout(after(100.0));
    play_from(
        100.0,
        client,
        "
        100    = LOST 10.0.0.5 expired
        100    > DISCOVER to=all 50=10.0.0.5
        ~101   > DISCOVER to=all 50=10.0.0.5
        ~103   > DISCOVER to=all 50=10.0.0.5 flag=broadcast
        ~107   > DISCOVER to=all 50=10.0.0.5 flag=broadcast
        ~115   > DISCOVER to=all 50=10.0.0.5 flag=broadcast
        ~131   > DISCOVER to=all 50=10.0.0.5 flag=broadcast
        ~161   > DISCOVER to=all 50=10.0.0.5 flag=broadcast
        ",
    );
}

#[test]
fn a_client_without_an_address_asks_at_least_every_30_seconds() {
    let mut client = new(config());
    let mut last = after(0.0);
    for _ in 0..20 {
        let due = client.poll_timeout().expect("a timer");
        assert!(due.since(last) <= Duration::from_secs(30));
        client.handle_timeout(due);
        last = due;
    }
}

#[test]
fn the_pause_after_a_decline_does_not_outgrow_8_seconds_before_the_deadline() {
    let mut client = new(Config {
        deadline: Some(after(110.0)),
        probe_before_bind: true,
        retry: Retry {
            after_decline: Duration::from_secs(1),
            ..Retry::default()
        },
        ..config()
    });
    let mut now = after(0.0);
    for pause in [1, 2, 4, 8, 8] {
        let discover = Request::read(client.poll_transmit().expect("a DISCOVER"));
        let mut receive = |kind, xid| {
            let address = [10, 0, 0, 5].into();
            let reply = Reply::lease(kind, xid, address, SERVER, 100).encode();
            client.handle_packet(now, &reply, SERVER).expect("accepted");
        };
        receive(OFFER, discover.xid());
        receive(ACK, discover.xid());
        assert!(client.decline(now));
        assert!(client.poll_transmit().is_some(), "a DECLINE");
        let due = client.poll_timeout().expect("a timer");
        assert_eq!(due.since(now), Duration::from_secs(pause));
        client.handle_timeout(due);
        now = due;
    }
}
