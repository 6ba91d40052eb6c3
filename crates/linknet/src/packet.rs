//! A packet socket for DHCP on a link that has no address.
#![allow(
    unsafe_code,
    reason = "nix can neither attach a filter nor make a link address"
)]

mod arp;
mod filter;

pub use arp::{Arp, ArpSocket};

use std::io::{self, IoSliceMut};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{
    AF_PACKET, ETH_P_IP, PACKET_AUXDATA, SOL_PACKET, TP_STATUS_CSUMNOTREADY, bind, c_int,
    getsockname, sockaddr_ll, socklen_t, tpacket_auxdata,
};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, send, socket,
};

use crate::frame::{self, Checksum, Datagram, Rejected};
use crate::{Error, Mac, Result, sockopt};

/// A socket that sends and receives UDP datagrams on one link, past the kernel's own IP and
/// whether or not the link has an address.
///
/// It is non-blocking. Closing it costs the kernel an RCU grace period, some ten milliseconds:
/// close it when nobody is waiting.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    /// The link's own address, as it was when the socket was opened.
    mac: Mac,
}

/// What a packet socket had to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<'a> {
    /// Nothing: wait until the descriptor is readable.
    Nothing,
    /// A datagram to the socket's port.
    Datagram(Datagram<'a>),
    /// A frame that seemed to be one, and why it is not used.
    Rejected(Rejected),
}

impl PacketSocket {
    /// Opens a socket on an Ethernet link in the calling thread's namespace. It receives the
    /// datagrams to `port`, whichever address they are for; the link must be up for that.
    ///
    /// # Errors
    /// `is_denied` without CAP_NET_RAW, `is_absent` if there is no such link.
    pub fn open(index: u32, port: u16) -> Result<PacketSocket> {
        let open = || {
            // With protocol 0 it receives nothing until it is bound: no frame slips in before the
            // filter, and the kernel need not unhook it and wait for the others (an RCU grace
            // period) in order to hook it up on one link.
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            filter::attach(fd.as_fd(), port)?;
            // SAFETY: PACKET_AUXDATA takes an int (packet(7)).
            unsafe { sockopt::set(&fd, SOL_PACKET, PACKET_AUXDATA, &1_i32)? };
            bind_to_link(fd.as_fd(), index, ETH_P_IP)?;
            let mac = own_mac(fd.as_fd())?;
            Ok(PacketSocket { fd, mac })
        };
        open().map_err(|error: io::Error| {
            Error::io(format!("open a packet socket on link {index}"), &error)
        })
    }

    /// The link's own address, from which it sends.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Sends a datagram to one station, or to all ([`Mac::BROADCAST`]).
    ///
    /// # Errors
    /// If the link is down or gone, the payload is longer than the link's MTU allows, or the link's
    /// queue is full (`WouldBlock`).
    pub fn send(
        &self,
        to: Mac,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let datagram = Datagram {
            source_mac: self.mac,
            destination_mac: to,
            source,
            destination,
            payload,
        };
        let frame = frame::build(&datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        send(self.fd.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(())
    }

    /// Receives one frame into `buffer`, without waiting. A frame that does not fit counts as
    /// truncated.
    ///
    /// # Errors
    /// If the link went down or away since the last time; the socket goes on working should it come
    /// back up.
    pub fn recv<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Received<'b>> {
        let mut control = cmsg_space!(tpacket_auxdata);
        let (length, flags, checksum) = {
            let mut into = [IoSliceMut::new(buffer)];
            let fd = self.fd.as_raw_fd();
            let message = match recvmsg::<()>(fd, &mut into, Some(&mut control), MsgFlags::empty())
            {
                Ok(message) => message,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Nothing),
                Err(errno) => return Err(errno.into()),
            };
            let auxdata = message.cmsgs()?.find_map(auxdata_status);
            (message.bytes, message.flags, checksum_state(auxdata))
        };
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Ok(Received::Rejected(Rejected::Truncated));
        }
        Ok(match frame::parse(&buffer[..length], checksum) {
            Ok(datagram) => Received::Datagram(datagram),
            Err(reason) => Received::Rejected(reason),
        })
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Hooks the socket up to one link and one protocol (an `ETH_P_…`), which starts its receiving.
fn bind_to_link(fd: BorrowedFd<'_>, index: u32, protocol: c_int) -> io::Result<()> {
    let address = sockaddr_ll {
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: c_int::try_from(index).map_err(|_| Errno::ENODEV)?,
        ..UNSPECIFIED
    };
    let pointer: *const sockaddr_ll = &address;
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let result = unsafe { bind(fd.as_raw_fd(), pointer.cast(), ADDRESS_LEN) };
    Errno::result(result)?;
    Ok(())
}

/// The address of the link that the socket is bound to. (nix takes the kernel's answer for too
/// short, since it ends with the address and not with the structure.)
fn own_mac(fd: BorrowedFd<'_>) -> io::Result<Mac> {
    let (mut address, mut length) = (UNSPECIFIED, ADDRESS_LEN);
    let pointer: *mut sockaddr_ll = &mut address;
    // SAFETY: pointer and length describe `address`, which the kernel fills no further than that;
    // every octet it may write there makes a valid sockaddr_ll.
    let result = unsafe { getsockname(fd.as_raw_fd(), pointer.cast(), &mut length) };
    Errno::result(result)?;
    match address {
        sockaddr_ll {
            sll_halen: 6,
            sll_addr: [a, b, c, d, e, f, ..],
            ..
        } => Ok(Mac([a, b, c, d, e, f])),
        _ => Err(Errno::EPFNOSUPPORT.into()), // not Ethernet
    }
}

const UNSPECIFIED: sockaddr_ll = sockaddr_ll {
    sll_family: AF_PACKET as u16,
    sll_protocol: 0,
    sll_ifindex: 0,
    sll_hatype: 0,
    sll_pkttype: 0,
    sll_halen: 0,
    sll_addr: [0; 8],
};

const ADDRESS_LEN: socklen_t = size_of::<sockaddr_ll>() as socklen_t;

/// `tp_status` of a frame's auxiliary data (packet(7)).
fn auxdata_status(message: ControlMessageOwned) -> Option<u32> {
    let ControlMessageOwned::Unknown(unknown) = message else {
        return None;
    };
    let header = unknown.cmsg_header;
    let ours = header.cmsg_level == SOL_PACKET && header.cmsg_type == PACKET_AUXDATA;
    let status = unknown.data_bytes.first_chunk().filter(|_| ours)?;
    Some(u32::from_ne_bytes(*status)) // tp_status is the first field of tpacket_auxdata
}

fn checksum_state(status: Option<u32>) -> Checksum {
    match status {
        Some(status) if status & TP_STATUS_CSUMNOTREADY != 0 => Checksum::NotReady,
        Some(_) | None => Checksum::Ready,
    }
}
