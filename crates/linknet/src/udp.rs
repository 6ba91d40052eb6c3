//! The UDP socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::Result;

/// A UDP socket for DHCP on one link that has its address.
#[derive(Debug)]
pub struct UdpClient {
    fd: OwnedFd,
}

impl UdpClient {
    /// Opens a socket on a link in the calling thread's namespace, bound to 0.0.0.0:`port`.
    pub fn open(index: u32, port: u16) -> Result<UdpClient> {
        let _ = (index, port);
        todo!()
    }

    /// Sends from an address of the link.
    pub fn send(&self, source: Ipv4Addr, destination: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        let _ = (source, destination, payload);
        todo!()
    }

    /// Receives, without waiting: the length and the sender. `None`: nothing there.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddrV4)>> {
        let _ = buffer;
        todo!()
    }
}

impl AsFd for UdpClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
