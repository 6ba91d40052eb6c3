//! What a client did and saw: enough to tell a user why there is no address.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::{Nak, StateName};

/// Counts over a client's life. Its `Display` is the sentence for a user's error message:
/// `sent 5 DISCOVER, received 4 frames; 4 offers ignored: wrong chaddr`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages handed out for sending, by type.
    pub sent: BTreeMap<Sent, u64>,
    /// Payloads handed in.
    pub received: u64,
    /// Those of them that were not for us, malformed or out of place.
    pub ignored: BTreeMap<Ignored, u64>,
    /// The last NAK that was heeded.
    pub last_nak: Option<Nak>,
}

/// The messages a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sent {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST, in any of its four uses.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
}

/// A payload that was not acted upon. The state is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{kind} ignored: {reason}")]
pub struct Ignored {
    /// What it was, as far as that was found out.
    pub kind: Kind,
    /// Why it was ignored.
    pub reason: Reason,
}

/// What a payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// Anything else.
    Frame,
}

/// Why a payload was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Shorter than the fixed header.
    TooShort,
    /// Longer than any server has reason to send.
    TooLong,
    /// A request, not a reply.
    NotReply,
    /// For other hardware than Ethernet.
    NotEthernet,
    /// BOOTP without DHCP's magic cookie.
    NoCookie,
    /// Without a message type, or one that servers do not send.
    WrongType,
    /// To another client's hardware address.
    WrongChaddr,
    /// Of another exchange.
    WrongXid,
    /// Echoing another client's identifier (RFC 6842).
    WrongClientId,
    /// From a server that does not say who it is.
    NoServerId,
    /// From a server that the configuration excludes.
    ServerNotAllowed,
    /// From another server than the one asked.
    WrongServer,
    /// Not an answer to anything asked in this state.
    NotAwaited(StateName),
    /// An ACK to a DISCOVER without the Rapid Commit option (RFC 4039).
    NotRapidCommit,
    /// Without an address that a host can have.
    BadAddress,
    /// For another address than the one requested.
    OtherAddress,
    /// Without a lease time, or with one of zero.
    NoLeaseTime,
    /// With a lease that has ended already.
    TooLate,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received {} frames", self.received)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Offer => "offer",
            Kind::Ack => "ACK",
            Kind::Nak => "NAK",
            Kind::Frame => "frame",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ignored")
    }
}
