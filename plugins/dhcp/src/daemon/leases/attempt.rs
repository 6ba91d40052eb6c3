//! An attempt to obtain a lease: it has a deadline, and is undone if it is given up.

use std::rc::Rc;
use std::time::Duration;

use cni::{Error, code};
use linknet::{Link, Netns};
use tokio::time::{Instant, timeout_at};

use super::lease::ManagedLease;
use crate::daemon::error::internal;
use crate::daemon::exchange::Sockets;

/// An attempt to obtain a lease. If it is dropped before it succeeds, it releases the address that
/// a server may have reserved for it.
pub(super) struct Attempt<'n> {
    lease: Option<Rc<ManagedLease>>,
    sockets: Sockets<'n>,
}

impl<'n> Attempt<'n> {
    /// An attempt to obtain this lease over these sockets.
    pub(super) fn new(lease: Rc<ManagedLease>, sockets: Sockets<'n>) -> Attempt<'n> {
        Attempt {
            lease: Some(lease),
            sockets,
        }
    }

    /// Asks until there is an address, or until the deadline. `timeout` is the time until then, for
    /// the error.
    ///
    /// # Errors
    /// `TRY_AGAIN_LATER` (11) if no server granted an address in time. The error says how far the
    /// client got, and describes the interface.
    pub(super) async fn obtain(
        mut self,
        netns: &Netns,
        link: &Link,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Rc<ManagedLease>, Error> {
        let over = || internal("the attempt is over");
        let lease = self.lease.as_ref().ok_or_else(over)?;
        match timeout_at(deadline, lease.acquire(netns, link, &mut self.sockets)).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let ifname = &lease.interface.ifname;
                let what = format!("no address for {ifname} within {timeout:?}");
                let details = format!("{}; {}", lease.report(), lease.interface_health(netns));
                return Err(Error::new(code::TRY_AGAIN_LATER, what).details(details));
            }
        }
        self.lease.take().ok_or_else(over)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release(&mut self.sockets);
        }
    }
}
