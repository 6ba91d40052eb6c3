//! A lease: an address, its times, its server, and the options that came with it.

mod assumption;
mod routes;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::options::Options;

use crate::time::Instant;
pub(crate) use assumption::ASSUMED_LIFETIME;
pub use assumption::Assumption;

/// An address that a server leased to the client.
///
/// Its times count from [`requested_at`](Lease::requested_at), when the client sent the message
/// that the server answered (RFC 2131 section 4.4.1), and not from the arrival of the answer. So
/// the client never uses an address for longer than the server reserves it.
///
/// `lifetime`, `t1` and `t2` are `None` in an infinite lease. In any other lease of a [`Client`],
/// `t1 < t2 < lifetime`.
///
/// A lease can be serialized and given to [`Client::resume`] later, also by a newer version of this
/// crate.
///
/// [`Client`]: crate::Client
/// [`Client::resume`]: crate::Client::resume
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv4Addr,
    /// The prefix length of the subnet; that of the address' class if the server sent no mask.
    pub prefix_len: u8,
    /// The server's identifier (option 54), or the address that it sent from if it has none.
    pub server_id: Ipv4Addr,
    /// The start of the lease.
    pub requested_at: Instant,
    /// The duration of the lease; `None` if it is infinite.
    pub lifetime: Option<Duration>,
    /// T1: when the client begins to ask the same server for an extension.
    pub t1: Option<Duration>,
    /// T2: when the client begins to ask any server for an extension.
    pub t2: Option<Duration>,
    /// The other options of the ACK. What the ACK lacked was taken from the OFFER, or, in an
    /// extended lease, from the lease before.
    pub options: Options,
}

impl Lease {
    /// The address with its prefix length, host bits included.
    pub fn net(&self) -> Ipv4Net {
        Ipv4Net::new_assert(self.address, self.prefix_len.min(32))
    }

    /// When the address must no longer be used; `None` if the lease is infinite.
    pub fn expires_at(&self) -> Option<Instant> {
        self.lifetime.map(|lifetime| self.requested_at + lifetime)
    }

    /// The time left until the lease expires, zero if it has; `None` if the lease is infinite.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.expires_at().map(|end| end.since(now))
    }

    /// Whether the lease has expired or comes from another boot. A lease that starts in the future
    /// must be from another boot, and then none of its times can be relied on.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.requested_at > now || self.expires_at().is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{RawOption, Route};

    /// A lease as version 0.1.0 wrote it, with options that are no longer interpreted.
    const FROM_0_1_0: &str = r#"{
        "address": "10.99.0.100",
        "prefix_len": 24,
        "server_id": "10.99.0.1",
        "requested_at": {"secs": 7560, "nanos": 804000000},
        "lifetime": {"secs": 120, "nanos": 0},
        "t1": {"secs": 60, "nanos": 0},
        "t2": {"secs": 105, "nanos": 0},
        "options": {
            "routers": ["10.99.0.1"],
            "static_routes": [{"dst": "192.168.7.0/24", "gateway": "10.99.0.9"}],
            "classless_routes": [{"dst": "10.1.0.0/16", "gateway": null}],
            "dns": ["10.99.0.2"],
            "domain": "lan.example",
            "search": ["lan.example"],
            "ntp": ["10.99.0.1"],
            "mtu": 1400,
            "broadcast": "10.99.0.255",
            "hostname": "web-0",
            "ipv6_only_wait": {"secs": 1800, "nanos": 0},
            "raw": [{"code": 42, "data": "0a630001"}, {"code": 108, "data": "00000708"}]
        }
    }"#;

    #[test]
    fn a_lease_written_by_version_0_1_0_is_still_read() {
        let route = |dst: &str, gateway: Option<[u8; 4]>| Route {
            dst: dst.parse().unwrap(),
            gateway: gateway.map(Ipv4Addr::from),
        };
        let expected = Lease {
            address: [10, 99, 0, 100].into(),
            prefix_len: 24,
            server_id: [10, 99, 0, 1].into(),
            requested_at: Instant::from_boot(Duration::from_millis(7_560_804)),
            lifetime: Some(Duration::from_secs(120)),
            t1: Some(Duration::from_secs(60)),
            t2: Some(Duration::from_secs(105)),
            options: Options {
                routers: vec![[10, 99, 0, 1].into()],
                static_routes: vec![route("192.168.7.0/24", Some([10, 99, 0, 9]))],
                classless_routes: vec![route("10.1.0.0/16", None)],
                dns: vec![[10, 99, 0, 2].into()],
                domain: Some("lan.example".into()),
                search: vec!["lan.example".into()],
                mtu: Some(1400),
                broadcast: Some([10, 99, 0, 255].into()),
                raw: vec![
                    RawOption::new(42, [10, 99, 0, 1]),
                    RawOption::new(108, [0, 0, 7, 8]),
                ]
                .into(),
            },
        };
        let read: Lease = serde_json::from_str(FROM_0_1_0).unwrap();
        assert_eq!(read, expected);
    }
}
