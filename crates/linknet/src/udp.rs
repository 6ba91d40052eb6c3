//! A UDP socket for DHCP on a link that has its address.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use libc::{c_int, in_addr, in_pktinfo};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use socket2::{Domain, Socket, Type};

use crate::error::{Error, Result};

/// A socket that sends and receives UDP datagrams on one link, from an address of that link: for
/// the unicast exchange of RENEWING (RFC 2131 §4.4.5), and for RELEASE. It is non-blocking.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
    ifindex: c_int,
}

impl UdpClient {
    /// Opens a socket on a link in the calling thread's namespace, bound to `port` of every
    /// address. Other sockets may be bound to the same port. A missing link is reported when
    /// something is sent.
    ///
    /// # Errors
    /// `is_denied` without CAP_NET_BIND_SERVICE.
    pub fn open(index: u32, port: u16) -> Result<UdpClient> {
        let open = || {
            let ifindex = c_int::try_from(index).map_err(|_| Errno::ENODEV)?;
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), None)?;
            socket.set_reuse_address(true)?;
            socket.set_broadcast(true)?;
            socket.bind_device_by_index_v4(NonZeroU32::new(index))?;
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
            Ok(UdpClient {
                socket: socket.into(),
                ifindex,
            })
        };
        open().map_err(|error: io::Error| {
            Error::io(format!("open UDP port {port} on link {index}"), &error)
        })
    }

    /// Sends a datagram from `source`, an address of the link.
    ///
    /// # Errors
    /// If the link does not have the address, or there is no route to the destination.
    pub fn send(
        &self,
        source: Ipv4Addr,
        destination: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let from = in_pktinfo {
            ipi_ifindex: self.ifindex,
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes(source.octets()),
            },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&from)];
        let to = SockaddrIn::from(destination);
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(payload)],
            &control,
            MsgFlags::empty(),
            Some(&to),
        )?;
        Ok(())
    }

    /// Receives a datagram into `buffer`, without waiting, and returns its length and sender.
    /// `None` if there is none. A datagram that does not fit is cut off.
    ///
    /// # Errors
    /// If the network rejected an earlier datagram (connection refused, no route to host), or the
    /// link is gone.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddrV4)>> {
        match self.socket.recv_from(buffer) {
            Ok((length, SocketAddr::V4(from))) => Ok(Some((length, from))),
            Ok((_, SocketAddr::V6(_))) => Ok(None), // not on an IPv4 socket
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for UdpClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpClient {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
