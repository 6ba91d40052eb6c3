//! The packet socket.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::frame::{Datagram, Rejected};
use crate::{Mac, Result};

/// A packet socket for DHCP on one link.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// What a packet socket had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<'a> {
    /// Nothing: wait until the descriptor is readable.
    Nothing,
    /// A datagram.
    Datagram(Datagram<'a>),
    /// A frame that is not used, and why.
    Rejected(Rejected),
}

impl PacketSocket {
    /// Opens a socket on a link in the calling thread's namespace, which receives datagrams to
    /// `port`.
    pub fn open(index: u32, port: u16) -> Result<PacketSocket> {
        let _ = (index, port);
        todo!()
    }

    /// Sends a datagram to a station, or to all ([`Mac::BROADCAST`]).
    pub fn send(
        &self,
        to: Mac,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let _ = (to, source, destination, payload);
        todo!()
    }

    /// Receives a frame, without waiting.
    pub fn recv<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Received<'b>> {
        let _ = buffer;
        todo!()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
