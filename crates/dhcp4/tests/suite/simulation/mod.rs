//! A LAN with all kinds of faults: packets are lost, duplicated and reordered, the server stops and
//! returns, and containers are started, stopped and restarted. It runs on a virtual clock, and the
//! seed determines everything that happens.

mod lan;
mod server;

use lan::{Faults, Lan};

/// Seconds in an hour.
const HOUR: u64 = 3600;

#[test]
fn a_thousand_clients_on_a_bad_network_never_share_an_address_and_each_gets_one_in_the_end() {
    let mut lan = Lan::new(1, 1000, 600);
    lan.faults = Faults {
        loss: 0.2,
        duplication: 0.1,
        slowest_ms: 3000,
        churn: true,
    };
    for _ in 0..6 {
        lan.run(600);
        lan.server.is_up = false;
        lan.run(200);
        lan.server.is_up = true;
    }
    lan.faults = Faults::NONE;
    lan.run(600);
    assert_eq!(lan.bound(), lan.alive(), "{}", lan.summary());
    assert!(lan.renewals > 5_000, "{}", lan.summary());
}

#[test]
fn the_same_seed_gives_the_same_course_of_events() {
    let run = |seed| {
        let mut lan = Lan::new(seed, 50, 60);
        lan.faults = Faults {
            loss: 0.3,
            duplication: 0.2,
            slowest_ms: 5000,
            churn: true,
        };
        lan.run(1000);
        (lan.trace, lan.summary())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn all_clients_follow_when_their_server_forgets_its_leases_and_changes_its_subnet() {
    let mut lan = Lan::new(2, 100, 600);
    lan.run(60);
    assert_eq!(lan.bound(), 100);
    lan.server.forget_and_renumber([192, 168, 0, 0]);
    lan.run(2 * 600);
    assert_eq!(lan.bound(), 100);
    assert!(
        lan.addresses().all(|address| address.octets()[0] == 192),
        "all clients are in the new subnet"
    );
}

#[test]
fn a_lease_of_an_hour_takes_two_messages_per_half_hour_and_returns_after_an_outage() {
    let mut lan = Lan::new(3, 1, HOUR as u32);
    lan.run(12 * HOUR);
    // A renewal every half hour, more or less.
    assert!((22..=26).contains(&lan.renewals), "{}", lan.summary());
    assert_eq!(lan.sent, lan.renewals + 2, "{}", lan.summary());

    lan.server.is_up = false;
    lan.run(2 * HOUR);
    assert_eq!((lan.bound(), lan.losses), (0, 1), "{}", lan.summary());
    lan.server.is_up = true;
    lan.run(10 * HOUR);
    assert_eq!((lan.bound(), lan.losses), (1, 1), "{}", lan.summary());
}

#[test]
fn no_lease_of_four_seconds_is_lost_on_a_good_network() {
    let mut lan = Lan::new(4, 20, 4);
    lan.faults = Faults {
        slowest_ms: 100,
        ..Faults::NONE
    };
    lan.run(600);
    assert_eq!((lan.bound(), lan.losses), (20, 0), "{}", lan.summary());
}

#[test]
fn clients_without_an_address_get_one_when_others_leave_an_exhausted_pool() {
    let mut lan = Lan::new(5, 300, 600);
    lan.run(120);
    assert_eq!(lan.bound(), 253, "{}", lan.summary());
    lan.release(50);
    lan.run(300);
    assert_eq!(lan.bound(), 250, "{}", lan.summary());
}
