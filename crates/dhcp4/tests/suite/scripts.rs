//! Whole exchanges, each as one would see it in a capture.

use dhcp4::{Client, Config};

use crate::support::script::play;
use crate::support::{START, config};

fn new(config: Config) -> Client {
    Client::new(config, 1, START)
}

#[test]
fn an_address_is_won_in_two_round_trips_and_renewed_at_half_its_time() {
    play(
        new(config()),
        "
        0      > DISCOVER to=all
        0.1    < OFFER 10.0.0.5 from=10.0.0.1 lease=3600
        0.1    > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
        0.2    < ACK 10.0.0.5 from=10.0.0.1 lease=3600
        0.2    = BOUND 10.0.0.5 until=3600.1
        0.2    . BOUND
        ~1800  > REQUEST to=10.0.0.1 from=10.0.0.5 ciaddr=10.0.0.5
        1900   . RENEWING
        1900   < ACK 10.0.0.5 from=10.0.0.1 lease=3600
        1900   = RENEWED 10.0.0.5
        ",
    );
}
