//! INIT-REBOOT: a request for an address that the client had before.

use dhcp4::Client;

use crate::support::script::play;
use crate::support::{START, config, past_lease};

fn reboot() -> Client {
    Client::reboot(config(), 1, past_lease(), START)
}

#[test]
fn an_address_from_before_is_leased_again_in_one_round_trip() {
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
fn without_an_answer_discovery_follows_and_asks_for_the_address() {
    play(
        reboot(),
        "
        0      > REQUEST to=all 50=10.0.0.5
        ~1     > DISCOVER to=all 50=10.0.0.5
        ",
    );
}

#[test]
fn after_a_refusal_by_any_server_discovery_does_not_ask_for_the_address() {
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
fn another_address_is_not_taken() {
    play(
        reboot(),
        "
        0      > REQUEST to=all 50=10.0.0.5
        0.1    x ACK 10.0.0.6 from=10.0.0.1 lease=60 / not the address asked for
        0.1    x OFFER 10.0.0.6 from=10.0.0.1 lease=60 / not awaited in REBOOTING
        ",
    );
}
