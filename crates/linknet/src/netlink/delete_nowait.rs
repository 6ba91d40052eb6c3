//! Deleting a link without waiting for the kernel's answer.
#![allow(unsafe_code, reason = "fork and _exit have no safe wrapper")]

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use libc::RTM_DELLINK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{ForkResult, close, fork};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_core::NLM_F_ACK;

use super::events::{LinkEvents, LinkWatch};
use super::socket::{Change, Netlink};
use crate::error::{Error, Result};
use crate::netns::Netns;

/// How long to wait for the notification that the link is gone, before falling back to
/// [`Netlink::delete_link`]. It usually comes within two milliseconds.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(1);

impl Netlink {
    /// Deletes a link of `netns`, in which this socket was opened, and returns as soon as it is
    /// gone.
    ///
    /// The kernel answers [`Netlink::delete_link`] only after an RCU grace period, some ten to
    /// thirty milliseconds after the link has disappeared from every list. Here a child process
    /// waits for that answer. The child is never reaped, and remains a zombie until the caller
    /// exits, so this is for programs that exit soon after.
    ///
    /// # Errors
    /// As [`Netlink::delete_link`].
    pub fn delete_link_nowait(&self, netns: &Netns, index: u32) -> Result<()> {
        let what = || format!("delete link {index}");
        let watch = netns
            .run(LinkWatch::open)
            .unwrap_or_else(|error| Err(Error::io("enter the network namespace", &error)))?;
        let message = LinkUnspec::new_with_index(index).build();
        let flags = NLM_F_ACK | Change::Existing.flags();
        let request = self.encode(RTM_DELLINK, flags, &message);
        // SAFETY: the child of a process with threads may call only async-signal-safe functions.
        // `send_and_exit` makes plain system calls, and allocates nothing.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => self.send_and_exit(&request),
            Ok(ForkResult::Parent { .. }) => {}
            Err(_) => return self.delete_link(index),
        }
        let deadline = Instant::now() + REMOVAL_TIMEOUT;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let mut ready = [
                PollFd::new(watch.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(
                &mut ready,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            );
            // The answer, which comes before any notification if it is a refusal.
            if ready[1].any().unwrap_or(false) {
                return self.receive_verdict(&what);
            }
            match watch.next() {
                Ok(LinkEvents::Changes { removed, .. }) if removed.contains(&index) => {
                    return Ok(());
                }
                Ok(LinkEvents::Changes { .. } | LinkEvents::None) => {}
                Ok(LinkEvents::Overflow) | Err(_) => break,
            }
        }
        match self.delete_link(index) {
            // The child deleted it, and the notification was missed.
            Err(error) if error.is_absent() => Ok(()),
            end => end,
        }
    }

    /// What the child process does. It closes its standard streams first, so that a reader of the
    /// caller's output does not wait for the child as well.
    fn send_and_exit(&self, request: &[u8]) -> ! {
        for stream in 0..3 {
            let _ = close(stream);
        }
        let _ = send(self.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL);
        // SAFETY: `_exit` takes no pointer, and ends the process without running any destructor.
        unsafe { libc::_exit(0) }
    }
}
