//! Packet sockets, made independently of linknet, which is under test.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

use crate::Result;

/// A packet socket for whole frames of this protocol on the link of this name in the calling
/// thread's namespace, and the link's hardware address.
pub(crate) fn open(link: &str, protocol: SockProtocol) -> Result<(OwnedFd, [u8; 6])> {
    let address = link_address(link)?;
    let mac = address
        .addr()
        .context("a link without a hardware address")?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, protocol)
        .context("open a packet socket")?;
    // The address names no protocol, so the socket keeps the one that it was created with
    // (packet(7)).
    bind(fd.as_raw_fd(), &address).with_context(|| format!("bind a packet socket to {link}"))?;
    Ok((fd, mac))
}

/// The next frame, if one has come.
pub(crate) fn receive(fd: &OwnedFd) -> Result<Option<Vec<u8>>> {
    let mut frame = vec![0; 65536];
    match recv(fd.as_raw_fd(), &mut frame, MsgFlags::empty()) {
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

/// A link's packet-socket address (index and hardware address), as getifaddrs(3) reports it.
fn link_address(link: &str) -> Result<LinkAddr> {
    getifaddrs()
        .context("list the addresses of links")?
        .filter(|entry| entry.interface_name == link)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no link {link}"))
}
