//! What a client reports to its driver.

use std::fmt;
use std::net::Ipv4Addr;

use crate::lease::Lease;

/// A change of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a driver handles one event at a time, so boxing would save nothing"
)]
pub enum Event {
    /// A server granted this address, and the driver must not use it yet: it checks that no other
    /// host uses the address, then calls [`accept`](crate::Client::accept) or
    /// [`decline`](crate::Client::decline). Reported only with
    /// [`Config::probe_before_bind`](crate::Config::probe_before_bind).
    Granted(Lease),
    /// The address may be used until [`Lease::expires_at`].
    Bound(Lease),
    /// The server extended the lease. The address is the same; times and options may differ.
    Renewed {
        /// The lease before.
        old: Lease,
        /// The lease from now on.
        new: Lease,
    },
    /// The address must be removed from the interface now, and the client has begun to look for
    /// another one (or, with [`Config::only_address`](crate::Config::only_address), for the same
    /// one). Reported only for a lease that was bound or resumed before.
    Lost {
        /// The lease that ended.
        lease: Lease,
        /// What ended it.
        reason: LossReason,
    },
    /// A server offered another address than the only one that the client takes
    /// ([`Config::only_address`](crate::Config::only_address)). The client has ignored the offer, so
    /// the server does not lease that address to it.
    OtherOffered {
        /// The address in the offer.
        address: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
    },
}

/// What ended a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// No server extended it in time.
    Expired,
    /// A server refused to extend or confirm it.
    Nak(Nak),
    /// The driver found another host that uses the address.
    Declined,
    /// The interface has another Ethernet address, and servers knew the client by the one before.
    MacChanged,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossReason::Expired => f.write_str("expired"),
            LossReason::Nak(nak) => nak.fmt(f),
            LossReason::Declined => f.write_str("declined: another host uses the address"),
            LossReason::MacChanged => {
                f.write_str("the interface has another MAC, by which servers identify it")
            }
        }
    }
}

/// A server's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nak {
    /// The server that refused.
    pub server: Ipv4Addr,
    /// The server's text (option 56), without control characters and cut at 128 characters.
    pub message: Option<String>,
}

impl fmt::Display for Nak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NAK from {}", self.server)?;
        match &self.message {
            Some(message) => write!(f, ": {message:?}"),
            None => Ok(()),
        }
    }
}
