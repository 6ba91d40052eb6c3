//! Building and parsing Ethernet frames that carry UDP datagrams, without any I/O.
//!
//! A client that has no address yet cannot leave this to the kernel (RFC 2131 §4.1). IPv4 is
//! specified in RFC 791, UDP in RFC 768, and their checksum in RFC 1071.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::mac::Mac;

/// A UDP datagram, with its addresses on the link and in IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The MAC of the sending station.
    pub source_mac: Mac,
    /// The MAC of the receiving station, or [`Mac::BROADCAST`].
    pub destination_mac: Mac,
    /// The sender's address and port.
    pub source: SocketAddrV4,
    /// The recipient's address and port.
    pub destination: SocketAddrV4,
    /// The octets that it carries.
    pub payload: &'a [u8],
}

/// Whether the UDP checksum of a received frame can be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum is in place, or zero because the sender computed none.
    Ready,
    /// The sender left the checksum to a network device that the frame never reached, as between
    /// containers of one host (`TP_STATUS_CSUMNOTREADY` of packet(7)). It must not be verified.
    NotReady,
}

/// Why a frame is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejected {
    /// It is shorter than its headers and length fields require.
    Truncated,
    /// It is longer than the receive buffer.
    TooLong,
    /// It carries something other than IPv4.
    NotIpv4,
    /// A length in its IPv4 header contradicts itself.
    BadIpHeader,
    /// The checksum of its IPv4 header is wrong.
    BadIpChecksum,
    /// It is a fragment. DHCP messages are too short to need fragmentation.
    Fragment,
    /// It carries something other than UDP.
    NotUdp,
    /// Its UDP length is shorter than the UDP header or longer than what IPv4 carries.
    BadUdpLength,
    /// Its UDP checksum is wrong.
    BadUdpChecksum,
}

/// The payload, of this many octets, is too long for a UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {0} octets does not fit into a UDP datagram")]
pub struct TooLong(pub usize);

/// Builds the frame that carries a datagram. It is not padded to Ethernet's minimum length, which
/// a device does itself if it needs to.
///
/// # Errors
/// If the payload is longer than 65,507 octets.
pub fn build(datagram: &Datagram<'_>) -> Result<Vec<u8>, TooLong> {
    let payload = datagram.payload;
    let too_long = |_| TooLong(payload.len());
    let total_len =
        u16::try_from(IP_HEADER_LEN + UDP_HEADER_LEN + payload.len()).map_err(too_long)?;
    let udp_len = total_len - IP_HEADER_LEN as u16;

    let mut frame = Vec::with_capacity(ETHERNET_HEADER_LEN + usize::from(total_len));
    frame.extend(datagram.destination_mac.octets());
    frame.extend(datagram.source_mac.octets());
    frame.extend(ETHERTYPE_IPV4);

    frame.extend([VERSION_4 | (IP_HEADER_LEN / 4) as u8, 0]);
    frame.extend(total_len.to_be_bytes());
    // With DF set, the packet needs no identification (RFC 6864 §4.1).
    frame.extend([0, 0, 0x40, 0, TTL, PROTOCOL_UDP, 0, 0]);
    frame.extend(datagram.source.ip().octets());
    frame.extend(datagram.destination.ip().octets());
    let ip_checksum = checksum([&frame[ETHERNET_HEADER_LEN..]]);
    frame[ETHERNET_HEADER_LEN + 10..][..2].copy_from_slice(&ip_checksum.to_be_bytes());

    let udp = frame.len();
    frame.extend(datagram.source.port().to_be_bytes());
    frame.extend(datagram.destination.port().to_be_bytes());
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    let pseudo = pseudo_header(*datagram.source.ip(), *datagram.destination.ip(), udp_len);
    // Zero would mean that there is no checksum (RFC 768).
    let udp_checksum = match checksum([&pseudo, &frame[udp..]]) {
        0 => 0xffff,
        sum => sum,
    };
    frame[udp + 6..][..2].copy_from_slice(&udp_checksum.to_be_bytes());
    Ok(frame)
}

