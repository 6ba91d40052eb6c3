//! How a lease is given back: its address is taken off, and a RELEASE is sent.

use std::io;
use std::time::Duration;

use linknet::{Link, Netlink, Netns};
use tokio::time::sleep;

use super::ManagedLease;
use crate::daemon::exchange::{Sockets, flush, now};
use crate::daemon::interface;
use crate::state::Unreachable;

/// How often, and after which pause, a RELEASE that cannot be sent is tried.
const RELEASE_ATTEMPTS: u32 = 5;
const RELEASE_RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl ManagedLease {
    /// Releases the address, or a requested one that a server may have granted since.
    ///
    /// # Errors
    /// If the RELEASE cannot be sent.
    pub(in crate::daemon::leases) fn release(&self, sockets: &mut Sockets<'_>) -> io::Result<()> {
        self.client.borrow_mut().release(now());
        let netns = sockets.netns();
        // An address that was only requested is not the container's yet.
        let allow = |source| self.guard_or_log(netns, Some(source));
        flush(&self.client, sockets, &self.wire, allow)
    }

    /// Removes the address from the interface. Returns whether it was there.
    pub(in crate::daemon::leases) fn take_address_off(
        &self,
        netns: &Netns,
    ) -> linknet::Result<bool> {
        match self.address() {
            Some(address) => interface::take_off(netns, self.interface.ifindex, address),
            None => Ok(false),
        }
    }

    /// The link with the interface's index in its netns, whatever it is by now.
    ///
    /// # Errors
    /// If the netns or the link is gone, or cannot be inspected.
    pub(in crate::daemon::leases) fn lookup_index(&self) -> Result<(Netns, Link), Unreachable> {
        let netns = match &self.pinned_netns {
            Some(netns) => netns.try_clone().map_err(Unreachable::temporary)?,
            None => self.interface.open_netns()?,
        };
        let netlink = Netlink::open_in(&netns);
        let link = netlink.and_then(|netlink| netlink.link_by_index(self.interface.ifindex));
        let link = link.map_err(Unreachable::temporary)?;
        Ok((netns, link.ok_or(Unreachable::InterfaceGone)?))
    }

    /// Releases the lease when no exchange is running. Tries several times: the interface is
    /// usually removed next, so the RELEASE must leave now or never.
    ///
    /// # Errors
    /// If the RELEASE cannot be sent.
    pub(in crate::daemon::leases) async fn release_persistently(
        &self,
        netns: &Netns,
    ) -> io::Result<()> {
        let release = || self.release(&mut Sockets::new(netns, self.interface.ifindex));
        // A client that has released its lease does not do so again, so each attempt has its own.
        let client = self.client.borrow().clone();
        for _ in 1..RELEASE_ATTEMPTS {
            if release().is_ok() {
                return Ok(());
            }
            sleep(RELEASE_RETRY_INTERVAL).await;
            *self.client.borrow_mut() = client.clone();
        }
        release()
    }
}
