//! VLANs that leasehold created: removing one with its last container.
//!
//! The host cannot list the macvlans on a VLAN, because they are in the containers' namespaces. But
//! the kernel allows a macvlan in mode passthru on a device only if there is no other macvlan on
//! it. So a process that may remove the VLAN first creates such a macvlan, the probe. If that
//! succeeds, the VLAN is unused, and no container can be attached to it until both are deleted.

use std::thread::sleep;
use std::time::{Duration, Instant};

use attachment::{HostLock, KernelError, SharedLink, codes, is_macvlan, kernel_code};
use cni::Error;
use linknet::{Link, MacvlanMode, Netlink, Netns, NewMacvlan, Scope, or_absent};

use crate::netns;

/// How long a container that is gone may keep its VLAN: the kernel tears its namespace down in the
/// background.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before the VLAN is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Whether the container that is detached has left the VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detached {
    /// Its interface has just been removed.
    Yes,
    /// Its namespace could not be entered any more, and the kernel may still be tearing it down.
    Unknown,
}

/// A VLAN that leasehold created, and where it is.
pub(crate) struct SharedVlan {
    netlink: Netlink,
    netns: Netns,
    link: Link,
}

impl SharedVlan {
    /// The link with this index, if it is a VLAN that leasehold created. `netlink` is a socket in
    /// the parents' namespace: `container`, or the plugin's own if that is `None`.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn find(
        netlink: Netlink,
        container: Option<&Netns>,
        index: u32,
    ) -> Result<Option<SharedVlan>, Error> {
        let link = netlink.link_by_index(index).or_kernel_error()?;
        let Some(link) = link.filter(|link| SharedLink::Vlan.is(link)) else {
            return Ok(None);
        };
        let netns = match container {
            Some(netns) => netns
                .try_clone()
                .map_err(|error| Error::new(codes::KERNEL, error.to_string()))?,
            None => netns::own()?,
        };
        Ok(Some(SharedVlan {
            netlink,
            netns,
            link,
        }))
    }

    /// All of them in the plugin's own namespace.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn all() -> Result<Vec<SharedVlan>, Error> {
        let links = Netlink::open().and_then(|netlink| netlink.links());
        let mut links = links.or_kernel_error()?;
        links.retain(|link| SharedLink::Vlan.is(link));
        let found = links.iter().map(|link| {
            let netlink = Netlink::open().or_kernel_error()?;
            SharedVlan::find(netlink, None, link.index)
        });
        found.filter_map(Result::transpose).collect()
    }

    /// Removes the VLAN if no container uses it any more.
    ///
    /// # Errors
    /// If the kernel refuses; not if the VLAN is in use, or gone.
    pub(crate) fn remove_if_unused(&self, detached: Detached) -> Result<(), Error> {
        let deadline = Instant::now() + TEARDOWN_TIMEOUT;
        while !self.try_remove()? {
            let may_wait = detached == Detached::Unknown && Instant::now() < deadline;
            // A macvlan that can be found belongs to a container that is alive.
            if !may_wait || !netns::macvlans_on(&self.netlink, self.link.index, true)?.is_empty() {
                return Ok(());
            }
            sleep(RETRY_INTERVAL);
        }
        Ok(())
    }

    /// Whether this process or another one has removed the VLAN.
    fn try_remove(&self) -> Result<bool, Error> {
        let SharedVlan {
            netlink,
            netns,
            link,
        } = self;
        let failed = |error: linknet::Error| {
            Error::new(
                kernel_code(&error),
                format!("cannot remove VLAN {}", link.name),
            )
            .details(error.to_string())
        };
        let _lock = HostLock::acquire().map_err(failed)?;
        // The process that had the lock before may have removed it.
        let current = netlink.link_by_index(link.index).map_err(failed)?;
        let Some(current) = current.filter(|link| SharedLink::Vlan.is(link)) else {
            return Ok(true);
        };
        if is_built_upon(netlink, &current).map_err(failed)? {
            return Ok(false);
        }
        let name = probe_name(link);
        let probe = NewMacvlan {
            mode: MacvlanMode::Passthru,
            ..NewMacvlan::new(&name, link.index)
        };
        match netlink.add_macvlan(&probe, netns, netlink) {
            Ok(_) => {}
            // Left by a process that was killed between this line and the next.
            Err(error) if error.is_exists() => {}
            Err(error) if error.is_absent() => return Ok(true),
            Err(error) if error.is_invalid() || error.is_busy() => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        let deleted = or_absent(netlink.delete_link_nowait(netns, link.index));
        deleted.map(|()| true).map_err(failed)
    }
}

/// The name of the probe on a VLAN.
pub(super) fn probe_name(link: &Link) -> String {
    format!("lhprobe{:x}", link.index)
}

/// Whether an administrator has made the VLAN more than a parent of macvlans: it is a bridge's
/// port, has addresses, or carries other devices.
fn is_built_upon(netlink: &Netlink, link: &Link) -> linknet::Result<bool> {
    let is_on_it = |other: &Link| {
        other.parent == Some(link.index) && other.parent_netnsid.is_none() && !is_macvlan(other)
    };
    let addresses = netlink.addresses(link.index)?;
    Ok(link.master.is_some()
        || addresses.iter().any(|address| address.scope < Scope::LINK)
        || netlink.links()?.iter().any(is_on_it))
}
