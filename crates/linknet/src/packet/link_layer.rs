//! Opening a packet socket on one link.
#![allow(unsafe_code, reason = "nix cannot make a link-layer address safely")]

use std::io;
use std::os::fd::AsRawFd;

use libc::{AF_PACKET, ETH_P_ALL, PACKET_IGNORE_OUTGOING, SOL_PACKET, c_int, sockaddr_ll};
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, SockaddrLike, SockaddrStorage, bind, getsockname, setsockopt};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::mac::Mac;

sockopt_impl!(
    /// Whether the frames that the station sends itself are left out (since Linux 4.20).
    IgnoreOutgoing, SetOnly, SOL_PACKET, PACKET_IGNORE_OUTGOING, bool
);

/// Opens a non-blocking packet socket with this filter. It receives nothing until
/// [`bind_to_link`].
///
/// Its protocol is 0 until then. With another protocol, frames would arrive before the filter is
/// attached, and binding the socket would take an RCU grace period, which the kernel needs to stop
/// delivering frames from all links.
pub(super) fn open(filter: &[SockFilter]) -> io::Result<Socket> {
    let kind = Type::RAW.cloexec().nonblocking();
    let socket = Socket::new_raw(Domain::PACKET, kind, None)?;
    socket.attach_filter(filter)?;
    // Without this, the kernel copies them for the filter, which drops them.
    let _ = setsockopt(&socket, IgnoreOutgoing, &true);
    Ok(socket)
}

/// Binds the socket to a link, and returns the link's MAC.
///
/// The socket is bound to all protocols, because the kernel hands these their frames first. One
/// that is bound to a protocol gets what the container's own rules at ingress (netdev tables and
/// tc) leave over, and nothing while the link is a port of a bridge or of the like.
pub(super) fn bind_to_link(socket: &Socket, index: u32) -> io::Result<Mac> {
    let address = sockaddr_ll {
        sll_family: AF_PACKET as u16,
        sll_protocol: (ETH_P_ALL as u16).to_be(),
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
