//! Whether the process that listens on a socket may be believed.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

/// Checks that the socket at `path`, to which `stream` is connected, is served by root, by our own
/// user, or by the owner of the directory that it is in, who decides anyway which socket that is.
///
/// The kernel tells who made the socket listen (SO_PEERCRED): with socket activation that is the
/// service manager, and after a takeover the first daemon.
///
/// # Errors
/// `PermissionDenied` if another user serves it.
pub(crate) fn ensure_trusted(stream: &UnixStream, path: &Path) -> io::Result<()> {
    let server = socket_peercred(stream)?.uid.as_raw();
    let directory_owner = || {
        let directory = path.parent()?.metadata().ok()?;
        Some(directory.uid())
    };
    if is_trusted(server, geteuid().as_raw(), directory_owner) {
        return Ok(());
    }
    let problem = format!(
        "uid {server} listens there, which is neither root, nor the own user, nor the owner of the directory: choose a path at which only root can create a socket"
    );
    Err(io::Error::new(ErrorKind::PermissionDenied, problem))
}

fn is_trusted(server: u32, own: u32, directory_owner: impl FnOnce() -> Option<u32>) -> bool {
    server == 0 || server == own || directory_owner() == Some(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_not_trusted_unless_the_directory_is_the_strangers() {
        assert!(is_trusted(0, 1000, || None));
        assert!(is_trusted(1000, 1000, || Some(0)));
        assert!(is_trusted(990, 0, || Some(990)));
        assert!(!is_trusted(1000, 0, || Some(0)));
        assert!(!is_trusted(1000, 0, || None));
    }
}
