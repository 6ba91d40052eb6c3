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

/// Reads the same where it says who is trusted: `None` if there are bits beyond the prefix, because
/// a single address may have been meant.
pub(crate) fn parse_exact_prefix(text: &str) -> Option<IpNet> {
    let has_length = text.contains('/');
    let prefix = parse_prefix(text)?;
    let is_exact = !has_length || text.parse() == Ok(prefix);
    is_exact.then_some(prefix)
}
