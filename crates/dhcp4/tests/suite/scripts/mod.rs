//! Conversations with a server, each written like a packet capture.

mod acquiring;
mod carrier;
mod deadline;
mod fields;
mod keeping;
mod leaving;
mod lenient;
mod mac;
mod only_address;
mod rapid_commit;
mod rebooting;
mod resuming;

use dhcp4::{Client, Config};

use crate::support::START;

fn new(config: Config) -> Client {
    Client::new(config, 1, START)
}

/// A client that has leased 10.0.0.5 from 10.0.0.1, with these options in OFFER and ACK.
fn bound(config: Config, options: &str) -> Client {
    crate::support::script::play(
        new(config),
        &format!(
            "0 > DISCOVER to=all
             0 < OFFER 10.0.0.5 from=10.0.0.1 {options}
             0 > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
             0 < ACK 10.0.0.5 from=10.0.0.1 {options}
             0 = BOUND 10.0.0.5"
        ),
    )
}
