//! Which frames reach the packet socket, decided in the kernel.

use std::io;
use std::os::fd::BorrowedFd;

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH,
    BPF_RET, ETH_P_IP, IPPROTO_UDP, SO_ATTACH_FILTER, SOL_SOCKET, sock_filter, sock_fprog,
};

use crate::frame::ETHERNET_HEADER;
use crate::sockopt;

/// Lets only UDP datagrams over IPv4 to `port` through to a raw packet socket. Of a fragmented one
/// the first part passes, as the only one that has a port, so that it can be counted.
pub(super) fn attach(socket: BorrowedFd<'_>, port: u16) -> io::Result<()> {
    let mut program = program(port);
    let program = sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: SO_ATTACH_FILTER takes a sock_fprog (socket(7)), whose length and pointer describe an
    // array that outlives the call; the kernel copies and verifies it, and writes nothing.
    unsafe { sockopt::set(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program) }
}

/// The program, in classic BPF. Offsets count from the Ethernet header.
fn program(port: u16) -> [sock_filter; 11] {
    const ETHERTYPE: usize = 12;
    const IP: usize = ETHERNET_HEADER;
    const IP_FLAGS: usize = IP + 6;
    const IP_PROTOCOL: usize = IP + 9;
    const UDP_DESTINATION: usize = IP + 2; // plus the length of the IP header, in X
    const OFFSET_MASK: u32 = 0x1fff;
    const WHOLE: u32 = u32::MAX;
    [
        statement(BPF_LD | BPF_H | BPF_ABS, ETHERTYPE as u32),
        jump(BPF_JEQ, ETH_P_IP as u32, 0, 8),
        statement(BPF_LD | BPF_B | BPF_ABS, IP_PROTOCOL as u32),
        jump(BPF_JEQ, IPPROTO_UDP as u32, 0, 6),
        statement(BPF_LD | BPF_H | BPF_ABS, IP_FLAGS as u32),
        jump(BPF_JSET, OFFSET_MASK, 4, 0),
        statement(BPF_LDX | BPF_B | BPF_MSH, IP as u32),
        statement(BPF_LD | BPF_H | BPF_IND, UDP_DESTINATION as u32),
        jump(BPF_JEQ, port.into(), 0, 1),
        statement(BPF_RET | BPF_K, WHOLE),
        statement(BPF_RET | BPF_K, 0),
    ]
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Compares with `k`; goes on `yes` or `no` instructions further than the next.
fn jump(condition: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        code: (BPF_JMP | condition | BPF_K) as u16,
        jt: yes,
        jf: no,
        k,
    }
}
