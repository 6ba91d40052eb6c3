//! Hearing of changes to links as they happen.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use libc::{RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK};
use netlink_packet_core::Parseable;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use super::{BUFFER, Link, messages};
use crate::{Error, Result};

/// A socket on which the kernel tells of every link of one namespace that is new, gone, or changed:
/// set up or down, its carrier gone or back, its name or address another.
///
/// It is non-blocking.
pub struct LinkWatch {
    socket: Socket,
    buffer: RefCell<Vec<u8>>,
}

/// What a [`LinkWatch`] had to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvents {
    /// Nothing: wait until the descriptor is readable.
    None,
    /// Links that are new or changed, as they are now, and the numbers of those that are gone.
    Changes {
        /// New or changed.
        changed: Vec<Link>,
        /// Gone.
        removed: Vec<u32>,
    },
    /// There was more than the socket could hold, and some of it is lost: look for yourself.
    Overflow,
}

impl LinkWatch {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn open() -> Result<LinkWatch> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(RTNLGRP_LINK)?;
            socket.set_non_blocking(true)?;
            Ok(LinkWatch {
                socket,
                buffer: RefCell::new(Vec::with_capacity(BUFFER)),
            })
        };
        open().map_err(|error: io::Error| Error::io("watch links", &error))
    }

    /// What the kernel has told next.
    ///
    /// # Errors
    /// If the socket is broken.
    pub fn next(&self) -> io::Result<LinkEvents> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.clear();
        match self.socket.recv(&mut *buffer, 0) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                return Ok(LinkEvents::Overflow);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(LinkEvents::None);
            }
            Err(error) => return Err(error),
        }
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for message in messages(&buffer).flatten() {
            match (message.message_type(), Link::parse(message.payload())) {
                (RTM_NEWLINK, Ok(link)) => changed.push(link),
                (RTM_DELLINK, Ok(link)) => removed.push(link.index),
                _ => {}
            }
        }
        Ok(LinkEvents::Changes { changed, removed })
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for LinkWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkWatch")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
