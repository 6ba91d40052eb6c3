//! Addresses for unit tests.

use linknet::{Address, Dad, Scope};

/// A permanent address of the link with this index.
pub(super) fn address(index: u32, net: &str) -> Address {
    Address {
        index,
        net: net.parse().unwrap(),
        peer: None,
        broadcast: None,
        scope: Scope::UNIVERSE,
        valid: None,
        preferred: None,
        dad: Dad::Done,
        secondary: false,
        metric: None,
        protocol: None,
    }
}
