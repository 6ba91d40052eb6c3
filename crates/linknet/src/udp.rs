//! A UDP socket for DHCP on a link that has its address.
#![allow(unsafe_code, reason = "nix cannot bind to a device by its number")]

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{SO_BINDTOIFINDEX, SOL_SOCKET, c_int, in_addr, in_pktinfo};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recvfrom,
    sendmsg, setsockopt, socket, sockopt as option,
};

use crate::{Error, Result, sockopt};

/// A socket that sends and receives UDP datagrams on one link, from an address that the link has:
/// the unicast exchange of RENEWING (RFC 2131 §4.4.5), and RELEASE. It is non-blocking.
#[derive(Debug)]
pub struct UdpClient {
    fd: OwnedFd,
    index: c_int,
}

impl UdpClient {
    /// Opens a socket on a link in the calling thread's namespace, bound to `port` of any address,
    /// next to whoever else is. That the link is not there shows when something is sent.
    ///
    /// # Errors
    /// `is_denied` without CAP_NET_BIND_SERVICE.
    pub fn open(index: u32, port: u16) -> Result<UdpClient> {
        let open = || {
            let index = c_int::try_from(index).map_err(|_| Errno::ENODEV)?;
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
            setsockopt(&fd, option::ReuseAddr, &true)?;
            setsockopt(&fd, option::Broadcast, &true)?;
            // SAFETY: SO_BINDTOIFINDEX takes an int (Linux 5.1).
            unsafe { sockopt::set(&fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index)? };
            bind(
                fd.as_raw_fd(),
                &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)),
            )?;
            Ok(UdpClient { fd, index })
        };
        open().map_err(|error: io::Error| {
            Error::io(format!("open UDP port {port} on link {index}"), &error)
        })
    }

    /// Sends a datagram from `source`, an address of the link.
    ///
    /// # Errors
    /// If the link does not have the address, or no route leads to the destination.
    pub fn send(
        &self,
        source: Ipv4Addr,
        destination: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let from = in_pktinfo {
            ipi_ifindex: self.index,
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes(source.octets()),
            },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&from)];
        let to = SockaddrIn::from(destination);
        sendmsg(
            self.fd.as_raw_fd(),
            &[IoSlice::new(payload)],
            &control,
            MsgFlags::empty(),
            Some(&to),
        )?;
        Ok(())
    }

    /// Receives a datagram into `buffer`, without waiting: its length, and who sent it. `None` if
    /// there is nothing. What does not fit is cut off.
    ///
    /// # Errors
    /// What the network answered to something that was sent (connection refused, no route to host),
    /// or if the link is gone.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddrV4)>> {
        match recvfrom::<SockaddrIn>(self.fd.as_raw_fd(), buffer) {
            Ok((length, Some(from))) => Ok(Some((length, from.into()))),
            Ok((_, None)) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for UdpClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpClient {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
