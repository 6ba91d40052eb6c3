use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    ops::Range,
    time::Instant,
};

use anyhow::Context;
use dhcproto::{
    Decodable, Encodable,
    v4::{DhcpOption, Message, MessageType, OptionCode},
};
use etherparse::{LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use crate::Result;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What a BOOTP message is padded to (RFC 1542, section 2.1).
const MIN_LENGTH: usize = 300;

/// A UDP datagram of DHCP, as it was on the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When it was heard, at the latest, or sent, at the earliest: from a packet sent to one that
    /// it caused, no less time can have passed than these times say.
    pub at: Instant,
    /// The frame's source.
    pub ethernet_source: [u8; 6],
    /// The frame's destination.
    pub ethernet_destination: [u8; 6],
    /// The datagram's source.
    pub source: SocketAddrV4,
    /// The datagram's destination.
    pub destination: SocketAddrV4,
    /// The whole Ethernet frame.
    pub frame: Vec<u8>,
    payload: Range<usize>,
    /// The message as dhcproto reads it, or why it cannot.
    pub message: std::result::Result<Message, String>,
}

impl Packet {
    /// Reads a frame; nothing if it is not of DHCP.
    pub(super) fn parse(frame: Vec<u8>) -> Option<Packet> {
        let at = Instant::now();
        let SlicedPacket {
            link: Some(LinkSlice::Ethernet2(ethernet)),
            net: Some(NetSlice::Ipv4(ip)),
            transport: Some(TransportSlice::Udp(udp)),
            ..
        } = SlicedPacket::from_ethernet(&frame).ok()?
        else {
            return None;
        };
        let source = SocketAddrV4::new(ip.header().source_addr(), udp.source_port());
        let destination = SocketAddrV4::new(ip.header().destination_addr(), udp.destination_port());
        if ![SERVER_PORT, CLIENT_PORT].contains(&destination.port()) {
            return None;
        }
        let (ethernet_source, ethernet_destination) = (ethernet.source(), ethernet.destination());
        let message = decode(udp.payload());
        let start = udp.payload().as_ptr().addr() - frame.as_ptr().addr();
        let payload = start..start + udp.payload().len();
        Some(Packet {
            at,
            ethernet_source,
            ethernet_destination,
            source,
            destination,
            frame,
            payload,
            message,
        })
    }

    /// The octets of the DHCP message.
    pub fn payload(&self) -> &[u8] {
        &self.frame[self.payload.clone()]
    }

    /// The message's type, if it could be decoded and has one.
    pub fn kind(&self) -> Option<MessageType> {
        self.message.as_ref().ok()?.opts().msg_type()
    }

    /// The value of an option, if it is there.
    pub fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.as_ref().ok()?.opts().get(code)
    }

    pub(super) fn is_for_a_server(&self) -> bool {
        self.destination.port() == SERVER_PORT
    }

    /// Whether a link with this hardware address hands it to programs without packet sockets.
    pub(super) fn is_for_station(&self, mac: [u8; 6]) -> bool {
        self.ethernet_destination == mac || self.ethernet_destination == linknet::Mac::BROADCAST.0
    }

    /// Unicast from no address: a kernel drops it before a server without packet sockets hears of
    /// it (RFC 1812, section 5.3.7), so this one does not act on it either.
    pub fn is_martian(&self) -> bool {
        self.source.ip().is_unspecified() && !self.destination.ip().is_broadcast()
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = linknet::Mac(self.ethernet_source);
        write!(f, "{mac} {} > {}: ", self.source, self.destination)?;
        match &self.message {
            Ok(message) => {
                match self.kind() {
                    Some(kind) => write!(f, "{kind:?}")?,
                    None => f.write_str("BOOTP")?,
                }
                write!(f, " xid {:08x}", message.xid())?;
                for (what, address) in [("ciaddr", message.ciaddr()), ("yiaddr", message.yiaddr())]
                {
                    if !address.is_unspecified() {
                        write!(f, " {what} {address}")?;
                    }
                }
                Ok(())
            }
            Err(error) => write!(f, "undecodable: {error}"),
        }
    }
}

/// A message's octets, padded.
pub(super) fn encode(message: &Message) -> Result<Vec<u8>> {
    let mut payload = message.to_vec().context("encode a DHCP message")?;
    payload.resize(payload.len().max(MIN_LENGTH), 0);
    Ok(payload)
}

/// An Ethernet frame from a server to a client; each pair is source, destination.
pub(super) fn frame(
    ethernet: ([u8; 6], [u8; 6]),
    ip: (Ipv4Addr, Ipv4Addr),
    payload: &[u8],
) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(ethernet.0, ethernet.1)
        .ipv4(ip.0.octets(), ip.1.octets(), 64)
        .udp(SERVER_PORT, CLIENT_PORT);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write(&mut frame, payload)
        .context("build a frame")?;
    Ok(frame)
}

fn decode(payload: &[u8]) -> std::result::Result<Message, String> {
    // dhcproto's chaddr() panics beyond 16.
    match payload.get(2) {
        Some(hlen) if *hlen > 16 => Err(format!("hlen is {hlen}")),
        _ => Message::from_bytes(payload).map_err(|error| error.to_string()),
    }
}
