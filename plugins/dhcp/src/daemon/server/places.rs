//! The places of callers: so many are served at a time. Others wait in the socket's backlog.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places of callers. A caller that has not sent its request yet loses its place if all are
/// taken, so that silent callers keep nobody waiting.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// The callers whose request is awaited, the longest first.
    silent: RefCell<VecDeque<Weak<Notify>>>,
}

/// The right to a place.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_place: Option<OwnedSemaphorePermit>,
}

/// A caller's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: Permit,
    /// Notified when another caller needs the place. `None` once the request has come.
    needed: Option<Rc<Notify>>,
}

impl Places {
    /// So many places.
    pub(crate) fn new(number: usize) -> Places {
        Places {
            free: Arc::new(Semaphore::new(number)),
            silent: RefCell::default(),
        }
    }

    /// Waits for a free place. If there is none, the caller that has been silent longest loses its
    /// own.
    pub(crate) async fn free(&self) -> Permit {
        if self.free.available_permits() == 0 {
            self.evict();
        }
        Permit {
            _of_place: Arc::clone(&self.free).acquire_owned().await.ok(),
        }
    }

    /// The place of a caller that has just connected.
    pub(crate) fn take(&self, permit: Permit) -> Place {
        let needed = Rc::new(Notify::new());
        let mut silent = self.silent.borrow_mut();
        silent.retain(|caller| caller.strong_count() > 0);
        silent.push_back(Rc::downgrade(&needed));
        Place {
            _permit: permit,
            needed: Some(needed),
        }
    }

    fn evict(&self) {
        let mut silent = self.silent.borrow_mut();
        while let Some(caller) = silent.pop_front() {
            if let Some(needed) = caller.upgrade() {
                needed.notify_one();
                return;
            }
        }
    }
}

impl Place {
    /// Returns when another caller needs the place.
    pub(super) async fn needed(&self) {
        match &self.needed {
            Some(needed) => needed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Keeps the place until the caller has its reply.
    pub(super) fn keep(&mut self) {
        self.needed = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn in_a_moment<T>(future: impl Future<Output = T>) -> Option<T> {
        timeout(Duration::from_millis(1), future).await.ok()
    }

    #[tokio::test]
    async fn the_caller_that_is_silent_longest_loses_its_place() {
        let places = Places::new(3);
        let mut asking = places.take(places.free().await);
        asking.keep();
        let silent = places.take(places.free().await);
        let young = places.take(places.free().await);
        assert!(in_a_moment(silent.needed()).await.is_none(), "none waits");
        assert!(in_a_moment(places.free()).await.is_none());
        assert!(in_a_moment(silent.needed()).await.is_some());
        assert!(in_a_moment(young.needed()).await.is_none());
        drop(silent);
        assert!(in_a_moment(places.free()).await.is_some());
        assert!(in_a_moment(asking.needed()).await.is_none());
    }

    #[tokio::test]
    async fn callers_that_are_gone_are_forgotten() {
        let places = Places::new(3);
        for _ in 0..5 {
            drop(places.take(places.free().await));
        }
        let _place = places.take(places.free().await);
        assert_eq!(places.silent.borrow().len(), 1);
    }
}
