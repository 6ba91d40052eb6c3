//! Whole frames on a link: what a program with CAP_NET_RAW can send, and what arrives elsewhere.
#![allow(
    unsafe_code,
    reason = "nix can neither address a frame with a protocol of one's choice nor bypass the queue"
)]

use std::{
    io,
    mem::size_of,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, bail};
use etherparse::{IpNumber, PacketBuilder};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{LinkAddr, SockProtocol, recvfrom, setsockopt, sockopt},
};

use crate::{Node, Result, packet_socket};

/// A packet socket on one link.
#[derive(Debug)]
pub struct FrameSocket {
    fd: OwnedFd,
    index: u32,
    /// The link's hardware address.
    pub mac: [u8; 6],
}

impl FrameSocket {
    /// A socket on `node`'s link.
    ///
    /// # Errors
    /// When the node has no such link or packet sockets are not allowed there.
    pub fn open(node: &Node, link: &str) -> Result<FrameSocket> {
        let (fd, mac) = node.run(|| packet_socket::open(link, SockProtocol::EthAll))??;
        let index = node.link(link)?.index;
        Ok(FrameSocket { fd, index, mac })
    }

    /// Sends past the link's queueing discipline from now on, or no longer (PACKET_QDISC_BYPASS).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bypass_queue(&self, on: bool) -> Result {
        let value = libc::c_int::from(on);
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the option's value is an int, and `value` lives until the call returns.
        let outcome = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const value).cast(),
                length,
            )
        };
        Errno::result(outcome).context("bypass the queue").map(drop)
    }

    /// Gives a mark to what it sends from now on (SO_MARK).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn mark(&self, mark: u32) -> Result {
        setsockopt(&self.fd, sockopt::Mark, &mark).context("set a mark")
    }

    /// Sends a frame, which the kernel shall take for one of this protocol: 0 for the one that its
    /// header names. Returns whether it was let through.
    ///
    /// # Errors
    /// When it cannot be sent for another reason than a rule that drops it.
    pub fn send(&self, frame: &[u8], protocol: u16) -> Result<bool> {
        // SAFETY: the structure is plain data, for which zeros are valid.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = self.index as i32;
        to.sll_protocol = protocol.to_be();
        // SAFETY: both pointers are valid for the lengths that are given with them.
        let outcome = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        match Errno::result(outcome) {
            Ok(_) => Ok(true),
            Err(Errno::ENOBUFS) => Ok(false),
            Err(errno) => Err(io::Error::from(errno)).context("send a frame"),
        }
    }

    /// The next frame that another station has sent, if one has come.
    ///
    /// # Errors
    /// When the link is gone.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 65536];
        loop {
            match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut frame) {
                Ok((_, Some(from))) if from.pkttype() == libc::PACKET_OUTGOING => {}
                Ok((length, _)) => {
                    frame.truncate(length);
                    return Ok(Some(frame));
                }
                Err(Errno::EAGAIN | Errno::ENETDOWN) => return Ok(None),
                Err(errno) => bail!("receive a frame: {errno}"),
            }
        }
    }
}

/// The hardware addresses of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Macs {
    /// The sender's.
    pub from: [u8; 6],
    /// The receiver's.
    pub to: [u8; 6],
}

/// A frame with anything in it.
pub fn ethernet(macs: Macs, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let header = [&macs.to[..], &macs.from, &ethertype.to_be_bytes()];
    [&header.concat(), payload].concat()
}

/// An ARP packet for IPv4 over Ethernet (RFC 826). Its sender is the frame's.
pub fn arp(macs: Macs, operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(macs.from);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(macs, 0x0806, &packet)
}

/// A UDP datagram over IPv4.
pub fn udp(macs: Macs, ips: [Ipv4Addr; 2], ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.from, macs.to)
        .ipv4(ips[0].octets(), ips[1].octets(), 64)
        .udp(ports[0], ports[1]);
    let mut frame = Vec::new();
    // Writing to a vector does not fail.
    let _ = builder.write(&mut frame, payload);
    frame
}

/// Anything else over IPv4.
pub fn ipv4(macs: Macs, ips: [Ipv4Addr; 2], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(macs.from, macs.to).ipv4(ips[0].octets(), ips[1].octets(), 64);
    let mut frame = Vec::new();
    let _ = builder.write(&mut frame, IpNumber(protocol), payload);
    frame
}

/// Anything over IPv6, whose first header behind that of IPv6 is `next`.
pub fn ipv6(macs: Macs, ips: [Ipv6Addr; 2], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(ips[0].octets());
    packet.extend(ips[1].octets());
    packet.extend(payload);
    ethernet(macs, 0x86dd, &packet)
}
