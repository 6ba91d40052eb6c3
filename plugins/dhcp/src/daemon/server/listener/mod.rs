//! The listening socket: obtained by socket activation, takeover or bind.

mod activation;
mod bind;
mod error;
mod takeover;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

pub(crate) use error::ListenError;

/// The listening socket, and what must be removed when the daemon stops.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    /// The file to remove; `None` if it is systemd's, or if a successor has taken over the socket.
    file: RefCell<Option<SocketFile>>,
    /// Locked for as long as the daemon listens on a socket that it has bound; the kernel releases
    /// it when the process ends in any way.
    _lock: Option<File>,
    /// Further sockets that came with it in a takeover.
    others: Vec<UnixListener>,
}

/// A socket's file, by path and inode: another process may have created another one there since.
#[derive(Debug, PartialEq, Eq)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// The daemon's socket, and a second one at `podman` for netavark, if that is wanted: those that
    /// the service manager passes. If it passes none, see [`Listener::open`]. The second is taken over
    /// together with the first alone, because another program may listen on its path.
    ///
    /// # Errors
    /// Why the daemon cannot listen.
    pub(crate) fn open_all(
        path: &Path,
        podman: Option<&Path>,
        take_over: bool,
        group: Option<u32>,
    ) -> Result<Vec<Listener>, ListenError> {
        let passed = activation::passed_sockets()?;
        let passed = passed.into_iter();
        let mut all: Vec<Listener> = passed.map(|it| Listener::new(it, path, None)).collect();
        if all.is_empty() {
            let mut own = Listener::open(path, take_over, group)?;
            let others = mem::take(&mut own.others);
            all.push(own);
            // Those that are not wanted are closed, and their files removed.
            let others = others.into_iter().filter_map(Listener::taken_over);
            all.extend(others.filter(|it| podman.is_some_and(|podman| it.is_at(podman))));
        }
        if let Some(podman) = podman
            && !all.iter().any(|listener| listener.is_at(podman))
        {
            all.push(Listener::open(podman, false, group)?);
        }
        Ok(all)
    }

    /// With `take_over`, takes the socket from the daemon that listens on `path`, which then exits.
    /// Otherwise binds `path`, for its owner and `group`.
    fn open(path: &Path, take_over: bool, group: Option<u32>) -> Result<Listener, ListenError> {
        bind::warn_if_open_to_all(path);
        let failed = |source| ListenError::Io {
            what: "take over",
            path: path.to_path_buf(),
            source,
        };
        if take_over {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    let taken = takeover::take_over(path, stream).map_err(failed)?;
                    let mut listener = Listener::new(taken.socket, path, taken.lock);
                    listener.others = taken.others;
                    return Ok(listener);
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(failed(error));
                }
                // Nobody listens there.
                Err(_) => {}
            }
        }
        let (socket, lock) = bind::bind(path, group)?;
        Ok(Listener::new(socket, path, Some(lock)))
    }

    /// A further socket of a daemon that has handed over its own; `None` if its path is unknown.
    fn taken_over(socket: UnixListener) -> Option<Listener> {
        let address = socket.local_addr().ok()?;
        let path = address.as_pathname()?;
        let lock = takeover::take_lock(path).ok()?;
        Some(Listener::new(socket, path, lock))
    }

    /// Without a lock, the socket is the service manager's, which also removes its file.
    fn new(socket: UnixListener, path: &Path, lock: Option<File>) -> Listener {
        let file = lock.as_ref().and_then(|_| SocketFile::at(path));
        Listener {
            socket,
            file: RefCell::new(file),
            _lock: lock,
            others: Vec::new(),
        }
    }

    /// Whether it listens at this path.
    fn is_at(&self, path: &Path) -> bool {
        let own = self.socket.local_addr();
        own.is_ok_and(|own| own.as_pathname() == Some(path))
    }

    /// Whether it has accepted this connection.
    pub(super) fn has_accepted(&self, stream: &tokio::net::UnixStream) -> bool {
        let address = stream.local_addr();
        let path = address.as_ref().ok().and_then(|it| it.as_pathname());
        path.is_some_and(|path| self.is_at(path))
    }

    /// Keeps the socket's file when the daemon stops: a successor listens there now.
    pub(super) fn keep_socket_file(&self) {
        self.file.take();
    }

    /// The socket itself, for the event loop.
    pub(crate) fn socket(&self) -> io::Result<UnixListener> {
        self.socket.set_nonblocking(true)?;
        self.socket.try_clone()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The lock file stays: if it were removed, two daemons could lock two different files.
        if let Some(file) = self.file.take()
            && SocketFile::at(&file.path).as_ref() == Some(&file)
            && let Err(error) = fs::remove_file(&file.path)
        {
            tracing::warn!(path = %file.path.display(), %error, "cannot remove the socket file");
        }
    }
}

