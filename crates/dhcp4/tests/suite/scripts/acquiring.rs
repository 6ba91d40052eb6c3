//! INIT, SELECTING and REQUESTING: the way to a new lease.

use std::time::Duration;

use dhcp4::{Config, Retry, Servers};

use super::new;
use crate::support::config;
use crate::support::script::play;

#[test]
fn an_address_is_leased_in_two_round_trips() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      . SELECTING
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=3600
        0.1    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.1    . REQUESTING
        0.2    < ACK 10.0.0.5 from=10.0.0.1 lease=3600
        0.2    = BOUND 10.0.0.5 until=3600.1
        0.2    . BOUND
        ",
    );
}

#[test]
fn discovery_never_ends_but_slows_down_and_asks_for_broadcast_replies_from_the_third_message() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        ~1     > DISCOVER to=all
        ~3     > DISCOVER to=all flag=broadcast
        ~7     > DISCOVER to=all flag=broadcast
        ~15    > DISCOVER to=all flag=broadcast
        ~31    > DISCOVER to=all flag=broadcast
        ~61    > DISCOVER to=all flag=broadcast
        ~91    > DISCOVER to=all flag=broadcast
        ~121   > DISCOVER to=all flag=broadcast
        ",
    );
    assert_eq!(
        client.report().to_string(),
        "sent 9 DISCOVER, received no reply"
    );
}

#[test]
fn an_offer_in_answer_to_an_earlier_discover_of_the_transaction_is_taken() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        ~1     > DISCOVER to=all
        ~3     > DISCOVER to=all flag=broadcast
        3.8    < OFFER 10.0.0.5 from=10.0.0.1 lease=3600
        3.8    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1 flag=broadcast
        ",
    );
}

#[test]
fn broadcast_replies_are_asked_for_from_the_first_message_if_configured() {
    play(
        new(Config {
            broadcast: true,
            ..config()
        }),
        "
        0      > DISCOVER to=all flag=broadcast
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1 flag=broadcast
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=60
        0      = BOUND 10.0.0.5
        ~30    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
}

#[test]
fn an_unanswered_request_is_repeated_and_then_discovery_starts_over() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ~1     > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ~3     > REQUEST to=all 50=10.0.0.5 54=10.0.0.1 flag=broadcast
        ~7     > REQUEST to=all 50=10.0.0.5 54=10.0.0.1 flag=broadcast
        ~15    > DISCOVER to=all flag=broadcast
        ",
    );
}

#[test]
fn the_lease_starts_with_the_first_request_whichever_was_answered() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0.5    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.5    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ~1.5   > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        2      < ACK 10.0.0.5 from=10.0.0.1 lease=60
        2      = BOUND 10.0.0.5 until=60.5
        ",
    );
}

#[test]
fn discovery_follows_a_first_refusal_at_once_and_a_second_one_after_a_pause() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.1    < NAK from=10.0.0.1 text=taken
        0.1    > DISCOVER to=all
        0.1    < OFFER 10.0.0.6 from=10.0.0.1 lease=60
        1.1    > REQUEST to=all 50=10.0.0.6 54=10.0.0.1
        1.2    < NAK from=10.0.0.1 text=taken
        1.2    . INIT
        ~2.2   > DISCOVER to=all
        ",
    );
    let report = client.report().to_string();
    assert_eq!(
        report,
        "sent 3 DISCOVER, 2 REQUEST, received 4 frames; NAK from 10.0.0.1: \"taken\""
    );
}

#[test]
fn only_the_server_whose_offer_was_taken_can_acknowledge_or_refuse() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.1    x NAK from=10.0.0.2 / not from the server asked
        0.1    x ACK 10.0.0.5 from=10.0.0.2 lease=60 / not from the server asked
        0.1    x ACK 10.0.0.6 from=10.0.0.1 lease=60 / not the address asked for
        0.1    x OFFER 10.0.0.7 from=10.0.0.1 lease=60 / not awaited in REQUESTING
        0.2    < ACK 10.0.0.5 from=10.0.0.1 lease=60
        0.2    = BOUND 10.0.0.5
        ",
    );
    assert_eq!(client.report().received, 6);
}

#[test]
fn each_unacceptable_answer_to_a_discover_is_ignored_for_its_own_reason() {
    play(
        new(Config {
            servers: Servers {
                deny: vec![[10, 0, 0, 9].into()],
                ..Servers::default()
            },
            ..config()
        }),
        "
        0      > DISCOVER to=all
        0.1    x OFFER 10.0.0.5 from=10.0.0.1 lease=60 xid=1 / wrong transaction id
        0.1    x OFFER 10.0.0.5 from=10.0.0.1 lease=60 id=other / wrong client identifier
        0.1    x OFFER 10.0.0.5 lease=60 / no server identifier
        0.1    x OFFER 10.0.0.5 from=10.0.0.9 lease=60 / server 10.0.0.9 not allowed
        0.1    x OFFER 0.0.0.0 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 255.255.255.255 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 127.0.0.1 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 224.0.0.1 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 10.0.0.1 from=10.0.0.1 lease=60 / the address offered is the server's own
        0.1    x OFFER 10.0.0.2 from=10.0.0.1 source=10.0.0.2 lease=60 / the address offered is the server's own
        0.1    x OFFER 10.0.0.3 from=10.0.0.1 lease=60 router=10.0.0.3 / the address offered is the router's own
        0.1    x OFFER 10.0.0.5 from=10.0.0.1 lease=0 / a lease time of zero
        0.1    x ACK 10.0.0.5 from=10.0.0.1 lease=60 rapid / no rapid commit
        0.1    x NAK from=10.0.0.1 / not awaited in SELECTING
        0.1    . SELECTING
        ~1     > DISCOVER to=all
        ",
    );
}

