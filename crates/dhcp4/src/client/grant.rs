//! What a server's OFFER or ACK grants.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::state::Server;
use crate::address::{class_prefix_len, is_host};
use crate::lease::{ASSUMED_LIFETIME, Lease};
use crate::options::{RawOption, code};
use crate::report::IgnoreReason;
use crate::time::Instant;
use crate::wire::Reply;

/// The address of an OFFER or ACK, if it could become a lease.
///
/// An OFFER may lack the lease time (option 51): only the ACK starts a lease. A pool that contains
/// the addresses of server or router is a mistake that would cost the LAN one of the two.
pub(super) fn offered_address(reply: &Reply, server: Server) -> Result<Ipv4Addr, IgnoreReason> {
    let address = reply.yiaddr;
    if !is_host(address) {
        Err(IgnoreReason::BadAddress)
    } else if server.id == Some(address) || server.source == address {
        Err(IgnoreReason::AddressOfServer)
    } else if reply.routers().contains(&address) {
        Err(IgnoreReason::AddressOfRouter)
    } else if reply.lease_time() == Some(0) {
        Err(IgnoreReason::NoLeaseTime)
    } else {
        Ok(address)
    }
}

/// The options of a lease that an ACK extends, as far as they stay in force if the ACK lacks them.
///
/// An ACK with a mask describes the whole subnet. If it lacks MTU and broadcast address, the server
/// no longer has them configured, and their defaults apply.
pub(super) fn lasting_options(lease: &Lease, ack: &Reply) -> Vec<RawOption> {
    let is_whole = ack.prefix_len().is_some();
    let lasts = |code: &u8| !(is_whole && [code::MTU, code::BROADCAST].contains(code));
    let options = lease.options.raw.iter().filter(|(code, _)| lasts(code));
    options
        .map(|(code, data)| RawOption::new(code, data))
        .collect()
}

/// The lease that an ACK grants, if the client requested it at this time. `earlier` are the options
/// of the OFFER, or of the lease before: what the ACK lacks is taken from there.
pub(super) fn granted_lease(
    mut ack: Reply,
    server: Server,
    requested_at: Instant,
    earlier: &[RawOption],
) -> Result<Lease, IgnoreReason> {
    ack.complete(earlier);
    let address = offered_address(&ack, server)?;
    let times = Times::of(&ack);
    Ok(Lease {
        address,
        prefix_len: ack
            .prefix_len()
            .unwrap_or_else(|| class_prefix_len(address)),
        server_id: server.address(),
        requested_at,
        lifetime: times.lifetime,
        t1: times.t1,
        t2: times.t2,
        options: ack.into_options(),
    })
}

struct Times {
    lifetime: Option<Duration>,
    t1: Option<Duration>,
    t2: Option<Duration>,
}

impl Times {
    /// Reads the server's times. T1 and T2 default to 0.5 and 0.875 of the lease (RFC 2131 section
    /// 4.4.5) if the server's values are missing or out of order.
    fn of(ack: &Reply) -> Times {
        const INFINITE: u32 = u32::MAX; // RFC 2131 section 3.3

        let lifetime = match ack.lease_time() {
            Some(INFINITE) => {
                return Times {
                    lifetime: None,
                    t1: None,
                    t2: None,
                };
            }
            Some(seconds) => Duration::from_secs(seconds.into()),
            None => ASSUMED_LIFETIME,
        };
        let nonzero = |seconds: Option<u32>| {
            seconds
                .map(|s| Duration::from_secs(s.into()))
                .filter(|t| !t.is_zero())
        };
        let t2 = nonzero(ack.t2())
            .filter(|&t2| t2 < lifetime)
            .unwrap_or(lifetime * 7 / 8);
        // If T2 is less than half the lease, T1 is to T2 as the defaults are to each other.
        let t1 = nonzero(ack.t1())
            .filter(|&t1| t1 < t2)
            .unwrap_or((lifetime / 2).min(t2 * 4 / 7));
        Times {
            lifetime: Some(lifetime),
            t1: Some(t1),
            t2: Some(t2),
        }
    }
}
