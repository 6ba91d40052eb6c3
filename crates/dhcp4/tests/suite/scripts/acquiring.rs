//! INIT, SELECTING, REQUESTING, INIT-REBOOT, rapid commit, INFORM.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp4::{Client, Config, RawOption, Retry, Servers, Transmit};

use super::new;
use crate::support::message::{OFFER, Reply, Request};
use crate::support::script::play;
use crate::support::{START, after, config};

#[test]
fn an_address_is_won_in_two_round_trips() {
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
fn discovery_goes_on_for_ever_ever_more_slowly_and_asks_for_broadcast_replies_in_the_end() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        ~1     > DISCOVER to=all
        ~3     > DISCOVER to=all flag=broadcast
        ~7     > DISCOVER to=all flag=broadcast
        ~15    > DISCOVER to=all flag=broadcast
        ~31    > DISCOVER to=all flag=broadcast
        ~63    > DISCOVER to=all flag=broadcast
        ~127   > DISCOVER to=all flag=broadcast
        ~191   > DISCOVER to=all flag=broadcast
        ~255   > DISCOVER to=all flag=broadcast
        ~319   > DISCOVER to=all flag=broadcast
        ",
    );
    assert_eq!(
        client.report().to_string(),
        "sent 11 DISCOVER, received 0 frames"
    );
}

