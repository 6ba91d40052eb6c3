//! Deleting a link without waiting for what the kernel still does when it is gone.
#![allow(
    unsafe_code,
    reason = "a process of its own waits for the kernel, and nix marks fork as unsafe"
)]

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use libc::RTM_DELLINK;
use netlink_packet_core::NLM_F_ACK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork};

use super::events::{LinkEvents, LinkWatch};
use super::link::change;
use super::{Change, Netlink};
use crate::{Error, Netns, Result};

/// How long to wait for the link to go before it is deleted in the ordinary way. One or two
/// milliseconds are usual.
const PATIENCE: Duration = Duration::from_secs(1);

impl Netlink {
    /// Deletes a link of `netns`, in which this socket was opened, and returns as soon as it is
    /// gone.
    ///
    /// The kernel answers [`Netlink::delete_link`] only after an RCU grace period that follows, ten
    /// to thirty milliseconds in which nobody can see the link any more. Here a child process waits
    /// for that answer; whoever reaps the caller's orphans reaps it.
    ///
    /// # Errors
    /// As for [`Netlink::delete_link`].
    pub fn delete_link_nowait(&self, netns: &Netns, index: u32) -> Result<()> {
        let what = || format!("delete link {index}");
        let watch = netns
            .run(LinkWatch::open)
            .unwrap_or_else(|error| Err(Error::io("enter the network namespace", &error)))?;
        let request = self.encode(
            RTM_DELLINK,
            NLM_F_ACK | Change::Existing.flags(),
            &change(index),
        );
        // SAFETY: the child makes system calls and ends, as a child of a process with threads must.
        // What it uses was there before.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => self.send_and_end(&request),
            Ok(ForkResult::Parent { .. }) => {}
            Err(_) => return self.delete_link(index),
        }
        let deadline = Instant::now() + PATIENCE;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let mut ready = [
                PollFd::new(watch.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(
                &mut ready,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            );
            // The kernel's answer, which comes first when it is a refusal.
            if ready[1].any().unwrap_or(false) {
                return self.receive(&what, |_| Ok(())).map(|_| ());
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
            // Which is what was asked for, and went unheard.
            Err(error) if error.is_absent() => Ok(()),
            end => end,
        }
    }

    /// What the child does: nobody must wait for it, so it lets go of the streams that the caller's
    /// caller reads.
    fn send_and_end(&self, request: &[u8]) -> ! {
        // SAFETY: plain system calls, on descriptors and memory that the child has a copy of.
        unsafe {
            for stream in 0..3 {
                libc::close(stream);
            }
            libc::send(
                self.socket.as_raw_fd(),
                request.as_ptr().cast(),
                request.len(),
                libc::MSG_NOSIGNAL,
            );
            libc::_exit(0)
        }
    }
}
