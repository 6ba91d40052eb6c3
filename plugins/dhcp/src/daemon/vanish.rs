//! Containers that vanish without a DEL: the directories in which their netns have names are
//! watched, so that a name that goes is noticed at once. Whatever else makes a container vanish is
//! noticed when its lease wants renewing.

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

use super::watch::watch;

/// The watched directories.
#[derive(Debug)]
pub(crate) struct Vanishing {
    notifier: AsyncFd<OwnedFd>,
    directories: RefCell<HashMap<i32, PathBuf>>,
}

impl Vanishing {
    /// Watches nothing yet. Needs a tokio runtime.
    pub(crate) fn new() -> io::Result<Vanishing> {
        let notifier = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Vanishing {
            notifier: watch(notifier)?,
            directories: RefCell::default(),
        })
    }

    /// Watches the directory that this name is in. Names under /proc come and go without a word.
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
                tracing::warn!(directory = %directory.display(), %error, "containers that vanish from there are noticed late");
            }
        }
    }

    /// Waits until names have gone, and returns them; `None` where so many went that the kernel
    /// lost count.
    pub(crate) async fn gone(&self) -> io::Result<Option<Vec<PathBuf>>> {
        loop {
            let mut ready = self.notifier.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(self.notifier.get_ref(), &mut buffer);
            let mut gone = Vec::new();
            let mut overflowed = false;
            loop {
                match reader.next() {
                    Ok(event) => {
                        overflowed |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                        let directories = self.directories.borrow();
                        let path = directories.get(&event.wd()).zip(event.file_name());
                        gone.extend(path.map(|(directory, name)| {
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
            if !gone.is_empty() {
                return Ok(Some(gone));
            }
        }
    }
}
