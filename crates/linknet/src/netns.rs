//! Network namespaces: opening, telling apart, entering, making.
#![allow(
    unsafe_code,
    reason = "the type of a namespace is asked by an ioctl that nix does not wrap"
)]

use std::ffi::c_int;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::{process, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

/// An open network namespace. It exists for as long as this does, whoever else lets go of it.
#[derive(Debug)]
pub struct Netns(OwnedFd);

/// What tells a namespace from every other one that exists: the device and inode of its file.
/// A number is used again once its namespace is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetnsId {
    /// The device of the namespace filesystem.
    pub dev: u64,
    /// The inode, as in `net:[4026531840]`.
    pub ino: u64,
}

/// Why there is no namespace to be had.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing is at that path, or its process is gone.
    #[error("network namespace {0} does not exist")]
    NotFound(PathBuf),
    /// Something is there that is not a network namespace: an ordinary file that a bind mount has
    /// left behind, for example, or a namespace of another kind.
    #[error("{0} is not a network namespace")]
    NotNetns(PathBuf),
    /// It could not be looked at.
    #[error("cannot open network namespace {path}: {error}")]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl Netns {
    /// The namespace at a path such as `/run/netns/blue` or `/proc/1234/ns/net`.
    ///
    /// # Errors
    /// If there is nothing, something else, or no access.
    pub fn open(path: impl AsRef<Path>) -> Result<Netns, NetnsError> {
        let path = path.as_ref();
        // Whatever the path turns out to be, opening it must not wait or have an effect.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags).open(path);
        let fd = OwnedFd::from(file.map_err(|error| NetnsError::from_io(path, error))?);
        Netns::checked(fd, path)
    }

    /// The namespace behind a descriptor that somebody handed over.
    ///
    /// # Errors
    /// If the descriptor is of something else.
    pub fn from_fd(fd: OwnedFd) -> Result<Netns, NetnsError> {
        let name = PathBuf::from(format!("descriptor {}", fd.as_raw_fd()));
        Netns::checked(fd, &name)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// If `/proc` is not there.
    pub fn current() -> Result<Netns, NetnsError> {
        Netns::open("/proc/thread-self/ns/net")
    }

    /// A new namespace with nothing in it but a loopback device that is down.
    ///
    /// # Errors
    /// If the caller may not make one (CAP_SYS_ADMIN).
    pub fn create() -> Result<Netns, NetnsError> {
        in_scratch_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NetnsError::from_io(Path::new("(new)"), errno.into()))?;
            Netns::current()
        })
        .unwrap_or_else(|error| Err(NetnsError::from_io(Path::new("(new)"), error)))
    }

    /// Runs `f` in this namespace and comes back. What `f` opens or spawns stays in the namespace.
    /// A panic in `f` goes on in the caller.
    ///
    /// `f` runs on the calling thread, and must not give up its capabilities: a thread that cannot
    /// come back ends the process. Where that is known beforehand (in a user namespace that does
    /// not own the network namespace it is in), `f` runs on a thread of its own, which need not
    /// come back, but may have to wait for a processor: up to milliseconds on a busy machine.
    ///
    /// # Errors
    /// If the namespace cannot be entered (CAP_SYS_ADMIN over it and oneself).
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        let enter = || setns(self, CloneFlags::CLONE_NEWNET);
        match Home::with_way_back() {
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

    /// Which namespace this is.
    ///
    /// # Errors
    /// Only if the system fails.
    pub fn id(&self) -> io::Result<NetnsId> {
        let stat = fstat(self)?;
        Ok(NetnsId {
            dev: stat.st_dev,
            ino: stat.st_ino,
        })
    }

    /// A second handle of the same namespace.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Netns> {
        self.0.try_clone().map(Netns)
    }

    /// Gives the namespace a name in the file system, as `ip netns add` does: an empty file made
    /// at `path` and the namespace mounted on it. It then lives on until [`Netns::unbind`].
    ///
    /// # Errors
    /// If the file exists, cannot be made, or the mount is refused.
    pub fn bind(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(path)?;
        let source = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        mount(
            Some(source.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|errno| {
            // The mount's refusal is what matters; an empty file left behind is harmless.
            let _ = std::fs::remove_file(path);
            errno.into()
        })
    }

    /// Takes away the name that [`Netns::bind`] gave. The namespace lives on while anything
    /// else holds it.
    ///
    /// # Errors
    /// If nothing is mounted there, or the file cannot be removed.
    pub fn unbind(path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        umount2(path, MntFlags::MNT_DETACH)?;
        std::fs::remove_file(path)
    }

    /// `fd` as a namespace, if it is one. `name` is what errors call it.
    fn checked(fd: OwnedFd, name: &Path) -> Result<Netns, NetnsError> {
        let is_nsfs = fstatfs(&fd)
            .map_err(|errno| NetnsError::from_io(name, errno.into()))?
            .filesystem_type()
            == NSFS_MAGIC;
        if is_nsfs && namespace_type(fd.as_fd()) == Ok(libc::CLONE_NEWNET) {
            Ok(Netns(fd))
        } else {
            Err(NetnsError::NotNetns(name.to_owned()))
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

/// The namespace that a thread is in, to which it returns when this is dropped.
struct Home(Netns);

impl Home {
    /// The calling thread's namespace, if the thread may enter it.
    fn with_way_back() -> Option<Home> {
        let home = Netns::current().ok()?;
        setns(&home, CloneFlags::CLONE_NEWNET).ok()?;
        Some(Home(home))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.0, CloneFlags::CLONE_NEWNET) {
            // Whatever this thread did next, it would do to a container.
            eprintln!("cannot return from a network namespace: {errno}");
            process::abort();
        }
    }
}

/// Runs `f` on a thread that can change its namespace without anybody noticing, since it ends
/// right after.
fn in_scratch_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, f)?;
        thread.join().map_err(|panic| resume_unwind(panic))
    })
}

/// The `CLONE_NEW…` flag that says which kind of namespace a namespace file is
/// (`NS_GET_NSTYPE`, ioctl_ns(2)).
fn namespace_type(fd: BorrowedFd<'_>) -> nix::Result<c_int> {
    nix::ioctl_none!(ns_get_nstype, 0xb7, 3);
    // SAFETY: the descriptor is open for the length of the call, and the request takes no
    // argument and answers in its return value.
    unsafe { ns_get_nstype(fd.as_raw_fd()) }
}
