//! The filter that decides in the kernel which frames reach a packet socket.

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH,
    BPF_RET, ETH_P_IP, IPPROTO_UDP,
};
use socket2::SockFilter;

use super::frame::ETHERNET_HEADER_LEN;

/// A classic BPF program for a raw packet socket that accepts UDP datagrams over IPv4 to `port`. It
/// accepts the first fragment of one too, the only one with a port, so that it can be reported.
pub(super) fn udp_to_port(port: u16) -> [SockFilter; 11] {
    // Offsets count from the Ethernet header.
    const ETHERTYPE: usize = 12;
    const IP: usize = ETHERNET_HEADER_LEN;
    const IP_FLAGS: usize = IP + 6;
    const IP_PROTOCOL: usize = IP + 9;
    const UDP_DESTINATION: usize = IP + 2; // plus the length of the IP header, in X
    const FRAGMENT_OFFSET_MASK: u32 = 0x1fff;
    const WHOLE_FRAME: u32 = u32::MAX;
    [
        statement(BPF_LD | BPF_H | BPF_ABS, ETHERTYPE as u32),
        jump(BPF_JEQ, ETH_P_IP as u32, 0, 8),
        statement(BPF_LD | BPF_B | BPF_ABS, IP_PROTOCOL as u32),
        jump(BPF_JEQ, IPPROTO_UDP as u32, 0, 6),
        statement(BPF_LD | BPF_H | BPF_ABS, IP_FLAGS as u32),
        jump(BPF_JSET, FRAGMENT_OFFSET_MASK, 4, 0),
        statement(BPF_LDX | BPF_B | BPF_MSH, IP as u32),
        statement(BPF_LD | BPF_H | BPF_IND, UDP_DESTINATION as u32),
        jump(BPF_JEQ, port.into(), 0, 1),
        statement(BPF_RET | BPF_K, WHOLE_FRAME),
        statement(BPF_RET | BPF_K, 0),
    ]
}

fn statement(code: u32, k: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, k)
}

/// Compares with `k`, and skips `yes` or `no` instructions depending on the outcome.
fn jump(condition: u32, k: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new((BPF_JMP | condition | BPF_K) as u16, yes, no, k)
}
