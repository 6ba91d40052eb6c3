//! A packet socket for ARP: finding out whether an address is in use before using it (RFC 5227),
//! and who has an address.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use libc::ETH_P_ARP;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use socket2::Socket;

use super::frame::ETHERNET_HEADER_LEN;
use super::{filter, link_layer};
use crate::error::{Error, Result};
use crate::mac::Mac;

/// A socket that sends ARP probes, requests and announcements on one link, and receives the ARP
/// packets of others.
///
/// It is non-blocking. Closing it takes as long as closing a
/// [`PacketSocket`](crate::PacketSocket).
#[derive(Debug)]
pub struct ArpSocket {
    socket: Socket,
    /// The link's MAC when the socket was opened.
    mac: Mac,
}

impl ArpSocket {
    /// Opens a socket on an Ethernet link in the calling thread's namespace.
    ///
    /// # Errors
    /// `is_denied` without CAP_NET_RAW, `is_absent` if there is no such link.
    pub fn open(index: u32) -> Result<ArpSocket> {
        let open = || {
            let socket = link_layer::open(&filter::arp())?;
            let mac = link_layer::bind_to_link(&socket, index)?;
            Ok(ArpSocket { socket, mac })
        };
        open().map_err(|error: io::Error| {
            Error::io(format!("open an ARP socket on link {index}"), &error)
        })
    }

    /// Asks who has an address, without claiming it (an ARP probe, RFC 5227 §1.1): no neighbour
    /// updates its cache because of a probe.
    ///
    /// # Errors
    /// If the link is down or gone, or its queue is full (`WouldBlock`).
    pub fn probe(&self, address: Ipv4Addr) -> io::Result<()> {
        self.request(Ipv4Addr::UNSPECIFIED, address)
    }

    /// Asks for the MAC of an address, from an address of our own: the answer comes as
    /// [`owner`](ArpSocket::owner). (It does not come to the kernel's neighbour table.)
    ///
    /// # Errors
    /// As [`probe`](ArpSocket::probe).
    pub fn request(&self, sender: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        let request = Arp {
            is_request: true,
            sender_mac: self.mac,
            sender,
            target,
        };
        self.socket.send(&request.frame())?;
        Ok(())
    }