#[test]
fn an_offer_that_echoes_the_client_identifier_is_taken() {
    let id = Some(b"me"[..].into());
    play(
        new(Config {
            client_id: id,
            ..config()
        }),
        "
        0      > DISCOVER to=all
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60 id=me
        0.1    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn only_offers_of_allowed_servers_are_taken() {
    let allow = vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
    play(
        new(Config {
            servers: Servers {
                allow,
                deny: vec![[10, 0, 0, 2].into()],
            },
            ..config()
        }),
        "
        0      > DISCOVER to=all
        0.1    x OFFER 10.0.0.5 from=10.0.0.2 lease=60 / server 10.0.0.2 not allowed
        0.1    x OFFER 10.0.0.5 from=10.0.0.3 source=10.0.0.9 lease=60 / server 10.0.0.3 (at 10.0.0.9) not allowed
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.1    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn an_offer_of_a_server_that_refused_its_last_one_waits_for_a_better_one() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.66 from=10.0.0.6 lease=60
        0      > REQUEST to=all 50=10.0.0.66 54=10.0.0.6
        0      < NAK from=10.0.0.6
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.67 from=10.0.0.6 lease=60
        0.3    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.3    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn a_server_that_offers_and_never_acknowledges_costs_two_requests_if_another_has_offered() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.66 from=10.0.0.6 lease=60
        0      > REQUEST to=all 50=10.0.0.66 54=10.0.0.6
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.1    x OFFER 10.0.0.6 from=10.0.0.1 lease=60 / not awaited in REQUESTING
        ~1     > REQUEST to=all 50=10.0.0.66 54=10.0.0.6
        ~3     > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        3.9    < ACK 10.0.0.5 from=10.0.0.1 lease=60
        3.9    = BOUND 10.0.0.5
        ",
    );
}

#[test]
fn after_a_refusal_the_offer_of_another_server_is_requested_at_once() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.66 from=10.0.0.6 lease=60
        0      > REQUEST to=all 50=10.0.0.66 54=10.0.0.6
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.2    < NAK from=10.0.0.6
        0.2    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ~1.2   > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        2      < NAK from=10.0.0.1
        2      > DISCOVER to=all
        ",
    );
}

#[test]
fn an_offer_that_had_to_wait_for_a_better_one_is_still_there_if_that_one_fails() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.66 from=10.0.0.6 lease=60
        0      > REQUEST to=all 50=10.0.0.66 54=10.0.0.6
        0      < NAK from=10.0.0.6
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.67 from=10.0.0.6 lease=60
        0.3    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.3    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.4    < NAK from=10.0.0.1
        0.4    > REQUEST to=all 50=10.0.0.67 54=10.0.0.6
        ",
    );
}

#[test]
fn a_few_offers_of_other_servers_are_kept_and_no_more() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.1    < OFFER 10.0.0.6 from=10.0.0.2 lease=60
        0.1    < OFFER 10.0.0.7 from=10.0.0.3 lease=60
        0.1    < OFFER 10.0.0.8 from=10.0.0.4 lease=60
        0.1    x OFFER 127.0.0.1 from=10.0.0.7 lease=60 / no usable address
        0.1    < OFFER 10.0.0.9 from=10.0.0.5 lease=60
        0.1    x OFFER 10.0.0.10 from=10.0.0.6 lease=60 / not awaited in REQUESTING
        ",
    );
}

#[test]
fn the_configured_address_is_asked_for_but_another_offer_is_taken() {
    play(
        new(Config {
            requested_address: Some([10, 0, 0, 9].into()),
            ..config()
        }),
        "
        0      > DISCOVER to=all 50=10.0.0.9
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.1    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn the_waits_between_messages_are_configurable() {
    let retry = Retry {
        first: Duration::from_secs(10),
        max: Duration::from_secs(20),
        ..Retry::default()
    };
    play(
        new(Config { retry, ..config() }),
        "
        0      > DISCOVER to=all
        ~10    > DISCOVER to=all
        ~30    > DISCOVER to=all flag=broadcast
        ~50    > DISCOVER to=all flag=broadcast
        ",
    );
}

#[test]
fn discovery_starts_over_at_once_when_the_carrier_returns() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        ~1     > DISCOVER to=all
        ~3     > DISCOVER to=all flag=broadcast
        ~7     > DISCOVER to=all flag=broadcast
        9      ! link
        9      > DISCOVER to=all flag=broadcast
        ~10    > DISCOVER to=all flag=broadcast
        ",
    );
}
