//! Network namespaces: opening, identifying and entering them.
#![allow(
    unsafe_code,
    reason = "nix has no functions for the ioctls that return a namespace's type, its owner and a \
              socket's namespace"
)]

use std::ffi::c_int;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::{process, thread};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

/// An open network namespace. It exists at least as long as this handle.
#[derive(Debug)]
pub struct Netns(OwnedFd);

/// What distinguishes a namespace from all others that exist: the device and inode of its file. The
/// kernel may give them to a new namespace once this one is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NetnsId {
    /// The device of the namespace filesystem.
    pub dev: u64,
    /// The inode, as in `net:[4026531840]`.
    pub ino: u64,
}

/// Why a namespace cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path does not exist, or the process that it belongs to is gone.
    #[error("network namespace {0} does not exist")]
    NotFound(PathBuf),
    /// The path is not a network namespace: a namespace of another kind, for example, or the
    /// ordinary file that a removed bind mount has left behind.
    #[error("{0} is not a network namespace")]
    NotNetns(PathBuf),
    /// The path cannot be examined.
    #[error("cannot open network namespace {path}: {error}")]
    Io {
        /// The path that was asked for.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        error: io::Error,
    },
}

impl NetnsError {
    /// EPERM or EACCES: a capability is missing.
    pub fn is_denied(&self) -> bool {
        match self {
            NetnsError::NotFound(_) | NetnsError::NotNetns(_) => false,
            NetnsError::Io { error, .. } => error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
}

impl Netns {
    /// The namespace at a path such as `/run/netns/blue` or `/proc/1234/ns/net`.
    ///
    /// # Errors
    /// If the path does not exist, is something else, or access to it is denied.
    pub fn open(path: impl AsRef<Path>) -> Result<Netns, NetnsError> {
        let path = path.as_ref();
        let failed = |error| NetnsError::from_io(path, error);
        let open = |path: &Path, flags| File::options().read(true).custom_flags(flags).open(path);
        // Opening a device may have an effect, and opening a pipe may block. O_PATH does not open
        // the file, so it can be looked at first.
        let found = open(path, libc::O_PATH).map_err(failed)?;
        if !is_namespace(&found).map_err(failed)? {
            return Err(NetnsError::NotNetns(path.to_owned()));
        }
        let found = format!("/proc/self/fd/{}", found.as_raw_fd());
        let file = open(Path::new(&found), libc::O_NONBLOCK).map_err(|error| NetnsError::Io {
            path: path.to_owned(), // it does exist
            error,
        })?;
        Netns::checked(file.into(), path)
    }

    /// The namespace behind a file descriptor.
    ///
    /// # Errors
    /// If the descriptor is not that of a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Netns, NetnsError> {
        let name = PathBuf::from(format!("descriptor {}", fd.as_raw_fd()));
        Netns::checked(fd, &name)
    }

    /// The namespace that a socket was opened in.
    ///
    /// # Errors
    /// If CAP_NET_ADMIN is missing there, or the process is out of file descriptors.
    pub fn of_socket(socket: &impl AsRawFd) -> io::Result<Netns> {
        nix::ioctl_none_bad!(siocgskns, libc::SIOCGSKNS);
        // SAFETY: the descriptor is open during the call, and the request has no argument. Its
        // result is a new descriptor, which nobody else knows.
        let fd = unsafe { OwnedFd::from_raw_fd(siocgskns(socket.as_raw_fd())?) };
        Ok(Netns(fd))
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn current() -> Result<Netns, NetnsError> {
        let path = Path::new("/proc/thread-self/ns/net");
        // Nothing else is ever there, so it needs none of the checks of `open`.
        let file = File::open(path).map_err(|error| NetnsError::from_io(path, error))?;
        Ok(Netns(file.into()))
    }

    /// Runs `f` in this namespace. Sockets that `f` opens and processes that it spawns stay in the
    /// namespace. A panic in `f` continues in the caller.
    ///
    /// `f` runs on the calling thread, and must not drop that thread's capabilities: the process
    /// aborts if the thread cannot return to its own namespace. If the thread is known beforehand
    /// not to be able to return (its user namespace does not own its network namespace), `f` runs
    /// on a separate thread. Starting that thread can take milliseconds on a busy machine.
    ///
    /// # Errors
    /// If the namespace cannot be entered, which takes CAP_SYS_ADMIN in the user namespace that
    /// owns it and in the caller's own.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        let enter = || setns(self, CloneFlags::CLONE_NEWNET);
        match Home::that_can_be_reentered() {
            Some(_home) => {
                enter()?;
                Ok(f())
            }
            None => in_scratch_thread(|| {
                enter()?;
                Ok(f())
            })?,
        }
    }

    /// What identifies this namespace.
    ///
    /// # Errors
    /// If the system call fails, which it does not for an open namespace.
    pub fn id(&self) -> io::Result<NetnsId> {
        let stat = fstat(self)?;
        Ok(NetnsId {
            dev: stat.st_dev,
            ino: stat.st_ino,
        })
    }

    /// The user to whom this namespace belongs: the one who created the user namespace that owns it,
    /// as this process's user namespace numbers users. 0 for one of the host's.
    ///
    /// # Errors
    /// If the owner is not in this process's user namespace or in one below it.
    pub fn owner(&self) -> io::Result<libc::uid_t> {
        let mut owner = 0;
        let users = user_namespace(self.as_fd())?;
        nix::ioctl_read_bad!(
            ns_get_owner_uid,
            nix::request_code_none!(0xb7, 4),
            libc::uid_t
        );
        // SAFETY: the descriptor is open during the call, which writes a user's number.
        unsafe { ns_get_owner_uid(users.as_raw_fd(), &raw mut owner)? };
        Ok(owner)
    }

    /// A second handle on this namespace.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn try_clone(&self) -> io::Result<Netns> {
        self.0.try_clone().map(Netns)
    }

