//! What a server left out, and a client has to assume.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::Lease;
use crate::address::lan_prefix_len;
use crate::options::code;

/// How long a lease is if no message of the server said so. RFC 2131 demands that the ACK does;
/// other clients assume an hour too.
pub(crate) const ASSUMED_LIFETIME: Duration = Duration::from_secs(3600);

/// A part of a lease that its server should have sent, and did not. Its `Display` is a sentence for
/// a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assumption {
    /// The prefix length: that of the address' class.
    PrefixLen {
        /// The prefix length that is used.
        assumed: u8,
        /// What the server sent instead of a mask that a LAN can have.
        mask: Option<Ipv4Addr>,
    },
    /// The duration of the lease: an hour.
    Lifetime,
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Assumption::PrefixLen {
                assumed,
                mask: None,
            } => write!(
                f,
                "the server sent no subnet mask, so /{assumed} is a guess"
            ),
            Assumption::PrefixLen {
                assumed,
                mask: Some(mask),
            } => write!(
                f,
                "the server sent the subnet mask {mask}, which no LAN has, so /{assumed} is a guess"
            ),
            Assumption::Lifetime => {
                f.write_str("the server sent no lease time, so one hour is assumed")
            }
        }
    }
}

impl Lease {
    /// What the server should have sent and did not.
    pub fn assumptions(&self) -> Vec<Assumption> {
        let mask = self.address_in(code::SUBNET_MASK);
        let prefix_len = match mask.and_then(lan_prefix_len) {
            Some(_) => None,
            None => Some(Assumption::PrefixLen {
                assumed: self.prefix_len,
                mask,
            }),
        };
        let time = self.options.raw.get(code::LEASE_TIME);
        let has_time = time.is_some_and(|data| data.len() == 4);
        let lifetime = (!has_time).then_some(Assumption::Lifetime);
        prefix_len.into_iter().chain(lifetime).collect()
    }

    fn address_in(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.options.raw.get(code)?.try_into().ok()?;
        Some(octets.into())
    }
}
