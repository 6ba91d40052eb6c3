use std::{
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, bail, ensure};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send,
        socket,
    },
};

use crate::Result;

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
        let address = link_address(link)?;
        let mac = address
            .addr()
            .context("a link without a hardware address")?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthIp,
        )
        .context("open a packet socket")?;
        // The address names no protocol, so the socket keeps the one that it was created with
        // (packet(7)).
        bind(fd.as_raw_fd(), &address)
            .with_context(|| format!("bind a packet socket to {link}"))?;
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
        let mut frame = vec![0; 65536];
        match recv(self.fd.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => {
                frame.truncate(length);
                frame.shrink_to_fit();
                Ok(Some(frame))
            }
            // A link that goes down says so once, and is heard again when it comes back up.
            Err(Errno::EAGAIN | Errno::ENETDOWN) => Ok(None),
            Err(errno) => bail!("receive a frame: {errno}"),
        }
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

/// A link's packet-socket address (index and hardware address), as getifaddrs(3) reports it.
fn link_address(link: &str) -> Result<LinkAddr> {
    getifaddrs()
        .context("list the addresses of links")?
        .filter(|entry| entry.interface_name == link)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no link {link}"))
}
