//! Whole exchanges, each as one would see it in a capture.

mod acquiring;
mod keeping;
mod leaving;

use dhcp4::{Client, Config};

use crate::support::START;

fn new(config: Config) -> Client {
    Client::new(config, 1, START)
}

/// The beginning that most scripts share: 10.0.0.5 from 10.0.0.1, for the given configuration and
/// lease time.
fn bound(config: Config, lease: &str) -> Client {
    crate::support::script::play(
        new(config),
        &format!(
            "0 > DISCOVER to=all
             0 < OFFER 10.0.0.5 from=10.0.0.1 {lease}
             0 > REQUEST to=all 50=10.0.0.5 54=10.0.0.1
             0 < ACK 10.0.0.5 from=10.0.0.1 {lease}
             0 = BOUND 10.0.0.5"
        ),
    )
}
