//! What a client asks its driver to send, and where the driver has to listen.

use std::fmt;
use std::net::Ipv4Addr;

/// A message to send from UDP port 68 to port 67.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
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
    /// To one server. If the interface has the source address, an ordinary socket can send the
    /// message. Otherwise the driver has to build the frame itself: an address can be released
    /// before it was ever configured.
    Unicast {
        /// The IP source: the address that the message is about.
        source: Ipv4Addr,
        /// The server's identifier (option 54), which is its address.
        server: Ipv4Addr,
    },
}

/// Where replies can arrive, which decides the socket that the driver needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// The client awaits no reply.
    Nothing,
    /// On the link: the interface has no usable address yet, so only a packet socket receives the
    /// server's replies.
    Link,
    /// At port 68 of the leased address, and at the broadcast address, to which servers send NAKs.
    Address(Ipv4Addr),
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
