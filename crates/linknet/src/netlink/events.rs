//! Notifications of changes to links.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use libc::{RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK};
use nix::errno::Errno;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::link::{self, Link};
use super::socket::{BUFFER_LEN, messages, receive_datagram};
use crate::error::{Error, Result};

/// A socket on which the kernel reports every link of one namespace that is added, removed or
/// changed: set up or down, renamed, with another address, or with its carrier lost or back.
///
/// It is non-blocking.
pub struct LinkWatch {
    socket: Socket,
    receive_buffer: RefCell<Vec<u8>>,
}

/// What a [`LinkWatch`] has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvents {
    /// Nothing yet. Wait until the descriptor is readable.
    None,
    /// Some links have changed.
    Changes {
        /// The links that were added or changed, as they are now.
        changed: Vec<Link>,
        /// The indices of the links that were removed.
        removed: Vec<u32>,
    },
    /// There were more notifications than the socket could hold, and some are lost. List the links
    /// to find out what has changed.
    Overflow,
}

impl LinkWatch {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn open() -> Result<LinkWatch> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(RTNLGRP_LINK)?;
            socket.set_non_blocking(true)?;
            Ok(LinkWatch {
                socket,
                receive_buffer: RefCell::new(Vec::with_capacity(BUFFER_LEN)),
            })
        };
        open().map_err(|error: io::Error| Error::io("watch links", &error))
    }

    /// Receives the next notifications, without waiting.
    ///
    /// # Errors
    /// If the socket is broken.
    pub fn next(&self) -> io::Result<LinkEvents> {
        let mut buffer = self.receive_buffer.borrow_mut();
        match receive_datagram(&self.socket, &mut buffer) {
            Ok(()) => {}
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
            match (message.message_type(), link::parse(message.payload())) {
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