#[test]
fn an_offer_to_an_earlier_discover_of_the_exchange_is_good() {
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
fn broadcast_replies_are_asked_for_from_the_start_when_configured() {
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
fn an_unanswered_request_is_repeated_then_discovery_starts_over() {
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
fn the_lease_runs_from_the_first_request_whichever_was_answered() {
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
fn a_refused_request_leads_to_discovery_at_once_and_the_second_one_after_a_pause() {
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
fn only_the_server_asked_can_refuse_or_acknowledge() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.1    x NAK from=10.0.0.2 / not from the server asked
        0.1    x ACK 10.0.0.5 from=10.0.0.2 lease=60 / not from the server asked
        0.1    x ACK 10.0.0.6 from=10.0.0.1 lease=60 / not the address asked for
        0.1    x OFFER 10.0.0.7 from=10.0.0.2 lease=60 / not awaited in REQUESTING
        0.2    < ACK 10.0.0.5 from=10.0.0.1 lease=60
        0.2    = BOUND 10.0.0.5
        ",
    );
    assert_eq!(client.report().received, 6);
}

#[test]
fn what_is_not_an_acceptable_offer_is_ignored_with_its_reason() {
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
        0.1    x OFFER 10.0.0.5 from=10.0.0.9 lease=60 / server not allowed
        0.1    x OFFER 0.0.0.0 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 255.255.255.255 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 127.0.0.1 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 224.0.0.1 from=10.0.0.1 lease=60 / no usable address
        0.1    x OFFER 10.0.0.5 from=10.0.0.1 / no lease time
        0.1    x OFFER 10.0.0.5 from=10.0.0.1 lease=0 / no lease time
        0.1    x ACK 10.0.0.5 from=10.0.0.1 lease=60 rapid / no rapid commit
        0.1    x NAK from=10.0.0.1 / not awaited in SELECTING
        0.1    . SELECTING
        ~1     > DISCOVER to=all
        ",
    );
}

#[test]
fn a_server_that_echoes_our_identifier_is_heard() {
    let id = Some(b"me".to_vec());
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
fn only_allowed_servers_are_heard() {
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
        0.1    x OFFER 10.0.0.5 from=10.0.0.2 lease=60 / server not allowed
        0.1    x OFFER 10.0.0.5 from=10.0.0.3 lease=60 / server not allowed
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
        0.1    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        ",
    );
}

mod choosing {
    use super::*;

    fn collecting() -> Config {
        Config {
            collect: Duration::from_millis(500),
            requested_address: Some([10, 0, 0, 9].into()),
            ..config()
        }
    }

    #[test]
    fn the_first_of_equal_offers_is_taken_when_the_time_is_up() {
        play(
            new(collecting()),
            "
            0      > DISCOVER to=all 50=10.0.0.9
            0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
            0.3    < OFFER 10.0.0.6 from=10.0.0.2 lease=60
            0.6    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
            ",
        );
    }

    #[test]
    fn the_address_asked_for_is_taken_at_once() {
        play(
            new(collecting()),
            "
            0      > DISCOVER to=all 50=10.0.0.9
            0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=60
            0.3    < OFFER 10.0.0.9 from=10.0.0.2 lease=60
            0.3    > REQUEST to=all 50=10.0.0.9 54=10.0.0.2
            ",
        );
    }

    #[test]
    fn the_server_that_had_our_address_is_preferred() {
        play(
            Client::reboot(
                collecting(),
                1,
                [10, 0, 0, 8].into(),
                Some([10, 0, 0, 2].into()),
                START,
            ),
            "
            0      > REQUEST to=all 50=10.0.0.8
            ~1     > REQUEST to=all 50=10.0.0.8
            ~3     > DISCOVER to=all 50=10.0.0.8
            4      < OFFER 10.0.0.5 from=10.0.0.1 lease=60
            4.1    < OFFER 10.0.0.6 from=10.0.0.2 lease=60
            4.2    < OFFER 10.0.0.7 from=10.0.0.3 lease=60
            4.5    > REQUEST to=all 50=10.0.0.6 54=10.0.0.2
            ",
        );
    }

    #[test]
    fn a_server_that_did_not_keep_its_offer_waits_for_another_to_speak() {
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
}

mod rapid_commit {
    use super::*;

    fn rapid() -> Client {
        new(Config {
            rapid_commit: true,
            ..config()
        })
    }

    #[test]
    fn binds_in_one_round_trip_counted_from_the_discover() {
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
    fn is_not_assumed_of_an_ack_without_the_option() {
        play(
            rapid(),
            "
            0      > DISCOVER to=all rapid
            0.1    x ACK 10.0.0.5 from=10.0.0.1 lease=3600 / no rapid commit
            ",
        );
    }

    #[test]
    fn in_an_offer_is_tolerated() {
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
    fn after_long_silence_is_counted_from_a_recent_discover() {
        let client = play(
            rapid(),
            "
            0      > DISCOVER to=all rapid
            ~1     > DISCOVER to=all rapid
            ~3     > DISCOVER to=all rapid flag=broadcast
            ~7     > DISCOVER to=all rapid flag=broadcast
            ~15    > DISCOVER to=all rapid flag=broadcast
            ~31    > DISCOVER to=all rapid flag=broadcast
            ~63    > DISCOVER to=all rapid flag=broadcast
            ~127   > DISCOVER to=all rapid flag=broadcast
            150    < ACK 10.0.0.5 from=10.0.0.1 lease=600 rapid
            150    = BOUND 10.0.0.5
            ",
        );
        assert!(
            client
                .lease()
                .is_some_and(|lease| lease.requested_at > after(100.0))
        );
    }

    #[test]
    fn of_a_lease_that_has_ended_on_arrival_is_too_late() {
        play(
            rapid(),
            "
            0      > DISCOVER to=all rapid
            ~1     > DISCOVER to=all rapid
            2      x ACK 10.0.0.5 from=10.0.0.1 lease=2 rapid / the lease has ended already
            ",
        );
    }
}

mod rebooting {
    use super::*;

    fn reboot() -> Client {
        Client::reboot(
            config(),
            1,
            [10, 0, 0, 5].into(),
            Some([10, 0, 0, 1].into()),
            START,
        )
    }

    #[test]
    fn wins_the_old_address_in_one_round_trip() {
        play(
            reboot(),
            "
            0      > REQUEST to=all 50=10.0.0.5
            0      . REBOOTING
            0.1    < ACK 10.0.0.5 from=10.0.0.2 lease=60
            0.1    = BOUND 10.0.0.5 until=60.0
            ",
        );
    }

    #[test]
    fn unanswered_leads_to_discovery_that_asks_for_the_address() {
        play(
            reboot(),
            "
            0      > REQUEST to=all 50=10.0.0.5
            ~1     > REQUEST to=all 50=10.0.0.5
            ~3     > DISCOVER to=all 50=10.0.0.5
            ",
        );
    }

    #[test]
    fn refused_by_any_server_leads_to_discovery_of_a_new_address() {
        play(
            reboot(),
            "
            0      > REQUEST to=all 50=10.0.0.5
            0.1    < NAK from=192.168.1.1
            0.1    > DISCOVER to=all
            ",
        );
    }

    #[test]
    fn does_not_take_another_address() {
        play(
            reboot(),
            "
            0      > REQUEST to=all 50=10.0.0.5
            0.1    x ACK 10.0.0.6 from=10.0.0.1 lease=60 / not the address asked for
            0.1    x OFFER 10.0.0.6 from=10.0.0.1 lease=60 / not awaited in REBOOTING
            ",
        );
    }
}

#[test]
fn a_remembered_address_is_only_hinted_at_in_the_first_discover() {
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
fn the_pace_is_configurable() {
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
fn carrier_returning_starts_discovery_afresh_without_waiting() {
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

#[test]
fn inform_brings_options_for_an_address_that_is_there_already() {
    let address = Ipv4Addr::new(10, 0, 0, 77);
    play(
        Client::inform(config(), 1, address, START),
        "
        0      > INFORM to=all from=10.0.0.77 ciaddr=10.0.0.77
        0      . INFORMING
        ~1     > INFORM to=all from=10.0.0.77 ciaddr=10.0.0.77
        1.5    x NAK from=10.0.0.1 / not awaited in INFORMING
        1.5    < ACK 0.0.0.0 from=10.0.0.1 router=10.0.0.1
        1.5    = INFORMED
        1.5    . STOPPED
        ",
    );
}

#[test]
fn configured_options_go_into_every_question_as_they_are_but_never_in_place_of_the_clients_own() {
    let reserved = (0..=255)
        .filter(|&code| Config::is_reserved(code))
        .map(|code| RawOption::new(code, *b"no"));
    let own = [
        RawOption::new(60, *b"vendor"),
        RawOption::new(51, 600u32.to_be_bytes()),
        RawOption::new(224, []),
    ];
    let config = Config {
        options: reserved.chain(own.clone()).collect(),
        ..config()
    };
    let raw = |transmit: Transmit| {
        let mut field = &transmit.payload[240..];
        let mut options = Vec::new();
        while let [code, len, rest @ ..] = field
            && *code != 255
        {
            let (data, rest) = rest.split_at(usize::from(*len));
            options.push(RawOption::new(*code, data));
            field = rest;
        }
        options
    };
    let discover = raw(new(config.clone()).poll_transmit().unwrap());
    let request = raw(
        Client::reboot(config.clone(), 1, [10, 0, 0, 5].into(), None, START)
            .poll_transmit()
            .unwrap(),
    );
    let inform = raw(Client::inform(config, 1, [10, 0, 0, 5].into(), START)
        .poll_transmit()
        .unwrap());
    for question in [&discover, &request, &inform] {
        assert!(
            question.iter().all(|option| option.data != b"no"),
            "{question:?}"
        );
        assert!(
            question.contains(&own[0]) && question.contains(&own[2]),
            "{question:?}"
        );
    }
    assert!(discover.contains(&own[1]) && request.contains(&own[1]));
    assert!(
        !inform.contains(&own[1]),
        "RFC 2131 table 5: an INFORM asks for no lease time"
    );
}

#[test]
fn secs_count_from_the_beginning_and_a_request_repeats_its_discover() {
    let mut client = new(config());
    let secs = |client: &mut Client| {
        Request::read(client.poll_transmit().unwrap())
            .message
            .secs()
    };
    assert_eq!(secs(&mut client), 1);
    for _ in 0..4 {
        let due = client.poll_timeout().unwrap();
        client.handle_timeout(due);
        assert_eq!(
            u64::from(secs(&mut client)),
            due.since(START).as_secs().max(1)
        );
    }
    let due = client.poll_timeout().unwrap();
    client.handle_timeout(due);
    let discover = Request::read(client.poll_transmit().unwrap());
    let server = [10, 0, 0, 1].into();
    let offer = Reply::lease(OFFER, discover.xid(), [10, 0, 0, 5].into(), server, 60).encode();
    client
        .handle_packet(due + Duration::from_secs(20), &offer, server)
        .unwrap();
    let request = Request::read(client.poll_transmit().unwrap());
    assert_eq!(
        (request.message.secs(), request.xid()),
        (discover.message.secs(), discover.xid())
    );
}
