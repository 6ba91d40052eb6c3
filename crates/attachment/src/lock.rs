//! Mutual exclusion between processes: those that change links which containers share, and those
//! that attach one container.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};

use linknet::{Error, Netns, Result};

/// The right to create, first use and remove links that containers share. Checking whether a link
/// is in use and acting on the answer must be atomic with respect to other processes, so both
/// happen under this lock. It is released when this is dropped or the process ends.
#[derive(Debug)]
pub struct HostLock {
    file: File,
}

/// Where the host's lock is.
const DIRECTORY: &str = "/run/cni";

/// Beside the daemon's socket, so that a daemon in a container of its own sees it too.
const PATH: &str = "/run/cni/leasehold.lock";

/// How long one other process may have the host's lock. Processes hold it only for a few requests
/// to the kernel, so who has it this long was stopped.
const HOST_LOCK_WAIT: Duration = Duration::from_secs(30);

/// How long to wait for another ADD of the container.
const CONTAINER_LOCK_WAIT: Duration = Duration::from_secs(10);

/// The pause before [`lock_within`] tries the lock again.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

impl HostLock {
    /// The directory of the lock's file, which is created if it is missing.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn directory() -> io::Result<&'static Path> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(DIRECTORY)?;
        Ok(Path::new(DIRECTORY))
    }

    /// Waits for the lock, in the order in which processes ask for it, until nobody has got it for
    /// 30 seconds. If that is not enough, a thread goes on waiting until the process ends.
    ///
    /// # Errors
    /// EWOULDBLOCK if one other process held it for so long; else if the file cannot be created or
    /// opened.
    pub fn acquire() -> Result<HostLock> {
        let file = open().map_err(|error| failed(&error))?;
        lock_in_turn(&file, HOST_LOCK_WAIT).map_err(|error| failed(&error))?;
        Ok(HostLock::of(file))
    }

    /// Tries for the lock at most this long. This starts no thread, but processes that wait in
    /// [`HostLock::acquire`] get it first.
    ///
    /// # Errors
    /// As for [`HostLock::acquire`].
    pub fn acquire_within(timeout: Duration) -> Result<HostLock> {
        let file = open().map_err(|error| failed(&error))?;
        match lock_within(&file, timeout) {
            Ok(true) => Ok(HostLock::of(file)),
            Ok(false) => Err(failed(&io::ErrorKind::WouldBlock.into())),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The lock that this locked file is. The new modification time tells those who wait that the
    /// queue moves; without it they only give up earlier.
    fn of(file: File) -> HostLock {
        let _ = file.set_modified(SystemTime::now());
        HostLock { file }
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
        ContainerLock::acquire_within(netns, CONTAINER_LOCK_WAIT)
    }

    fn acquire_within(netns: &Netns, timeout: Duration) -> Result<ContainerLock> {
        let lock = || {
            let file = File::from(netns.as_fd().try_clone_to_owned()?);
            lock_in_turn(&file, timeout)?;
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

/// Tries to lock the file, again and again for at most this long. Returns false if another process
/// had the lock all the time. It starts no thread, and knows no turns.
///
/// # Errors
/// If the file cannot be locked at all.
pub fn lock_within(file: &File, timeout: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(RETRY_INTERVAL),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Locks the file. The kernel grants a lock in the order of requests, but cannot wait for it with a
/// deadline, so a thread waits. The timeout starts over whenever the file's modification time changes.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if others had the lock all the time, and nobody changed the file.
fn lock_in_turn(file: &File, timeout: Duration) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {}
        outcome => return outcome.map_err(io::Error::from),
    }
    let waiting = file.try_clone()?;
    let (sender, receiver) = mpsc::sync_channel(0);
    thread::Builder::new().spawn(move || {
        let outcome = waiting.lock();
        if sender.send(outcome).is_err() {
            // The caller has given up. Both files share one lock.
            let _ = waiting.unlock();
        }
    })?;
    let mut seen = file.metadata()?.modified()?;
    loop {
        if let Ok(outcome) = receiver.recv_timeout(timeout) {
            return outcome;
        }
        let changed = file.metadata()?.modified()?;
        if changed == seen {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        seen = changed;
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
    HostLock::directory()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_waiting_for_a_lock_does_not_get_it_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || File::create(&path).unwrap();
        let holder = open();
        holder.lock().unwrap();
        let late = open();
        let refusal = lock_in_turn(&late, Duration::from_millis(1)).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::WouldBlock);
        drop(holder);
        // Waits for as long as the one that gave up has the lock.
        let next = open();
        lock_in_turn(&next, Duration::from_secs(10)).unwrap();
        lock_in_turn(&late, Duration::from_millis(1)).unwrap_err();
    }

    #[test]
    fn who_waits_for_a_lock_does_not_give_up_while_others_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || File::create(&path).unwrap();
        let (holder, waiting) = (open(), open());
        holder.lock().unwrap();
        let (timeout, start) = (Duration::from_millis(50), Instant::now());
        thread::scope(|scope| {
            let waiter = scope.spawn(|| lock_in_turn(&waiting, timeout));
            while start.elapsed() < 4 * timeout {
                holder.set_modified(SystemTime::now()).unwrap(); // as who gets it does
            }
            holder.unlock().unwrap();
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn who_gets_the_hosts_lock_changes_the_files_time() {
        let file = tempfile::tempfile().unwrap();
        let before = SystemTime::UNIX_EPOCH;
        file.set_modified(before).unwrap();
        let copy = file.try_clone().unwrap();
        let held = HostLock::of(file);
        assert_ne!(copy.metadata().unwrap().modified().unwrap(), before);
        drop(held);
    }

    #[test]
    fn a_lock_is_tried_for_as_long_as_the_caller_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || File::create(&path).unwrap();
        let (holder, other) = (open(), open());
        assert!(lock_within(&holder, Duration::ZERO).unwrap());
        let (timeout, start) = (Duration::from_millis(20), Instant::now());
        assert!(!lock_within(&other, timeout).unwrap());
        assert!(start.elapsed() >= timeout);
        drop(holder);
        assert!(lock_within(&other, Duration::ZERO).unwrap());
    }

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_hosts_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = File::create(&path).unwrap();
        file.lock().unwrap();
        let copy = file.try_clone().unwrap();
        drop(HostLock::of(file));
        assert!(lock_within(&File::create(&path).unwrap(), Duration::ZERO).unwrap());
        drop(copy);
    }

    #[test]
    fn a_container_is_locked_for_one_process_at_a_time() {
        let open = || Netns::current().unwrap();
        let (one, other) = (open(), open());
        let held = ContainerLock::acquire(&one).unwrap();
        let error = ContainerLock::acquire_within(&other, Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EWOULDBLOCK));
        assert!(error.to_string().contains("another ADD"), "{error}");
        drop((held, one));
        ContainerLock::acquire(&other).unwrap();
    }
}
