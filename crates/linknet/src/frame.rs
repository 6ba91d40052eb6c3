//! UDP datagrams in Ethernet frames: built and taken apart, without any I/O.
//!
//! A client that has no address yet cannot leave this to the kernel (RFC 2131 §4.1). IPv4 is
//! RFC 791, UDP is RFC 768, their checksum is RFC 1071.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::Mac;

/// A UDP datagram and how it travels on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The station that sends it.
    pub source_mac: Mac,
    /// The station that it is for, or [`Mac::BROADCAST`].
    pub destination_mac: Mac,
    /// The sender's address and port.
    pub source: SocketAddrV4,
    /// The recipient's address and port.
    pub destination: SocketAddrV4,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Whether the UDP checksum of a received frame means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It is in place, or zero because the sender made none.
    Ready,
    /// It was left to a device that the frame never reached, as between containers of one host
    /// (`TP_STATUS_CSUMNOTREADY` of packet(7)). There is nothing to verify.
    NotReady,
}

/// Why a frame is not a datagram that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// It ends before one of its headers or lengths says so.
    Truncated,
    /// It carries something other than IPv4.
    NotIpv4,
    /// A length in its IPv4 header contradicts itself.
    BadIpHeader,
    /// Its IPv4 header was damaged on the way.
    BadIpChecksum,
    /// It is a fragment. No DHCP message is so long that it needs to be one.
    Fragment,
    /// It carries something other than UDP.
    NotUdp,
    /// Its UDP length is shorter than the UDP header or longer than what IPv4 carries.
    BadUdpLength,
    /// It was damaged on the way.
    BadUdpChecksum,
}

/// The payload is longer than any datagram can be; it is this many octets long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {0} octets does not fit into a UDP datagram")]
pub struct TooLong(pub usize);

/// Makes the frame that carries a datagram. It is not padded to Ethernet's minimum: a device that
/// has one does that.
///
/// # Errors
/// If the payload is longer than 65,507 octets.
pub fn build(datagram: &Datagram<'_>) -> Result<Vec<u8>, TooLong> {
    let payload = datagram.payload;
    let too_long = |_| TooLong(payload.len());
    let total_len = u16::try_from(IP_HEADER + UDP_HEADER + payload.len()).map_err(too_long)?;
    let udp_len = total_len - IP_HEADER as u16;

    let mut frame = Vec::with_capacity(ETHERNET_HEADER + usize::from(total_len));
    frame.extend(datagram.destination_mac.octets());
    frame.extend(datagram.source_mac.octets());
    frame.extend(ETHERTYPE_IPV4);

    frame.extend([VERSION_4 | (IP_HEADER / 4) as u8, 0]);
    frame.extend(total_len.to_be_bytes());
    // Not to be fragmented, and so in no need of an identification (RFC 6864 §4.1).
    frame.extend([0, 0, 0x40, 0, TTL, PROTOCOL_UDP, 0, 0]);
    frame.extend(datagram.source.ip().octets());
    frame.extend(datagram.destination.ip().octets());
    let ip_checksum = checksum([&frame[ETHERNET_HEADER..]]);
    frame[ETHERNET_HEADER + 10..][..2].copy_from_slice(&ip_checksum.to_be_bytes());

    let udp = frame.len();
    frame.extend(datagram.source.port().to_be_bytes());
    frame.extend(datagram.destination.port().to_be_bytes());
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    let pseudo = pseudo_header(*datagram.source.ip(), *datagram.destination.ip(), udp_len);
    // Zero would say that there is no checksum (RFC 768).
    let udp_checksum = match checksum([&pseudo, &frame[udp..]]) {
        0 => 0xffff,
        sum => sum,
    };
    frame[udp + 6..][..2].copy_from_slice(&udp_checksum.to_be_bytes());
    Ok(frame)
}

/// Takes a received frame apart. What follows the datagram, such as Ethernet's padding, is left
/// out; options of the IPv4 header are skipped.
///
/// # Errors
/// If it is not one whole, undamaged datagram.
pub fn parse(frame: &[u8], checksum_state: Checksum) -> Result<Datagram<'_>, Rejected> {
    let (ethernet, packet) = frame
        .split_first_chunk::<ETHERNET_HEADER>()
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
        .first_chunk::<UDP_HEADER>()
        .ok_or(Rejected::BadUdpLength)?;
    let [p0, p1, q0, q1, l0, l1, sum @ ..] = *header;
    let udp_len = u16::from_be_bytes([l0, l1]);
    let udp = udp.get(..udp_len.into()).ok_or(Rejected::BadUdpLength)?;
    let payload = udp.get(UDP_HEADER..).ok_or(Rejected::BadUdpLength)?;
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

/// The sender, the recipient and the UDP part of an IPv4 packet.
fn parse_ip(packet: &[u8]) -> Result<(Ipv4Addr, Ipv4Addr, &[u8]), Rejected> {
    let fixed = packet
        .first_chunk::<IP_HEADER>()
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
    if header_len < IP_HEADER || total_len < header_len {
        return Err(Rejected::BadIpHeader);
    }
    let (header, udp) = packet
        .get(..total_len)
        .ok_or(Rejected::Truncated)?
        .split_at(header_len);
    // Whoever leaves the UDP checksum to a device has made this one all the same.
    if checksum([header]) != 0 {
        return Err(Rejected::BadIpChecksum);
    }
    if u16::from_be_bytes([f0, f1]) & MORE_OR_OFFSET != 0 {
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

pub(crate) const ETHERNET_HEADER: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const VERSION_4: u8 = 4 << 4;
/// "More fragments" and the offset in the flags of an IPv4 header.
const MORE_OR_OFFSET: u16 = 0x3fff;
const PROTOCOL_UDP: u8 = 17;
/// As the kernel's own (RFC 1700): a relay on the link is one hop away.
const TTL: u8 = 64;

/// What UDP's checksum covers besides the datagram (RFC 768).
fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) -> [u8; 12] {
    let ([a, b, c, d], [e, f, g, h]) = (source.octets(), destination.octets());
    let [l0, l1] = udp_len.to_be_bytes();
    [a, b, c, d, e, f, g, h, 0, PROTOCOL_UDP, l0, l1]
}

/// The Internet checksum of some octets (RFC 1071), all but the last part of even length. Over
/// octets that contain their checksum it is zero.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let pairs = parts.into_iter().flat_map(|part| part.chunks(2));
    let sum: u64 = pairs
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    // Carries are added back in until there are none.
    !std::iter::successors(Some(sum), |&sum| {
        (sum > 0xffff).then(|| (sum & 0xffff) + (sum >> 16))
    })
    .last()
    .map_or(0, |sum| sum as u16)
}
