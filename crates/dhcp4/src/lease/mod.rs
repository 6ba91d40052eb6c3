//! A lease: an address, for how long, from whom, and what came with it.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::options::{Options, is_host};
use crate::report::Reason;
use crate::routes::class_prefix_len;
use crate::time::Instant;
use crate::wire::Reply;

/// An address that a server lent, and everything said with it.
///
/// The three times are counted from [`requested_at`](Lease::requested_at), the moment at which the
/// message was sent that the server answered (RFC 2131 section 4.4.1), never from the arrival of
/// the answer: so the client never believes in a lease for longer than its server does. All three
/// are `None` in a lease without end, and `t1 < t2 < lifetime` in any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of the subnet's prefix; where the server told none, that of the address' class.
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

    /// The lease that an ACK grants, counted from when it was asked for.
    pub(crate) fn from_ack(
        ack: Reply,
        server_id: Ipv4Addr,
        requested_at: Instant,
    ) -> Result<Lease, Reason> {
        let address = offered_address(&ack)?;
        let times = Times::new(&ack)?;
        Ok(Lease {
            address,
            prefix_len: ack
                .prefix_len()
                .unwrap_or_else(|| class_prefix_len(address)),
            server_id,
            requested_at,
            lifetime: times.lifetime,
            t1: times.t1,
            t2: times.t2,
            options: ack.into_options(),
        })
    }

    /// Whether the lease has run out, or is from another boot: one that is yet to begin says
    /// nothing that can be relied on.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.requested_at > now || self.expires_at().is_some_and(|end| end <= now)
    }
}

/// The address of an OFFER or ACK that could become a lease.
pub(crate) fn offered_address(reply: &Reply) -> Result<Ipv4Addr, Reason> {
    match (is_host(reply.yiaddr), reply.lease_time()) {
        (false, _) => Err(Reason::BadAddress),
        (true, None | Some(0)) => Err(Reason::NoLeaseTime),
        (true, Some(_)) => Ok(reply.yiaddr),
    }
}

struct Times {
    lifetime: Option<Duration>,
    t1: Option<Duration>,
    t2: Option<Duration>,
}

impl Times {
    /// The server's times where they make sense, 0.5 and 0.875 of the lease (RFC 2131 section
    /// 4.4.5) where not.
    fn new(ack: &Reply) -> Result<Times, Reason> {
        const INFINITE: u32 = u32::MAX; // RFC 2131 section 3.3

        let lifetime = match ack.lease_time() {
            None | Some(0) => return Err(Reason::NoLeaseTime),
            Some(INFINITE) => {
                return Ok(Times {
                    lifetime: None,
                    t1: None,
                    t2: None,
                });
            }
            Some(seconds) => Duration::from_secs(seconds.into()),
        };
        let told = |seconds: Option<u32>| {
            seconds
                .map(|s| Duration::from_secs(s.into()))
                .filter(|t| !t.is_zero())
        };
        let t2 = told(ack.t2())
            .filter(|&t2| t2 < lifetime)
            .unwrap_or(lifetime * 7 / 8);
        // Where T2 comes before half the lease, T1 keeps the default's proportion to it.
        let t1 = told(ack.t1())
            .filter(|&t1| t1 < t2)
            .unwrap_or((lifetime / 2).min(t2 * 4 / 7));
        Ok(Times {
            lifetime: Some(lifetime),
            t1: Some(t1),
            t2: Some(t2),
        })
    }
}
