//! Mutual exclusion between processes: those that change links which containers share, and those
//! that attach one container.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use linknet::{Error, Netns, Result};

/// The right to create, first use and remove links that containers share. Checking whether a link
/// is in use and acting on the answer must be atomic with respect to other processes, so both
/// happen under this lock. It is released when this is dropped or the process ends.
#[derive(Debug)]
pub struct HostLock {
    file: File,
}

/// Beside the daemon's socket, so that a daemon in a container of its own sees it too.
const PATH: &str = "/run/cni/leasehold.lock";

/// How long to wait for the host's lock. Processes hold it only for a few requests to the kernel,
/// so it takes hundreds of them in a queue, or one that was stopped, to be kept waiting this long.
const HOST_LOCK_WAIT: Duration = Duration::from_secs(30);

/// How long to wait for another ADD of the container.
const CONTAINER_LOCK_WAIT: Duration = Duration::from_secs(10);

/// The pause before the lock is tried again: the kernel cannot wait for it with a deadline, and
/// does not notify when it is free.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

impl HostLock {
    /// Waits for the lock, for 30 seconds at most.
    ///
    /// # Errors
    /// EWOULDBLOCK if another process held it all the time; else if the file cannot be created or
    /// opened.
    pub fn acquire() -> Result<HostLock> {
        HostLock::acquire_within(HOST_LOCK_WAIT)
    }

    /// Waits for the lock at most this long.
    ///
    /// # Errors
    /// As for [`HostLock::acquire`].
    pub fn acquire_within(timeout: Duration) -> Result<HostLock> {
        let file = open().map_err(|error| failed(&error))?;
        match lock_within(&file, timeout) {
            Ok(()) => Ok(HostLock { file }),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// The right to attach a container. A runtime must not call two ADDs for one container at once
/// (CNI specification §2); if one does so nevertheless, neither must take the other's interface for
/// one that was left behind. It is released when this and the namespace are dropped, or the process
/// ends.
#[derive(Debug)]
pub struct ContainerLock {
    _netns: File,
}

impl ContainerLock {
    /// Waits for the lock on a container's namespace, for ten seconds at most.
    ///
    /// # Errors
    /// EWOULDBLOCK if another process held it all the time.
    pub fn acquire(netns: &Netns) -> Result<ContainerLock> {
        let lock = || {
            let file = File::from(netns.as_fd().try_clone_to_owned()?);
            lock_within(&file, CONTAINER_LOCK_WAIT)?;
            Ok(ContainerLock { _netns: file })
        };
        lock().map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                let why = "another ADD of this container is running";
                Error::refusal("lock the container", libc::EWOULDBLOCK, Some(why))
            }
            _ => Error::io("lock the container", &error),
        })
    }
}

/// # Errors
/// [`io::ErrorKind::WouldBlock`] if another process had the lock all the time.
fn lock_within(file: &File, timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(RETRY_INTERVAL),
            Err(refusal) => return Err(refusal.into()),
        }
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // Closing the file would not do: a child process that waits for the removal of a link has
        // a copy of the descriptor, and the lock lasts as long as any of them.
        let _ = self.file.unlock();
    }
}

fn open() -> io::Result<File> {
    if let Some(folder) = Path::new(PATH).parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
    }
    // A process that can open the file can hold the lock: only root may.
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(PATH)
}

fn failed(error: &io::Error) -> Error {
    let what = format!("lock {PATH}");
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            Error::refusal(what, libc::EWOULDBLOCK, Some("another process holds it"))
        }
        _ => Error::io(what, error),
    }
}