impl SocketFile {
    fn at(path: &Path) -> Option<SocketFile> {
        let inode = fs::symlink_metadata(path).ok()?.ino();
        Some(SocketFile {
            path: path.to_path_buf(),
            inode,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("run/cni/dhcp.sock");
        (directory, path)
    }

    #[test]
    fn the_socket_is_usable_by_its_owner_only_and_removed_with_the_daemon() {
        let (_scratch, path) = scratch();
        let listener = Listener::open(&path, false, None).expect("nothing is in the way");
        let mode =
            |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("it has one")), 0o700);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn the_lock_is_its_owners_and_neither_a_link_nor_a_pipe_is_opened_for_it() {
        let (scratch, path) = scratch();
        let lock = bind::lock_file(&path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("creating it");
        fs::write(&lock, "").expect("writing");
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).expect("it is ours");
        drop(Listener::open(&path, false, None).expect("nothing is in the way"));
        let mode = fs::metadata(&lock).expect("it stays").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let target = scratch.path().join("elsewhere");
        fs::remove_file(&lock).expect("it is there");
        std::os::unix::fs::symlink(&target, &lock).expect("a link");
        assert!(Listener::open(&path, false, None).is_err());
        assert!(!target.exists());
        fs::remove_file(&lock).expect("it is there");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &lock, mode).expect("a pipe");
        assert!(Listener::open(&path, false, None).is_err());
    }

    #[test]
    fn a_socket_file_without_a_listener_is_replaced() {
        let (_scratch, path) = scratch();
        fs::create_dir_all(path.parent().expect("it has one")).expect("creating it");
        drop(UnixListener::bind(&path).expect("a socket to leave behind"));
        assert!(path.exists(), "std leaves the file of a closed listener");
        Listener::open(&path, false, None).expect("the dead socket is no obstacle");
    }

    #[test]
    fn a_second_daemon_is_refused_whether_or_not_the_first_uses_the_lock() {
        let is_refused = |path| {
            matches!(
                Listener::open(path, false, None),
                Err(ListenError::Taken(_))
            )
        };
        let (_scratch, path) = scratch();
        let first = Listener::open(&path, false, None).expect("nothing is in the way");
        assert!(is_refused(&path));
        drop(first);
        let _other = UnixListener::bind(&path).expect("another implementation's socket");
        assert!(is_refused(&path));
    }

    #[test]
    fn a_daemon_whose_socket_was_removed_is_not_said_to_listen_there() {
        let (_scratch, path) = scratch();
        let _first = Listener::open(&path, false, None).expect("nothing is in the way");
        fs::remove_file(&path).expect("it is there");
        for take_over in [false, true] {
            let second = Listener::open(&path, take_over, None);
            assert!(matches!(second, Err(ListenError::Unreachable(_))));
        }
    }

    #[test]
    fn a_socket_that_another_process_has_bound_since_is_kept() {
        let (_scratch, path) = scratch();
        let ours = Listener::open(&path, false, None).expect("nothing is in the way");
        fs::remove_file(&path).expect("it is there");
        let _theirs = UnixListener::bind(&path).expect("the path is free");
        drop(ours);
        assert!(path.exists(), "it belongs to the other process");
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_kept() {
        let (_scratch, path) = scratch();
        fs::create_dir_all(path.parent().expect("it has one")).expect("creating it");
        fs::write(&path, "precious").expect("writing");
        assert!(matches!(
            Listener::open(&path, false, None),
            Err(ListenError::NotASocket(_))
        ));
        assert_eq!(
            fs::read_to_string(&path).expect("it is still there"),
            "precious"
        );
    }
}
