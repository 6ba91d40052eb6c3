//! A packet socket for DHCP.

use std::io::{self, IoSliceMut};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use libc::{PACKET_AUXDATA, SOL_PACKET, TP_STATUS_CSUMNOTREADY, tpacket_auxdata};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::{cmsg_space, setsockopt_impl, sockopt_impl};
use socket2::Socket;

use super::filter::{self, Pattern};
use super::frame::{self, Checksum, Datagram, Rejected};
use super::link_layer;
use crate::error::{Error, Result};
use crate::mac::Mac;

/// A socket that sends and receives UDP datagrams on one link, bypassing the kernel's own IP: it
/// needs no address, route or neighbour entry, no firewall of IP's and no rule at ingress stops it,
/// and it does not matter which program has bound the port, or whether the link is a port of a
/// bridge. Rules at egress do stop what it sends.
///
/// It is non-blocking. Closing it takes the kernel an RCU grace period, some ten milliseconds, so
/// close it when nothing waits for it.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    port: u16,
    /// The link's MAC when the socket was opened.
    mac: Mac,
}

sockopt_impl!(
    /// Whether the kernel describes each frame that it delivers (packet(7)).
    PacketAuxdata, SetOnly, SOL_PACKET, PACKET_AUXDATA, bool
);

/// What a packet socket has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<'a> {
    /// Nothing yet. Wait until the descriptor is readable.
    Nothing,
    /// A datagram to the socket's port.
    Datagram(Datagram<'a>),
    /// A frame that passed the filter but is not a valid datagram, and the reason.
    Rejected(Rejected),
}

impl PacketSocket {
    /// Opens a socket on an Ethernet link in the calling thread's namespace. It receives the
    /// datagrams to `port` in frames to the link's MAC or to all stations, whatever their IP
    /// destination, while the link is up.
    ///
    /// # Errors
    /// `is_denied` without CAP_NET_RAW, `is_absent` if there is no such link.
    pub fn open(index: u32, port: u16) -> Result<PacketSocket> {
        PacketSocket::open_for(index, port, &[])
    }

    /// Like [`PacketSocket::open`], for datagrams whose payload has one of these patterns, as after
    /// [`PacketSocket::accept_only`].
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn open_for(index: u32, port: u16, any_of: &[Pattern<'_>]) -> Result<PacketSocket> {
        let open = || {
            let socket = link_layer::open(&filter::udp_to_port(port, any_of))?;
            setsockopt(&socket, PacketAuxdata, &true)?;
            let mac = link_layer::bind_to_link(&socket, index)?;
            Ok(PacketSocket { socket, port, mac })
        };
        open().map_err(|error: io::Error| {
            Error::io(format!("open a packet socket on link {index}"), &error)
        })
    }

    /// The MAC of the link, from which the socket sends.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Gives a mark to what the socket sends from now on, for rules to know it by
    /// ([`Match::mark`](crate::nft::Match::mark)).
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, or since Linux 5.17 CAP_NET_RAW, over the network namespace.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.socket.set_mark(mark)
    }

    /// From now on receives only datagrams whose payload has one of these patterns. The kernel
    /// drops the others.
    ///
    /// # Errors
    /// If the kernel is out of memory.
    pub fn accept_only(&self, any_of: &[Pattern<'_>]) -> io::Result<()> {
        self.socket
            .attach_filter(&filter::udp_to_port(self.port, any_of))
    }

    /// Sends a datagram to one station on the link, or to all ([`Mac::BROADCAST`]).
    ///
    /// # Errors
    /// If the link is down or gone, the datagram exceeds its MTU, or its queue is full
    /// (`WouldBlock`).
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
        self.socket.send(&frame)?;
        Ok(())
    }

    /// Receives one frame into `buffer`, without waiting. A frame that does not fit is rejected.
    ///
    /// # Errors
    /// If the link has gone down or away since the last call. After a link has come back up, the
    /// socket works again.
    pub fn recv<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Received<'b>> {
        let mut control = cmsg_space!(tpacket_auxdata);
        let (length, flags, checksum) = {
            let mut into = [IoSliceMut::new(buffer)];
            let fd = self.socket.as_raw_fd();
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
            return Ok(Received::Rejected(Rejected::TooLong));
        }
        Ok(match frame::parse(&buffer[..length], checksum) {
            Ok(datagram) => Received::Datagram(datagram),
            Err(reason) => Received::Rejected(reason),
        })
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The `tp_status` of a frame, if `message` is its auxiliary data (packet(7)).
fn auxdata_status(message: ControlMessageOwned) -> Option<u32> {
    let ControlMessageOwned::Unknown(unknown) = message else {
        return None;
    };
    let header = unknown.cmsg_header;
    let is_auxdata = header.cmsg_level == SOL_PACKET && header.cmsg_type == PACKET_AUXDATA;
    let status = unknown.data_bytes.first_chunk().filter(|_| is_auxdata)?;
    Some(u32::from_ne_bytes(*status)) // tp_status is the first field of tpacket_auxdata
}

fn checksum_state(status: Option<u32>) -> Checksum {
    match status {
        Some(status) if status & TP_STATUS_CSUMNOTREADY != 0 => Checksum::NotReady,
        Some(_) | None => Checksum::Ready,
    }
}
