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

    /// Gives a mark to what the socket sends from now on, for rules to know it by
    /// ([`Match::mark`](crate::nft::Match::mark)).
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, or since Linux 5.17 CAP_NET_RAW, over the network namespace.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.socket.set_mark(mark)
    }

    /// Asks who has an address, without claiming it (an ARP probe, RFC 5227 §1.1): no neighbour
    /// updates its cache because of a probe.
    ///
    /// # Errors
    /// If the link is down or gone, or its queue is full (`WouldBlock`).
    pub fn probe(&self, address: Ipv4Addr) -> io::Result<()> {
        self.request(Ipv4Addr::UNSPECIFIED, address)
    }

    /// Asks who has an address that we do not want ourselves: a probe that no other
    /// [`sighting`](ArpSocket::sighting) takes for one. The field that a probe leaves empty, and
    /// that nobody reads, has our MAC.
    ///
    /// # Errors
    /// As [`probe`](ArpSocket::probe).
    pub fn inquire(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(&Arp {
            target_mac: self.mac,
            ..self.question(Ipv4Addr::UNSPECIFIED, address)
        })
    }

    /// Asks for the MAC of an address, from an address of our own: the answer comes as
    /// [`owner`](ArpSocket::owner). (It does not come to the kernel's neighbour table.)
    ///
    /// # Errors
    /// As [`probe`](ArpSocket::probe).
    pub fn request(&self, sender: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        self.send(&self.question(sender, target))
    }

    /// Announces that this link has an address (RFC 5227 §1.1): neighbours update their caches.
    ///
    /// # Errors
    /// As for [`probe`](ArpSocket::probe).
    pub fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(&self.question(address, address))
    }

    /// A request from this link.
    fn question(&self, sender: Ipv4Addr, target: Ipv4Addr) -> Arp {
        Arp {
            is_request: true,
            sender_mac: self.mac,
            sender,
            target_mac: NO_MAC,
            target,
        }
    }

    fn send(&self, packet: &Arp) -> io::Result<()> {
        self.socket.send(&packet.frame())?;
        Ok(())
    }

    /// The MAC of a station that has sent a packet which conflicts with our use of an address
    /// (RFC 5227 §2.1.1); `None` if none has been received yet. It does not wait.
    ///
    /// # Errors
    /// If the link has gone down or away.
    pub fn contender(&self, address: Ipv4Addr) -> io::Result<Option<Mac>> {
        self.next(|packet| {
            packet
                .contests(address, self.mac)
                .then_some(packet.sender_mac)
        })
    }

    /// What has been received in answer to [`inquire`](ArpSocket::inquire), about this address or
    /// one of the witnesses'; `None` if nothing has been received yet. It does not wait.
    ///
    /// # Errors
    /// If the link has gone down or away.
    pub fn sighting(
        &self,
        address: Ipv4Addr,
        witnesses: &[Ipv4Addr],
    ) -> io::Result<Option<Sighting>> {
        self.next(|packet| packet.sighting(address, witnesses, self.mac))
    }

    /// The MAC of a station that has sent a packet from this address; `None` if none has been
    /// received yet. It does not wait.
    ///
    /// # Errors
    /// If the link has gone down or away.
    pub fn owner(&self, address: Ipv4Addr) -> io::Result<Option<Mac>> {
        self.next(|packet| (packet.sender == address).then_some(packet.sender_mac))
    }

    /// What `examine` finds in the next received packet in which it finds something.
    fn next<T>(&self, examine: impl Fn(&Arp) -> Option<T>) -> io::Result<Option<T>> {
        let mut buffer = [0; FRAME_LEN];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let packet = Arp::parse(&buffer[..length]);
                    if let Some(found) = packet.as_ref().and_then(&examine) {
                        return Ok(Some(found));
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

/// What a received ARP packet says about an address that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// The station with this MAC has the address, or is about to use it.
    User(Mac),
    /// A witness has answered, so the question has reached the LAN, and answers reach us.
    Witness,
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arp {
    /// Whether it is a request; otherwise it is a reply.
    is_request: bool,
    sender_mac: Mac,
    /// The sender's address; unspecified in a probe.
    sender: Ipv4Addr,
    /// The MAC of a reply's recipient. A request has none.
    target_mac: Mac,
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
const NO_MAC: Mac = Mac([0; 6]);

impl Arp {
    /// Whether another station has the address, or is probing for it too (RFC 5227 §2.1.1).
    fn contests(&self, address: Ipv4Addr, ours: Mac) -> bool {
        let has_it = self.sender == address;
        // A station that is about to release the address does not want it.
        let is_inquiry = self.target_mac == self.sender_mac;
        let is_probe = self.is_request && self.sender.is_unspecified() && !is_inquiry;
        let wants_it = is_probe && self.target == address;
        self.sender_mac != ours && (has_it || wants_it)
    }

    /// See [`ArpSocket::sighting`].
    fn sighting(&self, address: Ipv4Addr, witnesses: &[Ipv4Addr], ours: Mac) -> Option<Sighting> {
        if self.contests(address, ours) {
            return Some(Sighting::User(self.sender_mac));
        }
        let is_answer = !self.is_request && self.target_mac == ours;
        (is_answer && witnesses.contains(&self.sender)).then_some(Sighting::Witness)
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
        frame.extend(self.target_mac.octets());
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
        let (target_mac, packet) = packet.split_first_chunk()?;
        let target = packet.first_chunk::<4>()?;
        Some(Arp {
            is_request,
            sender_mac: Mac(*sender_mac),
            sender: (*sender).into(),
            target_mac: Mac(*target_mac),
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
            target_mac: NO_MAC,
            target,
        }
    }

    #[test]
    fn who_asks_for_an_address_without_wanting_it_does_not_contest_it() {
        let inquiry = Arp {
            target_mac: THEIRS,
            ..arp(true, Ipv4Addr::UNSPECIFIED, WANTED)
        };
        assert!(!inquiry.contests(WANTED, OURS));
        assert_eq!(inquiry.sighting(WANTED, &[], OURS), None);
    }

    #[test]
    fn a_witness_counts_only_if_it_answers_us() {
        let reply = |target_mac| Arp {
            target_mac,
            ..arp(false, OTHER, Ipv4Addr::UNSPECIFIED)
        };
        let witness = Some(Sighting::Witness);
        assert_eq!(reply(OURS).sighting(WANTED, &[OTHER], OURS), witness);
        assert_eq!(reply(THEIRS).sighting(WANTED, &[OTHER], OURS), None);
        assert_eq!(reply(OURS).sighting(WANTED, &[], OURS), None);
        let question = arp(true, OTHER, WANTED);
        assert_eq!(question.sighting(WANTED, &[OTHER], OURS), None);
        let user = Some(Sighting::User(THEIRS));
        let has_it = arp(false, WANTED, OTHER);
        assert_eq!(has_it.sighting(WANTED, &[WANTED], OURS), user);
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