    /// Announces that this link has an address (RFC 5227 §1.1): neighbours update their caches.
    ///
    /// # Errors
    /// As for [`probe`](ArpSocket::probe).
    pub fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        let announcement = Arp {
            is_request: true,
            sender_mac: self.mac,
            sender: address,
            target: address,
        };
        self.socket.send(&announcement.frame())?;
        Ok(())
    }

    /// The MAC of a station that has sent a packet which conflicts with our use of an address
    /// (RFC 5227 §2.1.1); `None` if none has been received yet. It does not wait.
    ///
    /// # Errors
    /// If the link has gone down or away.
    pub fn contender(&self, address: Ipv4Addr) -> io::Result<Option<Mac>> {
        self.sender_of(|packet| packet.contests(address, self.mac))
    }

    /// The MAC of a station that has sent a packet from this address; `None` if none has been
    /// received yet. It does not wait.
    ///
    /// # Errors
    /// If the link has gone down or away.
    pub fn owner(&self, address: Ipv4Addr) -> io::Result<Option<Mac>> {
        self.sender_of(|packet| packet.sender == address)
    }

    /// The sender of the next received packet that is like this.
    fn sender_of(&self, is_wanted: impl Fn(&Arp) -> bool) -> io::Result<Option<Mac>> {
        let mut buffer = [0; FRAME_LEN];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let packet = Arp::parse(&buffer[..length]);
                    if let Some(packet) = packet.filter(&is_wanted) {
                        return Ok(Some(packet.sender_mac));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for ArpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ArpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arp {
    /// Whether it is a request; otherwise it is a reply.
    is_request: bool,
    sender_mac: Mac,
    /// The sender's address; unspecified in a probe.
    sender: Ipv4Addr,
    /// The address that a request asks for, or that of a reply's recipient.
    target: Ipv4Addr,
}

/// The length of a frame without Ethernet's padding.
const FRAME_LEN: usize = ETHERNET_HEADER_LEN + 28;
const ETHERTYPE: [u8; 2] = (ETH_P_ARP as u16).to_be_bytes();
/// The hardware type Ethernet, the protocol IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

impl Arp {
    /// Whether another station has the address, or is probing for it too (RFC 5227 §2.1.1).
    fn contests(&self, address: Ipv4Addr, ours: Mac) -> bool {
        let has_it = self.sender == address;
        let wants_it = self.is_request && self.sender.is_unspecified() && self.target == address;
        self.sender_mac != ours && (has_it || wants_it)
    }

    /// The broadcast frame that carries it.
    fn frame(&self) -> Vec<u8> {
        let operation = if self.is_request { REQUEST } else { REPLY };
        let mac = self.sender_mac.octets();
        let mut frame = Vec::with_capacity(FRAME_LEN);
        for part in [
            &Mac::BROADCAST.octets()[..],
            &mac,
            &ETHERTYPE,
            &ETHERNET_IPV4,
            &operation,
            &mac,
        ] {
            frame.extend(part);
        }
        frame.extend(self.sender.octets());
        frame.extend([0; 6]);
        frame.extend(self.target.octets());
        frame
    }

    fn parse(frame: &[u8]) -> Option<Arp> {
        let packet = frame
            .get(ETHERNET_HEADER_LEN..FRAME_LEN)?
            .strip_prefix(&ETHERNET_IPV4)?;
        let (operation, packet) = packet.split_first_chunk()?;
        let is_request = match *operation {
            REQUEST => true,
            REPLY => false,
            _ => return None,
        };
        let (sender_mac, packet) = packet.split_first_chunk()?;
        let (sender, packet) = packet.split_first_chunk::<4>()?;
        let target = packet.last_chunk::<4>()?;
        Some(Arp {
            is_request,
            sender_mac: Mac(*sender_mac),
            sender: (*sender).into(),
            target: (*target).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const WANTED: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 7);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 8);

    fn arp(is_request: bool, sender: Ipv4Addr, target: Ipv4Addr) -> Arp {
        Arp {
            is_request,
            sender_mac: THEIRS,
            sender,
            target,
        }
    }

    #[test]
    fn a_station_that_has_the_address_or_probes_for_it_contests_it() {
        let none = Ipv4Addr::UNSPECIFIED;
        for (packet, contests) in [
            (arp(false, WANTED, none), true),
            (arp(true, WANTED, OTHER), true),
            (arp(true, none, WANTED), true),
            (arp(true, OTHER, WANTED), false), // wants to reach the address
            (arp(false, none, WANTED), false),
            (arp(true, none, OTHER), false),
            (
                Arp {
                    sender_mac: OURS,
                    ..arp(true, none, WANTED)
                },
                false,
            ),
        ] {
            assert_eq!(packet.contests(WANTED, OURS), contests, "{packet:?}");
        }
    }

    #[test]
    fn a_packet_is_parsed_as_it_was_built_with_or_without_padding() {
        for packet in [
            arp(true, Ipv4Addr::UNSPECIFIED, WANTED),
            arp(false, WANTED, OTHER),
        ] {
            let mut frame = packet.frame();
            assert_eq!(frame.len(), FRAME_LEN);
            assert_eq!(Arp::parse(&frame), Some(packet));
            frame.resize(60, 0);
            assert_eq!(Arp::parse(&frame), Some(packet));
        }
    }

    #[test]
    fn a_packet_other_than_arp_for_ipv4_over_ethernet_is_ignored() {
        let good = arp(true, OTHER, WANTED).frame();
        for length in 0..FRAME_LEN {
            assert_eq!(Arp::parse(&good[..length]), None, "{length} octets");
        }
        for octet in ETHERNET_HEADER_LEN..ETHERNET_HEADER_LEN + 8 {
            let mut bad = good.clone();
            bad[octet] ^= 0x40;
            assert_eq!(Arp::parse(&bad), None, "octet {octet}");
        }
    }
}
