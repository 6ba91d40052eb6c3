//! Prefixes as they stand in the configuration.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads a prefix, or an address as the prefix of its own; `None` for any other text. Bits beyond
/// the prefix are dropped.
pub fn parse_prefix(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let prefix = text.parse::<IpNet>().or_else(|_| address());
    prefix.map(|prefix| prefix.trunc()).ok()
}
