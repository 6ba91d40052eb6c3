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

impl Report {
    pub(crate) fn count_sent(&mut self, kind: Sent) {
        *self.sent.entry(kind).or_default() += 1;
    }

    pub(crate) fn count_ignored(&mut self, ignored: Ignored) {
        *self.ignored.entry(ignored).or_default() += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sent.is_empty() {
            f.write_str("sent nothing")?;
        }
        for (index, (kind, count)) in self.sent.iter().enumerate() {
            let before = if index == 0 { "sent" } else { "," };
            write!(f, "{before} {count} {kind}")?;
        }
        let s = if self.received == 1 { "" } else { "s" };
        write!(f, ", received {} frame{s}", self.received)?;
        for (Ignored { kind, reason }, count) in &self.ignored {
            let s = if *count == 1 { "" } else { "s" };
            write!(f, "; {count} {kind}{s} ignored: {reason}")?;
        }
        match &self.last_nak {
            Some(nak) => write!(f, "; {nak}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sent::Discover => "DISCOVER",
            Sent::Request => "REQUEST",
            Sent::Decline => "DECLINE",
            Sent::Release => "RELEASE",
            Sent::Inform => "INFORM",
        })
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
        f.write_str(match self {
            Reason::TooShort => "too short for DHCP",
            Reason::TooLong => "too long for DHCP",
            Reason::NotReply => "a request, not a reply",
            Reason::NotEthernet => "not for Ethernet",
            Reason::NoCookie => "BOOTP, not DHCP",
            Reason::WrongType => "no message type that servers send",
            Reason::WrongChaddr => "wrong chaddr",
            Reason::WrongXid => "wrong transaction id",
            Reason::WrongClientId => "wrong client identifier",
            Reason::NoServerId => "no server identifier",
            Reason::ServerNotAllowed => "server not allowed",
            Reason::WrongServer => "not from the server asked",
            Reason::NotAwaited(state) => return write!(f, "not awaited in {state}"),
            Reason::NotRapidCommit => "no rapid commit",
            Reason::BadAddress => "no usable address",
            Reason::OtherAddress => "not the address asked for",
            Reason::NoLeaseTime => "no lease time",
            Reason::TooLate => "the lease has ended already",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_reads_as_silence() {
        let mut report = Report::default();
        assert_eq!(report.to_string(), "sent nothing, received 0 frames");
        for _ in 0..5 {
            report.count_sent(Sent::Discover);
        }
        assert_eq!(report.to_string(), "sent 5 DISCOVER, received 0 frames");
    }

    #[test]
    fn what_was_ignored_is_counted_by_reason() {
        let mut report = Report {
            received: 6,
            ..Report::default()
        };
        report.count_sent(Sent::Discover);
        report.count_sent(Sent::Request);
        for _ in 0..4 {
            report.count_ignored(Ignored {
                kind: Kind::Offer,
                reason: Reason::WrongChaddr,
            });
        }
        report.count_ignored(Ignored {
            kind: Kind::Nak,
            reason: Reason::NotAwaited(StateName::Bound),
        });
        report.last_nak = Some(Nak {
            server: "10.0.0.1".parse().unwrap(),
            message: Some("go away".into()),
        });
        assert_eq!(
            report.to_string(),
            "sent 1 DISCOVER, 1 REQUEST, received 6 frames; 4 offers ignored: wrong chaddr; \
             1 NAK ignored: not awaited in BOUND; NAK from 10.0.0.1: \"go away\""
        );
    }
}
