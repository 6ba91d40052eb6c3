//! Servers that leave out what RFC 2131 demands.

use dhcp4::Client;

use super::{bound, new};
use crate::support::script::play;
use crate::support::{START, config, past_lease};

fn net(client: &Client) -> String {
    client.lease().expect("a lease").net().to_string()
}

fn assumptions(client: &Client) -> Vec<String> {
    let assumptions = client.lease().expect("a lease").assumptions();
    assumptions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_server_without_an_identifier_is_known_by_the_address_that_it_sends_from() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 source=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5
        0.1    x ACK 10.0.0.5 source=10.0.0.2 lease=60 / not from the server asked
        0.1    x NAK source=10.0.0.2 / not from the server asked
        0.1    < ACK 10.0.0.5 source=10.0.0.1 lease=60
        0.1    = BOUND 10.0.0.5
        ~30    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        40     x NAK source=10.0.0.2 / not from the server asked
        40     < ACK 10.0.0.5 source=10.0.0.1 lease=60
        40     = RENEWED 10.0.0.5
        41     ! release
        41     > RELEASE to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5 54=10.0.0.1
        ",
    );
}

#[test]
fn an_identifier_of_zeroes_counts_as_none() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=0.0.0.0 source=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5
        0      < ACK 10.0.0.5 from=0.0.0.0 source=10.0.0.1 lease=60
        0      = BOUND 10.0.0.5
        ",
    );
}

#[test]
fn a_server_may_name_itself_in_one_message_and_not_in_the_other() {
    for (offer, request, ack) in [
        (
            "from=10.0.0.1 source=10.9.9.9",
            "54=10.0.0.1",
            "source=10.9.9.9",
        ),
        ("source=10.0.0.1", "", "from=10.0.0.7 source=10.0.0.1"),
    ] {
        play(
            new(config()),
            &format!(
                "
                0      > DISCOVER to=all
                0      < OFFER 10.0.0.5 {offer} lease=60
                0      > REQUEST to=all 50=10.0.0.5 {request}
                0      < ACK 10.0.0.5 {ack} lease=60
                0      = BOUND 10.0.0.5
                "
            ),
        );
    }
}

#[test]
fn only_the_ack_must_say_how_long_the_lease_is() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=60
        0      = BOUND 10.0.0.5 until=60.0
        ",
    );
}

#[test]
fn without_any_lease_time_one_hour_is_assumed_and_said() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 mask=255.255.255.0
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0      < ACK 10.0.0.5 from=10.0.0.1
        0      = BOUND 10.0.0.5 until=3600.0
        ~1800  > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
    assert_eq!(
        assumptions(&client),
        ["the server sent no lease time, so one hour is assumed"]
    );
}

#[test]
fn what_an_ack_lacks_is_what_its_offer_had() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60 mask=255.255.255.0 router=10.0.0.1 mtu=1400
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0      < ACK 10.0.0.5 from=10.0.0.1
        0      = BOUND 10.0.0.5 until=60.0
        ",
    );
    let lease = client.lease().expect("a lease");
    assert_eq!(net(&client), "10.0.0.5/24");
    assert_eq!(lease.options.mtu, Some(1400));
    assert_eq!(lease.routes()[0].gateway, Some([10, 0, 0, 1].into()));
    assert_eq!(assumptions(&client), [""; 0]);
}

#[test]
fn what_an_ack_has_overrides_its_offer() {
    let client = play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60 t1=10 mask=255.255.255.0 router=10.0.0.1
        0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=80 mask=255.255.0.0 router=10.0.0.2
        0      = BOUND 10.0.0.5 until=80.0
        ~40    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        ",
    );
    assert_eq!(net(&client), "10.0.0.5/16");
    let routes = client.lease().expect("a lease").routes();
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].gateway, Some([10, 0, 0, 2].into()));
}

#[test]
fn a_renewal_that_leaves_something_out_changes_nothing() {
    let given = "lease=100 mask=255.255.255.0 router=10.0.0.1 mtu=1400";
    let client = play(
        bound(config(), given),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        60     < ACK 10.0.0.5 from=10.0.0.1
        60     = RENEWED 10.0.0.5
        ",
    );
    let lease = client.lease().expect("a lease");
    assert_eq!(net(&client), "10.0.0.5/24");
    assert_eq!(lease.options.mtu, Some(1400));
    assert_eq!(lease.routes()[0].gateway, Some([10, 0, 0, 1].into()));
    assert_eq!(lease.lifetime.map(|time| time.as_secs()), Some(100));
}

#[test]
fn a_renewal_with_a_mask_but_without_an_mtu_takes_the_mtu_away() {
    let given = "lease=100 mask=255.255.255.0 router=10.0.0.1 mtu=1400";
    let client = play(
        bound(config(), given),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        60     < ACK 10.0.0.5 from=10.0.0.1 lease=100 mask=255.255.255.0
        60     = RENEWED 10.0.0.5
        ",
    );
    let lease = client.lease().expect("a lease");
    assert_eq!((lease.options.mtu, lease.routes().len()), (None, 1));
}

#[test]
fn an_address_from_before_keeps_its_mask() {
    let client = play(
        Client::reboot(config(), 1, past_lease(), START),
        "
        0      > REQUEST to=all 50=10.0.0.5
        0      < ACK 10.0.0.5 from=10.0.0.1 lease=60
        0      = BOUND 10.0.0.5
        ",
    );
    assert_eq!(net(&client), "10.0.0.5/24");
}

#[test]
fn a_mask_that_no_server_sent_is_guessed_from_the_class_and_the_guess_is_said() {
    for (offered, mask, said) in [
        ("", "", "no subnet mask"),
        (
            "mask=128.0.0.0",
            "",
            "the subnet mask 128.0.0.0, which no LAN has",
        ),
        (
            "",
            "mask=255.0.255.0",
            "the subnet mask 255.0.255.0, which no LAN has",
        ),
    ] {
        let client = play(
            new(config()),
            &format!(
                "
                0      > DISCOVER to=all
                0      < OFFER 10.0.0.5 from=10.0.0.1 lease=60 {offered}
                0      > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
                0      < ACK 10.0.0.5 from=10.0.0.1 lease=60 {mask}
                0      = BOUND 10.0.0.5
                "
            ),
        );
        assert_eq!(net(&client), "10.0.0.5/8");
        let expected = format!("the server sent {said}, so /8 is a guess");
        let report = client.report().to_string();
        assert!(report.ends_with(&expected), "{report}");
        assert_eq!(assumptions(&client), [expected]);
    }
}

#[test]
fn a_mask_that_no_lan_has_does_not_replace_one_that_a_lan_has() {
    let client = play(
        bound(config(), "lease=100 mask=255.255.255.0"),
        "
        ~50    > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        60     < ACK 10.0.0.5 from=10.0.0.1 lease=100 mask=128.0.0.0
        60     = RENEWED 10.0.0.5
        ",
    );
    assert_eq!(net(&client), "10.0.0.5/24");
    assert_eq!(assumptions(&client), [""; 0]);
}

#[test]
fn servers_behind_one_relay_are_told_apart_by_their_identifiers() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0      < OFFER 10.0.0.5 from=10.9.0.1 source=10.0.0.1 lease=60
        0      > REQUEST to=all 50=10.0.0.5 54=10.9.0.1
        0.1    x NAK from=10.9.0.2 source=10.0.0.1 / not from the server asked
        0.2    < ACK 10.0.0.5 from=10.9.0.1 source=10.0.0.2 lease=60
        0.2    = BOUND 10.0.0.5
        ",
    );
}
