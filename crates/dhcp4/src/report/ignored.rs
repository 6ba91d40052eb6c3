//! Packets that a client does not act upon.

use std::fmt;
use std::net::Ipv4Addr;

use crate::state_name::StateName;

/// A payload that the client did not act upon. The client's state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{kind} ignored: {reason}")]
pub struct Ignored {
    /// The type of the message, as far as it could be read.
    pub kind: PacketKind,
    /// Why the client ignored it.
    pub reason: IgnoreReason,
}

/// The type of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketKind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// Any other payload.
    Frame,
}

/// Why a client ignored a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IgnoreReason {
    /// It is shorter than the fixed header.
    TooShort,
    /// It is longer than a jumbo frame.
    TooLong,
    /// It is a request, not a reply.
    NotReply,
    /// Its hardware address is not an Ethernet address.
    NotEthernet,
    /// It is a BOOTP message, without DHCP's magic cookie.
    NoCookie,
    /// It has no message type, or one that servers do not send.
    WrongType,
    /// It is for another client's hardware address.
    WrongChaddr,
    /// It belongs to another transaction.
    WrongXid,
    /// It echoes another client's identifier (RFC 6842).
    WrongClientId,
    /// It does not name its server, and does not come from an address that a server can have.
    NoServerId,
    /// It is from a server that the configuration excludes; `None` if it is one of many.
    ServerNotAllowed(Option<ExcludedServer>),
    /// It is from a server that was not asked.
    WrongServer,
    /// The client expects no such message in this state.
    NotAwaited(StateName),
    /// It is an ACK to a DISCOVER, but lacks the Rapid Commit option (RFC 4039).
    NotRapidCommit,
    /// It offers no address, or one that no host can have.
    BadAddress,
    /// It offers the address of the server that sent it.
    AddressOfServer,
    /// It offers the address of the router that it names (option 3).
    AddressOfRouter,
    /// It is for an address that was not requested.
    WrongAddress,
    /// It offers another address than the only one that the client takes.
    NotOnlyAddress,
    /// Its lease time is zero.
    NoLeaseTime,
    /// The lease that it grants has expired already.
    TooLate,
}

/// A server that the configuration excludes, as its message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExcludedServer {
    /// The server identifier (option 54); the source, if there is none.
    pub id: Ipv4Addr,
    /// The IP source of the message: the server's address, or that of a relay.
    pub source: Ipv4Addr,
}

impl fmt::Display for ExcludedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExcludedServer { id, source } = self;
        write!(f, "server {id}")?;
        match id == source {
            true => Ok(()),
            false => write!(f, " (at {source})"),
        }
    }
}

impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PacketKind::Offer => "offer",
            PacketKind::Ack => "ACK",
            PacketKind::Nak => "NAK",
            PacketKind::Frame => "frame",
        })
    }
}

impl fmt::Display for IgnoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IgnoreReason::TooShort => "too short for DHCP",
            IgnoreReason::TooLong => "too long for DHCP",
            IgnoreReason::NotReply => "a request, not a reply",
            IgnoreReason::NotEthernet => "not for Ethernet",
            IgnoreReason::NoCookie => "BOOTP, not DHCP",
            IgnoreReason::WrongType => "no message type that servers send",
            IgnoreReason::WrongChaddr => "wrong chaddr",
            IgnoreReason::WrongXid => "wrong transaction id",
            IgnoreReason::WrongClientId => "wrong client identifier",
            IgnoreReason::NoServerId => "no server identifier",
            IgnoreReason::ServerNotAllowed(None) => "server not allowed",
            IgnoreReason::ServerNotAllowed(Some(server)) => {
                return write!(f, "{server} not allowed");
            }
            IgnoreReason::WrongServer => "not from the server asked",
            IgnoreReason::NotAwaited(state) => return write!(f, "not awaited in {state}"),
            IgnoreReason::NotRapidCommit => "no rapid commit",
            IgnoreReason::BadAddress => "no usable address",
            IgnoreReason::AddressOfServer => "the address offered is the server's own",
            IgnoreReason::AddressOfRouter => "the address offered is the router's own",
            IgnoreReason::WrongAddress => "not the address asked for",
            IgnoreReason::NotOnlyAddress => "not the address that must stay",
            IgnoreReason::NoLeaseTime => "a lease time of zero",
            IgnoreReason::TooLate => "the lease has ended already",
        })
    }
}
