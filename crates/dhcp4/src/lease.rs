//! A lease: an address, for how long, from whom, and what came with it.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::time::Instant;

/// An address that a server lent, and everything said with it.
///
/// The three times are counted from [`requested_at`](Lease::requested_at), the moment at which the message was sent
/// that the server answered (RFC 2131 section 4.4.1), never from the arrival of the answer: so the client never
/// believes in a lease for longer than its server does. All three are `None` in a lease without end, and
/// `t1 < t2 < lifetime` in any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of the subnet's prefix.
    pub prefix_len: u8,
    /// The server's identifier (option 54).
    pub server_id: Ipv4Addr,
    /// When the lease began to run.
    pub requested_at: Instant,
    /// How long the lease is; `None`: it has no end.
    pub lifetime: Option<Duration>,
    /// When to ask the same server for more.
    pub t1: Option<Duration>,
    /// When to ask any server for more.
    pub t2: Option<Duration>,
    /// What else the server said.
    pub options: Options,
}

impl Lease {
    /// The address with its prefix, host bits kept.
    pub fn net(&self) -> Ipv4Net {
        Ipv4Net::new_assert(self.address, self.prefix_len.min(32))
    }

    /// When to ask the same server for more (before jitter); `None` for a lease without end.
    pub fn t1_at(&self) -> Option<Instant> {
        self.t1.map(|t1| self.requested_at + t1)
    }

    /// When to ask any server for more (before jitter); `None` for a lease without end.
    pub fn t2_at(&self) -> Option<Instant> {
        self.t2.map(|t2| self.requested_at + t2)
    }

    /// When the address must no longer be used; `None` for a lease without end.
    pub fn expires_at(&self) -> Option<Instant> {
        self.lifetime.map(|lifetime| self.requested_at + lifetime)
    }

    /// How much of the lease is left; `None` for a lease without end.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.expires_at().map(|end| end.since(now))
    }
}
