//! The interface gets another Ethernet address.

use dhcp4::Config;

use super::{bound, new};
use crate::support::config;
use crate::support::script::play;

#[test]
fn a_client_with_an_identifier_has_its_lease_confirmed() {
    play(
        bound(config(), "lease=1000"),
        "
        100    ! mac
        100    > REQUEST to=all chaddr=..2 50=10.0.0.5
        100.1  < ACK 10.0.0.5 from=10.0.0.1 lease=1000
        100.1  = RENEWED 10.0.0.5 until=1100.0
        ~600   > REQUEST to=10.0.0.1 from=10.0.0.5 chaddr=..2 ciaddr=10.0.0.5
        ",
    );
}

#[test]
fn a_client_that_servers_know_by_its_mac_releases_its_lease_and_asks_for_the_address_again() {
    let by_mac = Config {
        client_id: None,
        ..config()
    };
    for config in [by_mac, config()] {
        play(
            bound(config, "lease=1000"),
            "
            100    ! mac without identifier
            100    = LOST 10.0.0.5 the interface has another MAC
            100    > RELEASE to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5 54=10.0.0.1
            100.001 > DISCOVER to=all chaddr=..2 50=10.0.0.5
            ",
        );
    }
}

#[test]
fn a_client_that_looks_for_an_address_starts_over() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0.1    ! mac
        0.1    > DISCOVER to=all chaddr=..2
        0.2    < OFFER 10.0.0.5 from=10.0.0.1 lease=1000
        0.2    > REQUEST to=all chaddr=..2 50=10.0.0.5 54=10.0.0.1
        0.3    ! mac without identifier
        0.3    > DISCOVER to=all chaddr=..2
        ",
    );
}