/// Parses a received frame. Octets behind the datagram, such as Ethernet's padding, are ignored,
/// and so are options in the IPv4 header.
///
/// # Errors
/// If it is not a single, complete, undamaged datagram.
pub fn parse(frame: &[u8], checksum_state: Checksum) -> Result<Datagram<'_>, Rejected> {
    let (ethernet, packet) = frame
        .split_first_chunk::<ETHERNET_HEADER_LEN>()
        .ok_or(Rejected::Truncated)?;
    let [
        d0,
        d1,
        d2,
        d3,
        d4,
        d5,
        s0,
        s1,
        s2,
        s3,
        s4,
        s5,
        ethertype @ ..,
    ] = *ethernet;
    if ethertype != ETHERTYPE_IPV4 {
        return Err(Rejected::NotIpv4);
    }
    let (source_ip, destination_ip, udp) = parse_ip(packet)?;

    let header = udp
        .first_chunk::<UDP_HEADER_LEN>()
        .ok_or(Rejected::BadUdpLength)?;
    let [p0, p1, q0, q1, l0, l1, sum @ ..] = *header;
    let udp_len = u16::from_be_bytes([l0, l1]);
    let udp = udp.get(..udp_len.into()).ok_or(Rejected::BadUdpLength)?;
    let payload = udp.get(UDP_HEADER_LEN..).ok_or(Rejected::BadUdpLength)?;
    let to_verify = checksum_state == Checksum::Ready && sum != [0, 0];
    if to_verify && checksum([&pseudo_header(source_ip, destination_ip, udp_len), udp]) != 0 {
        return Err(Rejected::BadUdpChecksum);
    }
    Ok(Datagram {
        source_mac: Mac([s0, s1, s2, s3, s4, s5]),
        destination_mac: Mac([d0, d1, d2, d3, d4, d5]),
        source: SocketAddrV4::new(source_ip, u16::from_be_bytes([p0, p1])),
        destination: SocketAddrV4::new(destination_ip, u16::from_be_bytes([q0, q1])),
        payload,
    })
}

/// The source, the destination and the UDP part of an IPv4 packet.
fn parse_ip(packet: &[u8]) -> Result<(Ipv4Addr, Ipv4Addr, &[u8]), Rejected> {
    let fixed = packet
        .first_chunk::<IP_HEADER_LEN>()
        .ok_or(Rejected::Truncated)?;
    let [
        version_ihl,
        _,
        t0,
        t1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        addresses @ ..,
    ] = *fixed;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    if version_ihl & 0xf0 != VERSION_4 {
        return Err(Rejected::NotIpv4);
    }
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([t0, t1]));
    if header_len < IP_HEADER_LEN || total_len < header_len {
        return Err(Rejected::BadIpHeader);
    }
    let (header, udp) = packet
        .get(..total_len)
        .ok_or(Rejected::Truncated)?
        .split_at(header_len);
    // A sender that leaves the UDP checksum to a device computes this one itself.
    if checksum([header]) != 0 {
        return Err(Rejected::BadIpChecksum);
    }
    if u16::from_be_bytes([f0, f1]) & MORE_FRAGMENTS_OR_OFFSET != 0 {
        return Err(Rejected::Fragment);
    }
    if protocol != PROTOCOL_UDP {
        return Err(Rejected::NotUdp);
    }
    Ok((
        Ipv4Addr::new(s0, s1, s2, s3),
        Ipv4Addr::new(d0, d1, d2, d3),
        udp,
    ))
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejected::Truncated => "truncated frame",
            Rejected::TooLong => "frame too long",
            Rejected::NotIpv4 => "not IPv4",
            Rejected::BadIpHeader => "bad length in the IP header",
            Rejected::BadIpChecksum => "wrong IP checksum",
            Rejected::Fragment => "IP fragment",
            Rejected::NotUdp => "not UDP",
            Rejected::BadUdpLength => "bad UDP length",
            Rejected::BadUdpChecksum => "wrong UDP checksum",
        })
    }
}

pub(crate) const ETHERNET_HEADER_LEN: usize = 14;
const IP_HEADER_LEN: usize = 20;
pub(crate) const UDP_HEADER_LEN: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const VERSION_4: u8 = 4 << 4;
/// The flag "more fragments" and the fragment offset of an IPv4 header.
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
const PROTOCOL_UDP: u8 = 17;
/// The time to live that the kernel uses too (RFC 1700).
const TTL: u8 = 64;

/// What the UDP checksum covers in addition to the datagram (RFC 768).
fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) -> [u8; 12] {
    let ([a, b, c, d], [e, f, g, h]) = (source.octets(), destination.octets());
    let [l0, l1] = udp_len.to_be_bytes();
    [a, b, c, d, e, f, g, h, 0, PROTOCOL_UDP, l0, l1]
}

/// The Internet checksum of some octets (RFC 1071). All parts but the last must have even lengths.
/// The checksum of octets that include their own checksum is zero.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let pairs = parts.into_iter().flat_map(|part| part.chunks(2));
    let sum: u64 = pairs
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    // Carries are added back until there are none.
    !std::iter::successors(Some(sum), |&sum| {
        (sum > 0xffff).then(|| (sum & 0xffff) + (sum >> 16))
    })
    .last()
    .map_or(0, |sum| sum as u16)
}
