//! Containers that disappear without a DEL. The daemon watches the directories that hold the names
//! of their network namespaces, so it notices the removal of a name at once. A container that
//! disappears in another way, or while the kernel has no inotify instance for the daemon, is
//! noticed when its lease is due for renewal.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::async_fd::watch;
use super::backoff::Backoff;

/// The watched directories.
#[derive(Debug, Default)]
pub(crate) struct NetnsWatcher {
    /// `None` after an error.
    notifier: RefCell<Option<Rc<AsyncFd<OwnedFd>>>>,
    /// The number of the watch, if there is one.
    directories: RefCell<HashMap<PathBuf, Option<i32>>>,
}

/// What has happened in the watched directories.
#[derive(Debug, Default)]
struct Events {
    removed: Vec<PathBuf>,
    overflow: bool,
}

impl NetnsWatcher {
    /// Watches nothing yet. Needs a tokio runtime.
    pub(crate) fn new() -> NetnsWatcher {
        let watcher = NetnsWatcher::default();
        // If this fails, `removed` tries again, and reports it.
        let _ = watcher.open();
        watcher
    }

    /// Watches the directory that this name is in. There are no events for names under /proc.
    pub(crate) fn watch(&self, path: &Path) {
        let Some(directory) = path
            .parent()
            .filter(|directory| !directory.starts_with("/proc"))
        else {
            return;
        };
        let mut directories = self.directories.borrow_mut();
        if !directories.contains_key(directory) {
            let notifier = self.notifier.borrow();
            let number = notifier.as_ref().and_then(|to| add_watch(to, directory));
            if notifier.is_none() || number.is_some() {
                directories.insert(directory.to_owned(), number);
            }
        }
    }

    /// Waits until names are removed, and returns them; `None` if some may have been missed.
    pub(crate) async fn removed(&self) -> Option<Vec<PathBuf>> {
        let mut backoff = Backoff::new();
        loop {
            let notifier = self.notifier.borrow().clone();
            let events = match notifier {
                Some(notifier) => self.next(&notifier).await,
                None => self.open(),
            };
            match events {
                Ok(Events { overflow: true, .. }) => return None,
                Ok(Events { removed, .. }) if removed.is_empty() => {}
                Ok(Events { removed, .. }) => return Some(removed),
                Err(error) => {
                    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
                    let hint = errno.map(hint).unwrap_or_default();
                    tracing::warn!(%error, "cannot watch for containers that disappear, and will try again; until then, they are noticed late{hint}");
                    self.notifier.take();
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Watches all directories with a new inotify instance.
    fn open(&self) -> io::Result<Events> {
        let notifier = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let notifier = watch(notifier)?;
        let mut directories = self.directories.borrow_mut();
        for (directory, number) in directories.iter_mut() {
            *number = add_watch(&notifier, directory);
        }
        directories.retain(|_, number| number.is_some());
        self.notifier.replace(Some(Rc::new(notifier)));
        Ok(Events {
            overflow: !directories.is_empty(),
            ..Events::default()
        })
    }

    /// Waits for events.
    async fn next(&self, notifier: &AsyncFd<OwnedFd>) -> io::Result<Events> {
        let mut ready = notifier.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(notifier.get_ref(), &mut buffer);
        let mut events = Events::default();
        loop {
            match reader.next() {
                Ok(event) => self.handle(&event, &mut events),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        ready.clear_ready();
        Ok(events)
    }

    fn handle(&self, event: &inotify::Event<'_>, events: &mut Events) {
        events.overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        let mut directories = self.directories.borrow_mut();
        let directory = directories
            .iter()
            .find(|(_, number)| **number == Some(event.wd()))
            .map(|(directory, _)| directory.clone());
        let Some(directory) = directory else {
            return;
        };
        if event.events().contains(ReadFlags::IGNORED) {
            directories.remove(&directory);
        }
        if let Some(name) = event.file_name() {
            let name = OsStr::from_bytes(name.to_bytes());
            events.removed.push(directory.join(name));
        }
    }
}

/// Watches a directory. If that fails, logs why, and returns `None`.
fn add_watch(notifier: &AsyncFd<OwnedFd>, directory: &Path) -> Option<i32> {
    let flags = WatchFlags::DELETE | WatchFlags::ONLYDIR;
    inotify::add_watch(notifier, directory, flags)
        .inspect_err(|&error| {
            let hint = hint(error);
            tracing::warn!(directory = %directory.display(), %error, "cannot watch a directory of network namespaces; containers that disappear from it are noticed late{hint}");
        })
        .ok()
}

/// Which of inotify's limits is reached, if that is why it fails (inotify_init(2),
/// inotify_add_watch(2)).
fn hint(error: Errno) -> &'static str {
    match error {
        Errno::MFILE => ": raise the sysctl fs.inotify.max_user_instances",
        Errno::NOSPC => ": raise the sysctl fs.inotify.max_user_watches",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_limit_that_is_reached_is_named() {
        assert!(hint(Errno::MFILE).contains("max_user_instances"));
        assert!(hint(Errno::NOSPC).contains("max_user_watches"));
        assert_eq!(hint(Errno::NOENT), "");
    }

    fn create(path: &Path) {
        std::fs::write(path, "").expect("writing");
    }

    fn remove(path: &Path) {
        std::fs::remove_file(path).expect("it is there");
    }

    #[tokio::test]
    async fn a_name_that_is_removed_from_a_watched_directory_is_reported() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let [one, other] = ["c1", "c2"].map(|name| directory.path().join(name));
        let watcher = NetnsWatcher::new();
        for path in [&one, &other] {
            create(path);
            watcher.watch(path);
        }
        let nothing = timeout(Duration::from_millis(20), watcher.removed());
        assert!(nothing.await.is_err());
        remove(&other);
        assert_eq!(watcher.removed().await, Some(vec![other]));
        assert_eq!(watcher.directories.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_and_comes_back_is_watched_again() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = scratch.path().join("netns");
        let path = directory.join("c1");
        let watcher = NetnsWatcher::new();
        watcher.watch(&path);
        assert!(watcher.directories.borrow().is_empty(), "there is none yet");
        for _ in 0..2 {
            std::fs::create_dir(&directory).expect("creating");
            create(&path);
            watcher.watch(&path);
            remove(&path);
            assert_eq!(watcher.removed().await, Some(vec![path.clone()]));
            std::fs::remove_dir(&directory).expect("it is empty");
            let more = timeout(Duration::from_millis(20), watcher.removed());
            assert!(more.await.is_err());
            assert!(watcher.directories.borrow().is_empty());
        }
    }

    #[tokio::test]
    async fn after_an_error_everything_may_have_been_missed() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("c1");
        let watcher = NetnsWatcher::default();
        watcher.watch(&path);
        watcher.watch(Path::new("/nonexistent/c1"));
        watcher.watch(Path::new("/proc/1/ns/net"));
        assert_eq!(watcher.directories.borrow().len(), 2, "they are for later");
        assert_eq!(watcher.removed().await, None);
        assert_eq!(watcher.directories.borrow().len(), 1);
        create(&path);
        remove(&path);
        assert_eq!(watcher.removed().await, Some(vec![path]));
        let unused = NetnsWatcher::default();
        let nothing = timeout(Duration::from_millis(20), unused.removed());
        assert!(nothing.await.is_err(), "there is nothing to miss");
    }
}
