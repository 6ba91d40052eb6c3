//! Who is at the other end of a Unix socket.
#![allow(unsafe_code, reason = "no crate has a function for SO_PEERGROUPS")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::gid_t;

/// The supplementary groups of the process at the other end of a Unix socket, as they were when it
/// connected (`SO_PEERGROUPS` of unix(7)). Its primary group need not be among them.
///
/// # Errors
/// If the kernel cannot be asked: it has this option since Linux 4.13.
pub fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<gid_t>> {
    let mut groups: Vec<gid_t> = vec![0; 32];
    loop {
        let room = size_of_val(groups.as_slice());
        let mut size = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `size` octets, and `groups` has that many.
        let status = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        let count = size as usize / size_of::<gid_t>();
        if status == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The kernel says how many there are, and that does not change.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use nix::unistd::getgroups;

    use super::*;

    /// Gives groups to this thread alone, and returns those that it has then: the old ones without
    /// CAP_SETGID.
    fn join(groups: &[gid_t]) -> Vec<gid_t> {
        // SAFETY: the kernel reads as many groups as there are.
        unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        let own = getgroups().unwrap().into_iter();
        own.map(gid_t::from).collect()
    }

    #[test]
    fn the_groups_are_those_of_the_peer_however_many_they_are() {
        for count in [0, 1, 31, 32, 33, 300] {
            let groups: Vec<gid_t> = (1000..1000 + count).collect();
            let member = thread::spawn(move || {
                let own = join(&groups);
                (UnixStream::pair().unwrap(), own)
            });
            let ((here, _there), own) = member.join().unwrap();
            assert_eq!(peer_groups(&here).unwrap(), own);
        }
    }

    #[test]
    fn a_file_that_is_no_socket_has_no_peer() {
        let file = File::open("/dev/null").unwrap();
        let error = peer_groups(&file).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    }
}
