//! How many exchanges with servers run at a time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Limits how many exchanges run at a time, in all and for each parent: a LAN whose servers do not
/// answer must not hold up the others. Permits are granted in order of arrival.
#[derive(Debug)]
pub(crate) struct Permits {
    all: Arc<Semaphore>,
    /// By the parent's index; `None` stands for all parents that are not known.
    parents: RefCell<HashMap<Option<u32>, Arc<Semaphore>>>,
    per_parent: usize,
}

/// The right to exchange messages with servers, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_all: OwnedSemaphorePermit,
    _of_parent: OwnedSemaphorePermit,
}

impl Permits {
    /// So many in all, and half of them for any one parent, or `most_per_parent`.
    pub(crate) fn new(all: usize, most_per_parent: usize) -> Permits {
        Permits {
            all: Arc::new(Semaphore::new(all)),
            parents: RefCell::default(),
            per_parent: all.div_ceil(2).min(most_per_parent),
        }
    }

    /// Waits for a permit for an exchange on this parent.
    pub(crate) async fn acquire(&self, parent: Option<u32>) -> Result<Permit, AcquireError> {
        let of_parent = self.semaphore_of(parent).acquire_owned().await?;
        let of_all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Permit {
            _of_all: of_all,
            _of_parent: of_parent,
        })
    }

    fn semaphore_of(&self, parent: Option<u32>) -> Arc<Semaphore> {
        let mut parents = self.parents.borrow_mut();
        // Parents come and go. One that nobody uses or waits for is as good as new.
        parents.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let semaphore = parents
            .entry(parent)
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_parent)));
        Arc::clone(semaphore)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn is_granted(permits: &Permits, parent: u32) -> Option<Permit> {
        let waiting = permits.acquire(Some(parent));
        let outcome = timeout(Duration::from_millis(1), waiting).await;
        outcome.ok().and_then(Result::ok)
    }

    #[tokio::test]
    async fn a_parent_that_uses_all_of_its_permits_leaves_some_for_others() {
        let permits = Permits::new(4, 128);
        let first = is_granted(&permits, 1).await;
        let second = is_granted(&permits, 1).await;
        assert!(first.is_some() && second.is_some());
        assert!(is_granted(&permits, 1).await.is_none());
        let other = is_granted(&permits, 2).await;
        assert!(other.is_some());
        drop(first);
        assert!(is_granted(&permits, 1).await.is_some());
    }

    #[tokio::test]
    async fn all_parents_together_are_limited_too() {
        let permits = Permits::new(2, 1);
        let taken = [is_granted(&permits, 1).await, is_granted(&permits, 2).await];
        assert!(taken.iter().all(Option::is_some));
        assert!(is_granted(&permits, 3).await.is_none());
        drop(taken);
        assert!(is_granted(&permits, 3).await.is_some());
    }

    #[tokio::test]
    async fn parents_that_nobody_uses_are_forgotten() {
        let permits = Permits::new(4, 128);
        for parent in 1..5 {
            drop(is_granted(&permits, parent).await);
        }
        let _permit = is_granted(&permits, 5).await;
        assert_eq!(permits.parents.borrow().len(), 1);
    }
}
