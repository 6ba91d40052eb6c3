//! Deleting a link without waiting for the kernel's answer, and closing a socket without waiting
//! for its end.
#![allow(unsafe_code, reason = "fork and _exit have no safe wrapper")]

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use libc::RTM_DELLINK;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{ForkResult, fork, pipe2, read};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_core::NLM_F_ACK;

use super::events::{LinkEvents, LinkWatch};
use super::socket::Netlink;
use crate::error::{Result, or_absent};
use crate::netns::Netns;

/// How long to wait for the notification that the link is gone, before falling back to
/// [`Netlink::delete_link`]. It usually comes within two milliseconds.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How many descriptors are closed one by one where the kernel cannot close a range.
const MAX_DESCRIPTORS: RawFd = 1024;

impl Netlink {
    /// Deletes a link of `netns`, in which this socket was opened, and returns as soon as it is
    /// gone.
    ///
    /// The kernel answers [`Netlink::delete_link`] only after an RCU grace period, some ten to
    /// thirty milliseconds after the link has disappeared from every list. Here a child process
    /// waits for that answer, with no descriptor but the socket. The child is never reaped, and
    /// remains a zombie until the caller exits, so this is for programs that exit soon after. Where
    /// nobody would reap it then either, this function waits itself.
    ///
    /// # Errors
    /// As [`Netlink::delete_link`].
    pub fn delete_link_nowait(&self, netns: &Netns, index: u32) -> Result<()> {
        match netns.run(LinkWatch::open) {
            Ok(Ok(watch)) if orphans_are_reaped() => self.delete_link_watching(&watch, index),
            // It just takes longer.
            _ => self.delete_link(index),
        }
    }

    fn delete_link_watching(&self, watch: &LinkWatch, index: u32) -> Result<()> {
        let what = || format!("delete link {index}");
        let message = LinkUnspec::new_with_index(index).build();
        let request = self.encode(RTM_DELLINK, NLM_F_ACK, &message);
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
        // The child may have deleted it, and the notification was missed.
        or_absent(self.delete_link(index))
    }

    /// What the child process does.
    fn send_and_exit(&self, request: &[u8]) -> ! {
        close_all_but([self.as_raw_fd()]);
        let _ = send(self.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL);
        // SAFETY: `_exit` takes no pointer, and ends the process without running any destructor.
        unsafe { libc::_exit(0) }
    }
}

/// Closes a socket. If the kernel has that wait for something, a child process waits, as in
/// [`Netlink::delete_link_nowait`].
pub(super) fn close_nowait(socket: Netlink) {
    let Ok((is_closed, not_closed)) = pipe2(OFlag::O_CLOEXEC) else {
        return;
    };
    if !orphans_are_reaped() {
        return;
    }
    // SAFETY: the child of a process with threads may call only async-signal-safe functions.
    // `wait_and_exit` makes plain system calls, and allocates nothing.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        wait_and_exit(&socket, &is_closed);
    }
    // The last one to close it waits, and that must be the child.
    drop(socket);
    drop(not_closed);
}

/// What the child process does: it keeps the socket until its parent has closed it.
fn wait_and_exit(socket: &Netlink, is_closed: &OwnedFd) -> ! {
    let mut kept = [socket.as_raw_fd(), is_closed.as_raw_fd()];
    kept.sort_unstable();
    close_all_but(kept);
    let _ = read(is_closed, &mut [0]);
    // SAFETY: `_exit` takes no pointer, and ends the process without running any destructor.
    unsafe { libc::_exit(0) }
}

/// Closes all other descriptors of a child process, because it outlives its parent: a reader of the
/// parent's output must not wait for it, nor must it keep a file of a namespace open, which cannot
/// be unmounted then. The descriptors that stay are in ascending order.
fn close_all_but<const N: usize>(kept: [RawFd; N]) {
    let last = kept.last().copied().unwrap_or(-1);
    // SAFETY: neither call takes a pointer. Nothing uses the descriptors that they close: what owns
    // them is never dropped, because the process ends in the caller.
    unsafe {
        let beyond = libc::syscall(libc::SYS_close_range, last + 1, u32::MAX, 0);
        // Kernels before 5.9 have no `close_range`, and plugins few descriptors.
        let end = if beyond == 0 { last } else { MAX_DESCRIPTORS };
        for descriptor in (0..end).filter(|descriptor| !kept.contains(descriptor)) {
            libc::close(descriptor);
        }
    }
}

/// Whether a process that outlives its parent is reaped when it ends: by the machine's first
/// process always, by that of another PID namespace if it is an init. Other programs are often
/// started there without knowing of that duty.
fn orphans_are_reaped() -> bool {
    /// `PROC_PID_INIT_INO` of linux/proc_ns.h.
    const MACHINES_NAMESPACE: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == MACHINES_NAMESPACE)
        || fs::read_to_string("/proc/1/comm").is_ok_and(|name| is_init(name.trim_end()))
}

/// Whether this is the name of an init: `init` itself, `dumb-init`, `docker-init`…
fn is_init(name: &str) -> bool {
    name.ends_with("init") || ["systemd", "tini", "catatonit", "s6-svscan"].contains(&name)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::sys::wait::waitpid;
    use nix::unistd::write;

    use super::*;

    #[test]
    fn a_child_closes_all_descriptors_but_those_that_it_keeps() {
        let open = || OwnedFd::from(File::open("/dev/null").unwrap());
        let before = [open(), open(), open()];
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let after = [open(), open()];
        let all = [
            &before[0], &before[1], &before[2], &writer, &after[0], &after[1],
        ];
        let all = all.map(AsRawFd::as_raw_fd);
        let mut kept = [before[1].as_raw_fd(), writer.as_raw_fd()];
        kept.sort_unstable();
        // SAFETY: the child of a process with threads may call only async-signal-safe functions. It
        // makes plain system calls, and allocates nothing.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                close_all_but(kept);
                // SAFETY: the call takes no pointer.
                let is_open = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
                let _ = write(&writer, &all.map(|fd| u8::from(is_open(fd))));
                // SAFETY: `_exit` takes no pointer.
                unsafe { libc::_exit(0) }
            }
        };
        drop(writer);
        let mut are_open = [9; 6];
        read(&reader, &mut are_open).unwrap();
        waitpid(child, None).unwrap();
        assert_eq!(are_open, [0, 1, 0, 1, 0, 0]);
    }

    #[test]
    fn an_init_is_known_by_its_name() {
        for name in ["init", "systemd", "tini", "dumb-init", "catatonit"] {
            assert!(is_init(name), "{name}");
        }
        for name in ["", "multus-daemon", "sleep", "sh", "initialise"] {
            assert!(!is_init(name), "{name}");
        }
    }
}
