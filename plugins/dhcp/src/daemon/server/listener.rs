//! Obtaining the listening socket: socket activation, takeover, or bind under a lock, which
//! replaces the socket file of a daemon that was killed.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;

use crate::protocol::{self, Request, VERSION, Verb};

/// How long the other daemon may take to hand over its socket.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// The listening socket, and what must be removed when the daemon stops.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    /// The file to remove; `None` if it is systemd's, or if a successor has taken over the socket.
    file: RefCell<Option<SocketFile>>,
    /// Locked for as long as the daemon listens on a socket that it has bound; the kernel releases
    /// it when the process ends in any way.
    _lock: Option<File>,
}

/// A socket's file, by path and inode: another process may have created another one there since.
#[derive(Debug, PartialEq, Eq)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Another daemon listens on this path.
    #[error(
        "another dhcp daemon is listening on {0}: stop it first, or choose another -socketpath"
    )]
    Taken(PathBuf),
    /// The path exists and is not a socket.
    #[error("{0} exists and is not a socket: remove it, or choose another -socketpath")]
    NotASocket(PathBuf),
    /// systemd passed something other than a Unix stream socket.
    #[error("the service manager passed no usable Unix stream socket (LISTEN_FDS)")]
    Activation(#[source] io::Error),
    /// A file operation failed.
    #[error("cannot {what} {path}")]
    Io {
        /// The operation that failed, such as "bind".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Takes the socket from the service manager, if that passes one. Otherwise, with `take_over`,
    /// takes it from the daemon that listens on `path`, which then exits. Otherwise binds `path`,
    /// and replaces a socket file that no process listens on. The socket is usable by its owner
    /// only (0600), or by `group` too (0660).
    ///
    /// # Errors
    /// Why the daemon cannot listen.
    pub(crate) fn open(
        path: &Path,
        take_over: bool,
        group: Option<u32>,
    ) -> Result<Listener, ListenError> {
        let mut passed = listenfd::ListenFd::from_env();
        if passed.len() > 0 {
            let socket = passed
                .take_unix_listener(0)
                .and_then(|socket| socket.ok_or_else(|| ErrorKind::InvalidInput.into()))
                .map_err(ListenError::Activation)?;
            return Ok(Listener::of_service_manager(socket));
        }
        if take_over && let Ok(stream) = UnixStream::connect(path) {
            return Listener::take_over(path, stream);
        }
        Listener::bind(path, group)
    }

    /// A socket whose file the service manager removes.
    fn of_service_manager(socket: UnixListener) -> Listener {
        Listener {
            socket,
            file: RefCell::new(None),
            _lock: None,
        }
    }

    fn take_over(path: &Path, stream: UnixStream) -> Result<Listener, ListenError> {
        let refused = |source| ListenError::Io {
            what: "take over",
            path: path.to_path_buf(),
            source,
        };
        let socket = ask_for_socket(stream).map_err(refused)?;
        // Without a lock file beside it, the socket is systemd's, which also removes it.
        let lock = lock_file(path);
        if !lock.exists() {
            return Ok(Listener::of_service_manager(socket));
        }
        let lock = File::options().write(true).open(&lock).map_err(refused)?;
        // The other daemon releases it in a moment, when it has sent its last replies.
        lock.lock().map_err(refused)?;
        Ok(Listener {
            socket,
            file: RefCell::new(SocketFile::at(path)),
            _lock: Some(lock),
        })
    }

    fn bind(path: &Path, group: Option<u32>) -> Result<Listener, ListenError> {
        let failed = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| ListenError::Io { what, path, source }
        };
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(failed("create", directory))?;
        }
        let lock_path = lock_file(path);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open the lock", &lock_path))?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => ListenError::Taken(path.to_path_buf()),
            TryLockError::Error(error) => failed("lock", &lock_path)(error),
        })?;
        remove_dead_socket(path)?;
        let previous = umask(Mode::from_raw_mode(0o177));
        let socket = UnixListener::bind(path);
        umask(previous);
        let socket = socket.map_err(failed("bind", path))?;
        if group.is_some() {
            chown(path, None, group).map_err(failed("set the group of", path))?;
            let mode = fs::Permissions::from_mode(0o660);
            fs::set_permissions(path, mode).map_err(failed("set the mode of", path))?;
        }
        Ok(Listener {
            socket,
            file: RefCell::new(SocketFile::at(path)),
            _lock: Some(lock),
        })
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

fn lock_file(socket: &Path) -> PathBuf {
    socket.with_added_extension("lock")
}

/// Asks a daemon for its listening socket.
fn ask_for_socket(mut stream: UnixStream) -> io::Result<UnixListener> {
    stream.set_read_timeout(Some(TAKEOVER_TIMEOUT))?;
    let request = Request {
        protocol: VERSION,
        traceparent: None,
        verb: Verb::Takeover,
    };
    stream.write_all(&protocol::to_line(&request)?)?;
    let mut descriptor = None;
    let mut answer = [0; 4096];
    let length = protocol::receive(&stream, &mut answer, &mut descriptor)?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    let descriptor = descriptor
        .ok_or_else(|| io::Error::other(format!("the other daemon answered {}", answer.trim())))?;
    Ok(UnixListener::from(descriptor))
}

/// Removes the socket file of a daemon that was killed. We hold the lock, so a process that still
/// answers there is another implementation, which does not use the lock.
fn remove_dead_socket(path: &Path) -> Result<(), ListenError> {
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::Taken(path.to_path_buf())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
            fs::remove_file(path).map_err(|source| ListenError::Io {
                what: "remove the dead socket",
                path: path.to_path_buf(),
                source,
            })
        }
        Err(_) if !is_socket(path) => Err(ListenError::NotASocket(path.to_path_buf())),
        Err(source) => Err(ListenError::Io {
            what: "connect to",
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("run/cni/dhcp.sock");
        (directory, path)
    }

    #[test]
    fn the_socket_is_usable_by_its_owner_only_and_removed_with_the_daemon() {
        let (_scratch, path) = scratch();
        let listener = Listener::bind(&path, None).expect("nothing is in the way");
        let mode =
            |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("it has one")), 0o700);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_file_without_a_listener_is_replaced() {
        let (_scratch, path) = scratch();
        fs::create_dir_all(path.parent().expect("it has one")).expect("creating it");
        drop(UnixListener::bind(&path).expect("a socket to leave behind"));
        assert!(path.exists(), "std leaves the file of a closed listener");
        Listener::bind(&path, None).expect("the dead socket is no obstacle");
    }

    #[test]
    fn a_second_daemon_is_refused_whether_or_not_the_first_uses_the_lock() {
        let is_refused = |path| matches!(Listener::bind(path, None), Err(ListenError::Taken(_)));
        let (_scratch, path) = scratch();
        let first = Listener::bind(&path, None).expect("nothing is in the way");
        assert!(is_refused(&path));
        drop(first);
        let _other = UnixListener::bind(&path).expect("another implementation's socket");
        assert!(is_refused(&path));
    }

    #[test]
    fn a_socket_that_another_process_has_bound_since_is_kept() {
        let (_scratch, path) = scratch();
        let ours = Listener::bind(&path, None).expect("nothing is in the way");
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
            Listener::bind(&path, None),
            Err(ListenError::NotASocket(_))
        ));
        assert_eq!(
            fs::read_to_string(&path).expect("it is still there"),
            "precious"
        );
    }
}
