//! Opening a packet socket on one link.
#![allow(unsafe_code, reason = "nix cannot make a link-layer address safely")]

use std::io;
use std::os::fd::AsRawFd;

use libc::{AF_PACKET, c_int, sockaddr_ll};
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, SockaddrLike, SockaddrStorage, bind, getsockname};
use socket2::{Domain, Socket, Type};

use crate::mac::Mac;

/// Opens a non-blocking packet socket. It receives nothing until [`bind_to_link`].
///
/// Its protocol is 0 until then. With another protocol, frames would arrive before the filter is
/// attached, and binding the socket would take an RCU grace period, which the kernel needs to stop
/// delivering frames from all links.
pub(super) fn open() -> io::Result<Socket> {
    let kind = Type::RAW.cloexec().nonblocking();
    Socket::new_raw(Domain::PACKET, kind, None)
}

/// Binds the socket to a link and a protocol (an `ETH_P_…`), and returns the link's MAC.
pub(super) fn bind_to_link(socket: &Socket, index: u32, protocol: c_int) -> io::Result<Mac> {
    let address = sockaddr_ll {
        sll_family: AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: c_int::try_from(index).map_err(|_| Errno::ENODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let pointer: *const sockaddr_ll = &address;
    // SAFETY: the pointer is valid, and points to a sockaddr_ll with the family of one. nix copies
    // it.
    let address = unsafe { LinkAddr::from_raw(pointer.cast(), None) };
    bind(socket.as_raw_fd(), &address.ok_or(Errno::EINVAL)?)?;

    // Not read as a LinkAddr, for which nix demands the length of the whole structure: the kernel's
    // answer ends with the address.
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let octets = bound
        .as_link_addr()
        .filter(|address| address.halen() == 6)
        .and_then(LinkAddr::addr);
    octets.map(Mac).ok_or(Errno::EPFNOSUPPORT.into()) // not an Ethernet link
}
