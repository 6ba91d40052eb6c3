//! Options and header fields that depend on the configuration and on time.

use std::time::Duration;

use dhcp4::{Client, Config, RawOption, Transmit};

use super::new;
use crate::support::message::{OFFER, Reply, Request};
use crate::support::{START, config, past_lease};

#[test]
fn configured_options_are_sent_in_every_discover_and_request_except_reserved_ones() {
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
    let request = raw(Client::reboot(config, 1, past_lease(), START)
        .poll_transmit()
        .unwrap());
    for question in [&discover, &request] {
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
}

#[test]
fn secs_counts_from_the_first_message_and_a_request_has_that_of_its_discover() {
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

/// A lease by rapid commit counts from the first DISCOVER of its transaction, so that must not be
/// long ago.
#[test]
fn after_half_of_the_longest_wait_a_discover_begins_another_transaction() {
    let mut client = new(config());
    let first = Request::read(client.poll_transmit().unwrap()).xid();
    let mut changed = Vec::new();
    for _ in 0..5 {
        let due = client.poll_timeout().unwrap();
        client.handle_timeout(due);
        let is_another = Request::read(client.poll_transmit().unwrap()).xid() != first;
        assert_eq!(is_another, due.since(START) >= config().retry.max / 2);
        changed.push(is_another);
    }
    assert!(changed.contains(&false) && changed.contains(&true));
}
