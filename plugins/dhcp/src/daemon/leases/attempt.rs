//! An attempt to obtain a lease: it has a deadline, and is undone if it is given up.

use std::rc::Rc;
use std::time::Duration;

use cni::{Error, code};
use linknet::{Link, Netns};
use tokio::time::{Instant, timeout_at};

use super::lease::ManagedLease;
use super::slot::Slot;
use super::supersede::Superseded;
use super::table::Table;
use crate::daemon::error::internal;
use crate::daemon::exchange::Sockets;
use crate::protocol::ReleasePolicy;

/// An attempt to obtain a lease. If it is dropped before it succeeds, it takes up the leases again
/// that it was to supersede, and releases the address that a server may have reserved for it.
pub(super) struct Attempt<'a> {
    table: &'a Table,
    slot: &'a Slot,
    lease: Option<Rc<ManagedLease>>,
    sockets: Sockets<'a>,
    superseded: Superseded,
}

impl<'a> Attempt<'a> {
    /// An attempt to obtain this lease for the slot, over these sockets.
    pub(super) fn new(
        table: &'a Table,
        slot: &'a Slot,
        lease: Rc<ManagedLease>,
        sockets: Sockets<'a>,
    ) -> Attempt<'a> {
        Attempt {
            table,
            slot,
            lease: Some(lease),
            sockets,
            superseded: Superseded::default(),
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
        let (table, slot) = (self.table, self.slot);
        let superseded = &self.superseded;
        let other_holder = |address| table.other_holder(slot, lease, address);
        let before_use = |address| superseded.set_aside(table, slot, lease, address);
        let acquired = lease.acquire(netns, link, &mut self.sockets, other_holder, before_use);
        match timeout_at(deadline, acquired).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let ifname = &lease.interface.ifname;
                let what = format!("no address for {ifname} within {timeout:?}");
                let details = format!("{}; {}", lease.report(), lease.interface_health(netns));
                return Err(Error::new(code::TRY_AGAIN_LATER, what).details(details));
            }
        }
        // The caller puts the lease into the slot, and awaits nothing before.
        self.superseded.forget(table, &slot.attachment);
        self.lease.take().ok_or_else(over)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        self.slot.sought.take();
        self.superseded.take_up_again(self.table);
        // Another container with the same identity may have the address, and there is no time to
        // ask the LAN. The server keeps it for the next attempt.
        if lease.release_policy() == ReleasePolicy::Always
            && !self.table.is_held_by_another(self.slot, &lease, None)
        {
            // Its failure is in the log. Nothing is left that could send it later.
            let _ = lease.release(&mut self.sockets);
        }
    }
}