    /// `fd` as a network namespace, if it is one. `name` stands for it in errors.
    fn checked(fd: OwnedFd, name: &Path) -> Result<Netns, NetnsError> {
        if !is_namespace(&fd).map_err(|error| NetnsError::from_io(name, error))? {
            return Err(NetnsError::NotNetns(name.to_owned()));
        }
        match namespace_type(fd.as_fd()) {
            Ok(libc::CLONE_NEWNET) => Ok(Netns(fd)),
            // Files of nsfs that are no namespaces have no such request.
            Ok(_) | Err(Errno::ENOTTY) => Err(NetnsError::NotNetns(name.to_owned())),
            Err(errno) => Err(NetnsError::from_io(name, errno.into())),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.ino)
    }
}

impl NetnsError {
    fn from_io(path: &Path, error: io::Error) -> NetnsError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                NetnsError::NotFound(path.to_owned())
            }
            _ => NetnsError::Io {
                path: path.to_owned(),
                error,
            },
        }
    }
}

/// The calling thread's namespace, which the thread returns to when this is dropped.
struct Home(Netns);

impl Home {
    /// The calling thread's namespace, if the thread may enter it again.
    fn that_can_be_reentered() -> Option<Home> {
        let home = Netns::current().ok()?;
        setns(&home, CloneFlags::CLONE_NEWNET).ok()?;
        Some(Home(home))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.0, CloneFlags::CLONE_NEWNET) {
            // Whatever the thread did next, it would do in the wrong namespace.
            let message = format_args!("cannot return from a network namespace: {errno}");
            let _ = writeln!(io::stderr(), "{message}");
            process::abort();
        }
    }
}

/// Runs `f` on a thread that ends right after, so that it may stay in another namespace.
fn in_scratch_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, f)?;
        thread.join().map_err(|panic| resume_unwind(panic))
    })
}

/// Whether a file is a namespace, or something else of nsfs.
fn is_namespace(file: impl AsFd) -> io::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == NSFS_MAGIC)
}

/// The kind of a namespace, as a `CLONE_NEW…` flag (`NS_GET_NSTYPE`, ioctl_ns(2)).
fn namespace_type(fd: BorrowedFd<'_>) -> nix::Result<c_int> {
    nix::ioctl_none!(ns_get_nstype, 0xb7, 3);
    // SAFETY: the descriptor is open during the call, and the request has no argument: its result
    // is the return value.
    unsafe { ns_get_nstype(fd.as_raw_fd()) }
}

/// The user namespace that owns a namespace (`NS_GET_USERNS`, ioctl_ns(2)).
fn user_namespace(fd: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    nix::ioctl_none!(ns_get_userns, 0xb7, 1);
    // SAFETY: the descriptor is open during the call, and the request has no argument. Its result
    // is a new descriptor, which nobody else knows.
    unsafe { Ok(OwnedFd::from_raw_fd(ns_get_userns(fd.as_raw_fd())?)) }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_serialized_as_its_device_and_inode() {
        let id = NetnsId {
            dev: 4,
            ino: 4_026_531_840,
        };
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, r#"{"dev":4,"ino":4026531840}"#);
        assert_eq!(serde_json::from_str::<NetnsId>(&json).unwrap(), id);
    }
}
