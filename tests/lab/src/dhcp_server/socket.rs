use std::{
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, ensure};
use nix::sys::socket::{MsgFlags, SockProtocol, send};

use crate::{Result, packet_socket};

/// A packet socket on one link: whole Ethernet frames in and out, IPv4 only in.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    mac: [u8; 6],
    /// Never read. While somebody holds the port, the kernel does not answer a unicast request with
    /// "port unreachable"; of several servers on one node the first does.
    _port: Option<UdpSocket>,
}

impl Socket {
    /// On the link of this name in the calling thread's namespace.
    pub(super) fn open(link: &str) -> Result<Socket> {
        let (fd, mac) = packet_socket::open(link, SockProtocol::EthIp)?;
        Ok(Socket {
            fd,
            mac,
            _port: UdpSocket::bind("0.0.0.0:67").ok(),
        })
    }

    pub(super) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The next frame, if one has come.
    pub(super) fn recv(&self) -> Result<Option<Vec<u8>>> {
        packet_socket::receive(&self.fd)
    }

    pub(super) fn send(&self, frame: &[u8]) -> Result {
        let sent = send(self.fd.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
        ensure!(sent == frame.len(), "sent {sent} of {} octets", frame.len());
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
