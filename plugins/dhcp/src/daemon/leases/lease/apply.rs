//! What a lease does to its interface: addresses, routes and guard, as they change.

use std::io;
use std::net::Ipv4Addr;

use attachment::Changes;
use dhcp4::Lease;
use linknet::{Netlink, Netns};
use tracing::field::display;

use super::ManagedLease;
use crate::daemon::exchange::now;
use crate::daemon::interface::{self, LeaseChange};
use crate::protocol::OnChange;
use crate::state::Unreachable;

impl ManagedLease {
    /// Sets the interface up, if it was set down with the loss of its address: nothing can be sent
    /// from it otherwise.
    pub(super) fn set_up_again(&self, netns: &Netns) {
        if !self.is_down.get() {
            return;
        }
        let netlink = Netlink::open_in(netns);
        let outcome = netlink.and_then(|netlink| netlink.set_up(self.interface.ifindex));
        if let Err(error) = outcome {
            let attachment = &self.attachment;
            tracing::error!(%attachment, %error, "cannot set the interface up again");
        }
    }

    /// Sets the interface down while its address is lost, if `onChange` says so.
    pub(super) fn set_down_if_lost(&self, netns: &Netns) {
        if self.on_change() != OnChange::Down {
            return;
        }
        let is_lost = self.address().is_none();
        let was_down = self.is_down.replace(is_lost);
        if !is_lost {
            return;
        }
        let attachment = &self.attachment;
        let netlink = Netlink::open_in(netns);
        let outcome = netlink.and_then(|netlink| netlink.set_down(self.interface.ifindex));
        match outcome {
            Ok(()) if was_down => {}
            Ok(()) => {
                tracing::warn!(%attachment, "interface set down: its address is lost, and onChange is \"down\"");
            }
            Err(error) => tracing::error!(%attachment, %error, "cannot set the interface down"),
        }
    }

    /// Removes the address and routes of a lost lease from the interface, if they are still there.
    pub(in crate::daemon::leases) fn remove_address(&self, netns: &Netns, lost: &Lease) {
        let leases = LeaseChange {
            old: Some(lost),
            new: None,
        };
        self.apply_to_interface(netns, "address removed", leases);
    }

    /// Configures the interface for the first time, if its caller leaves that to the daemon; one that
    /// has been configured is brought back to what it was.
    ///
    /// # Errors
    /// Whatever the kernel refused.
    pub(in crate::daemon::leases) fn configure(
        &self,
        netns: &Netns,
        is_first: bool,
    ) -> linknet::Result<()> {
        let Some(lease) = self.granted().filter(|_| self.params.configure) else {
            return Ok(());
        };
        let leases = LeaseChange {
            old: (!is_first).then_some(&lease),
            new: Some(&lease),
        };
        let (changed, outcome) = self.apply(netns, leases);
        let attachment = &self.attachment;
        tracing::debug!(%attachment, %changed, "interface configured");
        outcome
    }

    /// Restores what the interface has lost, and what could not be applied before. Returns whether
    /// it changed anything.
    pub(super) fn repair(&self, netns: &Netns) -> bool {
        let lease = self.client.borrow().lease().cloned();
        let Some(lease) = lease else {
            // To ask for another address, the client needs a guard that knows the MAC.
            self.guard_or_log(netns, None);
            return false;
        };
        let leases = LeaseChange {
            old: Some(&lease),
            new: Some(&lease),
        };
        let (attachment, address) = (&self.attachment, lease.address);
        let (changed, outcome) = self.apply(netns, leases);
        // Not again before the next renewal: the kernel may refuse it each time.
        self.is_unsettled.set(false);
        if let Err(error) = outcome {
            tracing::error!(%attachment, %address, %changed, %error, "cannot restore the interface");
        } else if !changed.is_empty() {
            tracing::info!(%attachment, %address, %changed, "interface restored");
        }
        !changed.is_empty()
    }

    pub(super) fn apply(
        &self,
        netns: &Netns,
        leases: LeaseChange<'_>,
    ) -> (Changes, linknet::Result<()>) {
        let (ifindex, applied) = (self.interface.ifindex, &mut self.applied.borrow_mut());
        let (changes, outcome) = interface::apply(
            netns,
            ifindex,
            &self.attachment,
            &self.params,
            applied,
            leases,
            now(),
        );
        self.is_unsettled.set(outcome.is_err());
        (changes, outcome)
    }

    /// Lets the container speak from this address and no other, if it is guarded.
    pub(super) fn guard(&self, netns: &Netns, address: Option<Ipv4Addr>) -> linknet::Result<()> {
        let (attachment, guard) = (&self.attachment, &self.params.guard);
        interface::guard(netns, self.interface.ifindex, attachment, guard, address).map(drop)
    }

    /// Like [`ManagedLease::guard`], where the outcome changes nothing: what the old rules do not
    /// allow is not sent.
    pub(super) fn guard_or_log(&self, netns: &Netns, address: Option<Ipv4Addr>) {
        if let Err(error) = self.guard(netns, address) {
            let attachment = &self.attachment;
            tracing::error!(%attachment, %error, "cannot update the guard");
        }
    }

    /// Whether the last change of the lease could not be applied whole, so that it should be tried
    /// again soon.
    pub(in crate::daemon::leases) fn is_unsettled(&self) -> bool {
        self.is_unsettled.get()
    }

    /// Why an exchange failed: because the container is gone, or because descriptors or memory were
    /// short, which is no reason to give up the lease.
    pub(super) fn classify(&self, error: io::Error) -> Unreachable {
        self.open_netns()
            .err()
            .unwrap_or_else(|| Unreachable::temporary(error))
    }

    /// Applies a change of the lease to the interface, and logs both in one event.
    pub(super) fn apply_to_interface(&self, netns: &Netns, event: &str, leases: LeaseChange<'_>) {
        let (attachment, LeaseChange { old, new }) = (&self.attachment, leases);
        let (changed, outcome) = self.apply(netns, leases);
        let address = new.or(old).map(|lease| display(lease.address));
        let server = new.map(|lease| display(lease.server_id));
        match outcome {
            Ok(()) if new.is_none() => {
                tracing::warn!(%attachment, address, %changed, "{event}");
            }
            Ok(()) => tracing::info!(%attachment, address, server, %changed, "{event}"),
            Err(error) => {
                tracing::error!(%attachment, address, server, %changed, %error, "{event}, but cannot update the interface");
            }
        }
    }
}
