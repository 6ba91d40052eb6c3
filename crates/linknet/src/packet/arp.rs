//! A packet socket for ARP: finding out whether an address is in use before it is used (RFC 5227).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::ETH_P_ARP;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socket};

use super::{bind_to_link, own_mac};
use crate::frame::ETHERNET_HEADER;
use crate::{Error, Mac, Result};

/// A socket that sends ARP probes on one link and hears what ARP the others send.
///
/// It is non-blocking, and closing it costs as much as closing a
/// [`PacketSocket`](crate::PacketSocket).
#[derive(Debug)]
pub struct ArpSocket {
    fd: OwnedFd,
    mac: Mac,
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Whether it asks; otherwise it answers.
    pub is_request: bool,
    /// Who sends it.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// The address that is asked for, or whose owner is answered.
    pub target: Ipv4Addr,
}

impl ArpSocket {
    /// Opens a socket on an Ethernet link in the calling thread's namespace.
    ///
    /// # Errors
    /// `is_denied` without CAP_NET_RAW, `is_absent` if there is no such link.
    pub fn open(index: u32) -> Result<ArpSocket> {
        let open = || {
            // Of no protocol until it is bound, for the reason that PacketSocket gives.
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            bind_to_link(fd.as_fd(), index, ETH_P_ARP)?;
            let mac = own_mac(fd.as_fd())?;
            Ok(ArpSocket { fd, mac })
        };
        open().map_err(|error: io::Error| {
            Error::io(format!("open an ARP socket on link {index}"), &error)
        })
    }

    /// Asks who has an address, without saying that we would like it (an ARP probe, RFC 5227 §1.1):
    /// no neighbour learns anything wrong from it.
    ///
    /// # Errors
    /// If the link is down or gone, or its queue is full (`WouldBlock`).
    pub fn probe(&self, address: Ipv4Addr) -> io::Result<()> {
        let probe = Arp {
            is_request: true,
            sender_mac: self.mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target: address,
        };
        send(self.fd.as_raw_fd(), &probe.frame(), MsgFlags::empty())?;
        Ok(())
    }

    /// Waits for nobody: the first packet there is that contests our right to an address (RFC 5227
    /// §2.1.1), and who sent it. `None` when there is none yet.
    ///
    /// # Errors
    /// If the link went down or away.
    pub fn contender(&self, address: Ipv4Addr) -> io::Result<Option<Mac>> {
        let mut buffer = [0; FRAME];
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let packet = Arp::parse(&buffer[..length]);
                    if let Some(packet) = packet.filter(|packet| packet.contests(address, self.mac))
                    {
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
        self.fd.as_fd()
    }
}

impl AsRawFd for ArpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Length of the frame without Ethernet's padding.
const FRAME: usize = ETHERNET_HEADER + 28;
const ETHERTYPE: [u8; 2] = (ETH_P_ARP as u16).to_be_bytes();
/// Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

impl Arp {
    /// Whether somebody else has the address, or is probing for it as we are (RFC 5227 §2.1.1).
    pub fn contests(&self, address: Ipv4Addr, ours: Mac) -> bool {
        let has_it = self.sender == address;
        let wants_it = self.is_request && self.sender.is_unspecified() && self.target == address;
        self.sender_mac != ours && (has_it || wants_it)
    }

    /// The broadcast frame that carries it.
    fn frame(&self) -> Vec<u8> {
        let operation = if self.is_request { REQUEST } else { REPLY };
        let mac = self.sender_mac.octets();
        let mut frame = Vec::with_capacity(FRAME);
        for part in [
            &Mac::BROADCAST.octets()[..],
            &mac,
            &ETHERTYPE,
            &KIND,
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
        let packet = frame.get(ETHERNET_HEADER..FRAME)?.strip_prefix(&KIND)?;
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
    fn who_has_the_address_or_probes_for_it_contests_it() {
        let none = Ipv4Addr::UNSPECIFIED;
        for (packet, contests) in [
            (arp(false, WANTED, none), true),
            (arp(true, WANTED, OTHER), true),
            (arp(true, none, WANTED), true),
            (arp(true, OTHER, WANTED), false), // wants to talk to whoever has it
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
    fn a_packet_is_read_as_it_was_written_and_padding_does_not_matter() {
        for packet in [
            arp(true, Ipv4Addr::UNSPECIFIED, WANTED),
            arp(false, WANTED, OTHER),
        ] {
            let mut frame = packet.frame();
            assert_eq!(frame.len(), FRAME);
            assert_eq!(Arp::parse(&frame), Some(packet));
            frame.resize(60, 0);
            assert_eq!(Arp::parse(&frame), Some(packet));
        }
    }

    #[test]
    fn what_is_no_arp_for_ipv4_over_ethernet_is_nothing() {
        let good = arp(true, OTHER, WANTED).frame();
        for length in 0..FRAME {
            assert_eq!(Arp::parse(&good[..length]), None, "{length} octets");
        }
        for octet in ETHERNET_HEADER..ETHERNET_HEADER + 8 {
            let mut bad = good.clone();
            bad[octet] ^= 0x40;
            assert_eq!(Arp::parse(&bad), None, "octet {octet}");
        }
    }
}
