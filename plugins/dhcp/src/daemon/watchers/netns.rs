//! Containers that disappear without a DEL. The daemon watches the directories that hold the names
//! of their network namespaces, so it notices the removal of a name at once. A container that
//! disappears in another way is noticed when its lease is due for renewal.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::async_fd::watch;

/// The watched directories.
#[derive(Debug)]
pub(crate) struct NetnsWatcher {
    notifier: AsyncFd<OwnedFd>,
    directories: RefCell<HashMap<i32, PathBuf>>,
}

impl NetnsWatcher {
    /// Watches nothing yet. Needs a tokio runtime.
    pub(crate) fn new() -> io::Result<NetnsWatcher> {
        let notifier = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(NetnsWatcher {
            notifier: watch(notifier)?,
            directories: RefCell::default(),
        })
    }

    /// Watches the directory that this name is in. There are no events for names under /proc.
    pub(crate) fn watch(&self, path: &Path) {
        let Some(directory) = path
            .parent()
            .filter(|directory| !directory.starts_with("/proc"))
        else {
            return;
        };
        if self
            .directories
            .borrow()
            .values()
            .any(|watched| watched == directory)
        {
            return;
        }
        match inotify::add_watch(
            &self.notifier,
            directory,
            WatchFlags::DELETE | WatchFlags::ONLYDIR,
        ) {
            Ok(number) => drop(
                self.directories
                    .borrow_mut()
                    .insert(number, directory.to_owned()),
            ),
            Err(error) => {
                tracing::warn!(directory = %directory.display(), %error, "cannot watch a directory of network namespaces; containers that disappear from it are noticed late");
            }
        }
    }

    /// Waits until names are removed, and returns them; `None` if there were more than the kernel
    /// could queue.
    pub(crate) async fn removed(&self) -> io::Result<Option<Vec<PathBuf>>> {
        loop {
            let mut ready = self.notifier.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(self.notifier.get_ref(), &mut buffer);
            let mut removed = Vec::new();
            let mut overflowed = false;
            loop {
                match reader.next() {
                    Ok(event) => {
                        overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                        let directories = self.directories.borrow();
                        let path = directories.get(&event.wd()).zip(event.file_name());
                        removed.extend(path.map(|(directory, name)| {
                            directory.join(OsStr::from_bytes(name.to_bytes()))
                        }));
                        if event.events().contains(ReadFlags::IGNORED) {
                            drop(directories);
                            self.directories.borrow_mut().remove(&event.wd());
                        }
                    }
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if overflowed {
                return Ok(None);
            }
            if !removed.is_empty() {
                return Ok(Some(removed));
            }
        }
    }
}
