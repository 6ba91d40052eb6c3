//! The filter that decides in the kernel which frames reach a packet socket.

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX,
    BPF_MSH, BPF_RET, BPF_W, ETH_P_ARP, ETH_P_IP, IPPROTO_UDP, PACKET_BROADCAST, SKF_AD_OFF,
    SKF_AD_PKTTYPE, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TAG_PRESENT, c_int,
};
use socket2::SockFilter;

use super::frame::{ETHERNET_HEADER_LEN, UDP_HEADER_LEN};

/// Octets that are at a certain place of a datagram's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern<'a> {
    /// Where they are, counted from the beginning of the payload.
    pub offset: usize,
    /// The octets.
    pub octets: &'a [u8],
}

/// A classic BPF program for a raw packet socket. It accepts UDP datagrams over IPv4 to `port` that
/// are for this station or for all, and whose payload has one of the patterns, if there are any.
///
/// It accepts the first fragment of one too, so that it can be reported; the others have no port.
pub(super) fn udp_to_port(port: u16, any_of: &[Pattern<'_>]) -> Vec<SockFilter> {
    // Offsets count from the Ethernet header.
    const IP: u32 = ETHERNET_HEADER_LEN as u32;
    const IP_FLAGS: u32 = IP + 6;
    const IP_PROTOCOL: u32 = IP + 9;
    // To these the length of the IP header is added, which is in X.
    const UDP_DESTINATION: u32 = IP + 2;
    const PAYLOAD: u32 = IP + UDP_HEADER_LEN as u32;
    const FRAGMENT_OFFSET_MASK: u32 = 0x1fff;

    let mut program = of_type(ETH_P_IP);
    for (size_and_mode, offset, must) in [
        (
            BPF_B | BPF_ABS,
            IP_PROTOCOL,
            Must::Equal(IPPROTO_UDP as u32),
        ),
        (
            BPF_H | BPF_ABS,
            IP_FLAGS,
            Must::HaveNone(FRAGMENT_OFFSET_MASK),
        ),
    ] {
        program.extend(check(size_and_mode, offset, must));
    }
    program.push(statement(BPF_LDX | BPF_B | BPF_MSH, IP));
    program.extend(check(
        BPF_H | BPF_IND,
        UDP_DESTINATION,
        Must::Equal(port.into()),
    ));
    for pattern in any_of {
        program.extend(accept_if(pattern, PAYLOAD));
    }
    let otherwise = if any_of.is_empty() { ACCEPT } else { REJECT };
    program.push(statement(BPF_RET | BPF_K, otherwise));
    program
}

/// A classic BPF program for a raw packet socket. It accepts ARP packets that are for this station
/// or for all.
pub(super) fn arp() -> Vec<SockFilter> {
    let mut program = of_type(ETH_P_ARP);
    program.push(statement(BPF_RET | BPF_K, ACCEPT));
    program
}

/// Rejects frames of other types than this one (an `ETH_P_…`), those that this station sends, and
/// those for other stations: in promiscuous mode, or in a VLAN, whose tag the kernel has removed.
fn of_type(ethertype: c_int) -> Vec<SockFilter> {
    const ETHERTYPE: u32 = 12;
    const VLAN_ID_MASK: u32 = 0x0fff;

    let mut program = Vec::new();
    program.extend(check(
        BPF_B | BPF_ABS,
        PACKET_TYPE,
        Must::NotExceed(BROADCAST),
    ));
    // Without a tag, its field may have any value. The tag of VLAN 0 is only a priority.
    program.push(statement(BPF_LD | BPF_B | BPF_ABS, VLAN_TAG_PRESENT));
    let rest = check(BPF_H | BPF_ABS, VLAN_TAG, Must::HaveNone(VLAN_ID_MASK));
    program.push(jump(BPF_JEQ, 0, rest.len() as u8, 0));
    program.extend(rest);
    program.extend(check(
        BPF_H | BPF_ABS,
        ETHERTYPE,
        Must::Equal(ethertype as u32),
    ));
    program
}

/// Where the kernel lets a filter read whom a frame is for, or that this station sends it.
const PACKET_TYPE: u32 = (SKF_AD_OFF + SKF_AD_PKTTYPE) as u32;
/// Where the kernel lets a filter read whether a frame had a VLAN tag, and the tag.
const VLAN_TAG_PRESENT: u32 = (SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT) as u32;
const VLAN_TAG: u32 = (SKF_AD_OFF + SKF_AD_VLAN_TAG) as u32;
/// The greatest packet type that is for this station: 0 is for it alone.
const BROADCAST: u32 = PACKET_BROADCAST as u32;
/// How many octets of the frame are delivered.
const ACCEPT: u32 = u32::MAX;
const REJECT: u32 = 0;

/// What a loaded value must be.
enum Must {
    Equal(u32),
    NotExceed(u32),
    HaveNone(u32),
}

/// Rejects the frame unless the value at `offset` is as it must be.
fn check(size_and_mode: u32, offset: u32, must: Must) -> [SockFilter; 3] {
    let condition = match must {
        Must::Equal(value) => jump(BPF_JEQ, value, 1, 0),
        Must::NotExceed(most) => jump(BPF_JGT, most, 0, 1),
        Must::HaveNone(bits) => jump(BPF_JSET, bits, 0, 1),
    };
    [
        statement(BPF_LD | size_and_mode, offset),
        condition,
        statement(BPF_RET | BPF_K, REJECT),
    ]
}

/// Accepts the frame if its payload has the pattern; otherwise goes on.
fn accept_if(pattern: &Pattern<'_>, payload: u32) -> Vec<SockFilter> {
    let words = pattern.octets.chunks_exact(4);
    let rest = words.remainder().chunks(1);
    let comparisons: Vec<(u32, u32)> = words
        .map(|word| (BPF_W, word))
        .chain(rest.map(|octet| (BPF_B, octet)))
        .map(|(size, octets)| {
            let value = octets
                .iter()
                .fold(0, |value, &octet| value << 8 | u32::from(octet));
            (size, value)
        })
        .collect();
    let mut program = Vec::with_capacity(2 * comparisons.len() + 1);
    let mut offset = payload + pattern.offset as u32;
    for (index, &(size, value)) in comparisons.iter().enumerate() {
        let behind_pattern = 2 * (comparisons.len() - 1 - index) + 1;
        program.push(statement(BPF_LD | size | BPF_IND, offset));
        program.push(jump(BPF_JEQ, value, 0, behind_pattern as u8));
        offset += if size == BPF_W { 4 } else { 1 };
    }
    program.push(statement(BPF_RET | BPF_K, ACCEPT));
    program
}

fn statement(code: u32, k: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, k)
}

/// Compares with `k`, and skips `yes` or `no` instructions depending on the outcome.
fn jump(condition: u32, k: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new((BPF_JMP | condition | BPF_K) as u16, yes, no, k)
}
