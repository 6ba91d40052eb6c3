//! An address that was lost and is still on the interface.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::Duration;

use dhcp4::Lease;
use tokio::time::{Instant, sleep_until};

/// How long a lost address stays on the interface. A server that has forgotten its leases usually
/// grants the same address again at once, and then the container keeps its connections and the
/// routes that it has added.
const REGRANT_TIMEOUT: Duration = Duration::from_secs(1);

/// The address of a lease that was lost, while it is still on the interface: for a second, or until
/// this is dropped.
pub(super) struct LostAddress<F: Fn(&Lease)> {
    lease: RefCell<Option<Lease>>,
    until: Cell<Instant>,
    remove: F,
}

impl<F: Fn(&Lease)> LostAddress<F> {
    /// No address. `remove` removes one from the interface.
    pub(super) fn none(remove: F) -> LostAddress<F> {
        LostAddress {
            lease: RefCell::default(),
            until: Cell::new(Instant::now()),
            remove,
        }
    }

    /// Keeps the address of this lease for a second.
    pub(super) fn keep(&self, lease: Lease) {
        self.until.set(Instant::now() + REGRANT_TIMEOUT);
        *self.lease.borrow_mut() = Some(lease);
    }

    /// The lease whose address is still on the interface, if it is like this. The address is the
    /// caller's from now on.
    pub(super) fn take_if(&self, is_wanted: impl Fn(&Lease) -> bool) -> Option<Lease> {
        self.lease.borrow_mut().take_if(|lease| is_wanted(lease))
    }

    /// Removes the address, if there is one.
    pub(super) fn remove(&self) {
        if let Some(lease) = self.lease.take() {
            (self.remove)(&lease);
        }
    }

    /// Waits for `work`, and removes the address if its second is over before.
    pub(super) async fn limit<T>(&self, work: impl Future<Output = T>) -> T {
        if self.lease.borrow().is_none() {
            return work.await;
        }
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(self.until.get()) => self.remove(),
        }
        work.await
    }
}

impl<F: Fn(&Lease)> Drop for LostAddress<F> {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::timeout;

    use crate::state::tests::record;

    use super::*;

    /// Those of its removals so far.
    fn lost<'a>(removed: &'a Cell<u32>) -> LostAddress<impl Fn(&Lease) + 'a> {
        let lost = LostAddress::none(|_| removed.set(removed.get() + 1));
        lost.keep(record().lease);
        lost
    }

    #[tokio::test]
    async fn an_address_stays_for_a_second_unless_it_is_taken() {
        let removed = Cell::new(0);
        let lost = lost(&removed);
        let moment = Duration::from_millis(50);
        let waiting = lost.limit(pending::<()>());
        assert!(timeout(moment, waiting).await.is_err());
        assert_eq!(removed.get(), 0, "its second is not over");
        assert!(lost.take_if(|_| false).is_none());
        assert!(lost.take_if(|_| true).is_some());
        drop(lost);
        assert_eq!(removed.get(), 0, "it is the caller's");
    }

    #[tokio::test]
    async fn an_address_is_removed_when_its_second_is_over_or_the_exchange_ends() {
        let removed = Cell::new(0);
        let expired = lost(&removed);
        expired.until.set(Instant::now());
        let waiting = expired.limit(pending::<()>());
        assert!(timeout(Duration::from_millis(50), waiting).await.is_err());
        assert_eq!(removed.get(), 1);
        drop(expired);
        assert_eq!(removed.get(), 1, "once");
        drop(lost(&removed));
        assert_eq!(removed.get(), 2);
        lost(&removed).remove();
        assert_eq!(removed.get(), 3);
    }
}
