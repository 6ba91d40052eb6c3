//! The carrier returns while the client has a lease.

use super::bound;
use crate::support::config;
use crate::support::script::play;

#[test]
fn on_the_same_network_the_lease_is_confirmed() {
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
fn on_another_network_the_lease_is_lost() {
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
fn without_an_answer_the_rest_of_the_lease_is_used() {
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
fn asking_again_does_not_prolong_the_lease() {
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
