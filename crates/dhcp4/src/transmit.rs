//! What a client asks its driver to send, and the reply that it awaits.

use std::fmt;
use std::net::Ipv4Addr;

/// A message to send from UDP port 68 to port 67.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The message's type, for [`Client::note_sent`](crate::Client::note_sent).
    pub kind: OutgoingKind,
    /// The UDP payload.
    pub payload: Vec<u8>,
    /// The message's destination and source.
    pub delivery: Delivery,
}

/// The destination and the source address of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To 255.255.255.255 and the Ethernet broadcast address.
    Broadcast {
        /// The IP source: the leased address in REBINDING, otherwise 0.0.0.0.
        source: Ipv4Addr,
    },
    /// To one server, or to the router that leads to it: to the station that the server's last
    /// message came from. If that station does not answer, [`Lease::next_hop`] says whom to ask for
    /// by ARP.
    ///
    /// [`Lease::next_hop`]: crate::Lease::next_hop
    Unicast {
        /// The IP source: the address that the message is about.
        source: Ipv4Addr,
        /// The server's identifier (option 54), which is its address.
        server: Ipv4Addr,
    },
}

/// What distinguishes the reply that a client awaits from those to other clients.
///
/// A driver may drop a payload in which neither field matches, without handing it in: on a busy
/// link that saves the client from reading the replies to everybody else. If one of the fields
/// matches, the report should count the payload, because it may explain why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The transaction id, as it is in the payload.
    pub xid: [u8; 4],
    /// The client's hardware address.
    pub chaddr: [u8; 6],
}

impl Awaited {
    /// Where `xid` is in a payload (RFC 2131 figure 1).
    pub const XID_OFFSET: usize = 4;
    /// Where `chaddr` is in a payload.
    pub const CHADDR_OFFSET: usize = 28;
}

/// The type of a message that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutgoingKind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST, in any of its four uses.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPRELEASE.
    Release,
}

impl fmt::Display for OutgoingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutgoingKind::Discover => "DISCOVER",
            OutgoingKind::Request => "REQUEST",
            OutgoingKind::Decline => "DECLINE",
            OutgoingKind::Release => "RELEASE",
        })
    }
}
