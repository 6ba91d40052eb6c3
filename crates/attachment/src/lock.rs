//! Mutual exclusion between the processes that change links which containers share.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use linknet::{Error, Result};

/// The right to create, first use and remove links that containers share. Checking whether a link
/// is in use and acting on the answer must be atomic with respect to other processes, so both
/// happen under this lock. It is released when this is dropped or the process ends.
#[derive(Debug)]
pub struct HostLock {
    file: File,
}

/// Beside the daemon's socket, so that a daemon in a container of its own sees it too.
const PATH: &str = "/run/cni/leasehold.lock";

/// The pause before the lock is tried again: the kernel cannot wait for it with a deadline, and
/// does not notify when it is free.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

impl HostLock {
    /// Waits for the lock. Processes hold it only for a few requests to the kernel.
    ///
    /// # Errors
    /// If the file cannot be created or opened.
    pub fn acquire() -> Result<HostLock> {
        let file = open().map_err(|error| failed(&error))?;
        loop {
            match file.lock() {
                Ok(()) => return Ok(HostLock { file }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// Waits for the lock at most this long, because the process that holds it may have been
    /// stopped.
    ///
    /// # Errors
    /// As for [`HostLock::acquire`]; EWOULDBLOCK if another process held it all the time.
    pub fn acquire_within(timeout: Duration) -> Result<HostLock> {
        let deadline = Instant::now() + timeout;
        let file = open().map_err(|error| failed(&error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(HostLock { file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(RETRY_INTERVAL),
                Err(refusal) => return Err(failed(&refusal.into())),
            }
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
