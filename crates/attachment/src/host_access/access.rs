//! Setting and removing the host's routes to containers.

use std::net::IpAddr;

use linknet::{Error, Link, Netlink, Netns, Result};

use super::reachable::Reachable;
use super::route::HostRoute;
use super::tag::AttachmentTag;
use super::{shim, source};
use crate::lock::HostLock;
use crate::shared_link::SharedLink;

/// The shims of one namespace and the routes through them, locked against other processes.
#[derive(Debug)]
pub struct HostAccess {
    netns: Netns,
    netlink: Netlink,
    _lock: HostLock,
}

impl HostAccess {
    /// The shims in `netns`, which must be the namespace of the parents.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the process has no descriptor left.
    pub fn new(netns: &Netns, lock: HostLock) -> Result<HostAccess> {
        let netns = netns
            .try_clone()
            .map_err(|error| Error::io("keep a network namespace", &error))?;
        let netlink = Netlink::open_in(&netns)?;
        Ok(HostAccess {
            netns,
            netlink,
            _lock: lock,
        })
    }

    /// All host routes.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn routes(&self) -> Result<Vec<HostRoute>> {
        HostRoute::all(&self.netlink)
    }

    /// Sets the host's routes to these addresses on a parent, through its shim, which is created if
    /// there is none. The attachment's routes to other addresses stay.
    ///
    /// # Errors
    /// The kernel's refusal; `is_exists` if the shim's name is taken. Objects that were created by
    /// then stay, for [`HostAccess::detach`] to remove.
    pub fn attach(
        &self,
        parent: u32,
        tag: AttachmentTag,
        addresses: &[IpAddr],
    ) -> Result<Vec<Reachable>> {
        let with_ipv6 = addresses.iter().any(IpAddr::is_ipv6);
        let (shim, parent) = shim::ensure(&self.netlink, &self.netns, parent, with_ipv6)?;
        let via = shim::link_local(shim.mac.unwrap_or_default());
        let mut reachable = Vec::new();
        for &to in addresses {
            let from = source::choose(&self.netlink, &parent, to)?;
            let route = HostRoute {
                tag,
                to,
                index: shim.index,
            };
            self.netlink.replace_route(&route.to_route(from))?;
            reachable.push(Reachable {
                to,
                from,
                shim: via,
            });
        }
        Ok(reachable)
    }

    /// Removes the routes for which `is_stale` is true, and every shim without a route. Returns the
    /// routes that were removed.
    ///
    /// # Errors
    /// The kernel's first refusal. The other routes and shims are still removed.
    pub fn detach(&self, is_stale: impl Fn(&HostRoute) -> bool) -> Result<Vec<HostRoute>> {
        self.detach_with(is_stale, |shim| self.netlink.delete_link(shim.index))
    }

    /// Like [`HostAccess::detach`], for a process that ends soon: returns as soon as the shims are
    /// gone. See [`Netlink::delete_link_nowait`].
    ///
    /// # Errors
    /// As for [`HostAccess::detach`].
    pub fn detach_nowait(&self, is_stale: impl Fn(&HostRoute) -> bool) -> Result<Vec<HostRoute>> {
        self.detach_with(is_stale, |shim| {
            self.netlink.delete_link_nowait(&self.netns, shim.index)
        })
    }

    fn detach_with(
        &self,
        is_stale: impl Fn(&HostRoute) -> bool,
        delete: impl Fn(&Link) -> Result<()>,
    ) -> Result<Vec<HostRoute>> {
        let (stale, mut kept): (Vec<_>, Vec<_>) = self.routes()?.into_iter().partition(is_stale);
        let mut outcome = Ok(());
        let mut removed = Vec::new();
        for route in stale {
            match self.netlink.delete_route(&route.to_route(None)) {
                Err(error) if !error.is_absent() => {
                    kept.push(route);
                    outcome = outcome.and(Err(error));
                }
                _ => removed.push(route),
            }
        }
        let is_unused = |link: &&Link| {
            SharedLink::Shim.is(link) && !kept.iter().any(|route| route.index == link.index)
        };
        for shim in self.netlink.links()?.iter().filter(is_unused) {
            match delete(shim) {
                Err(error) if !error.is_absent() => outcome = outcome.and(Err(error)),
                _ => {}
            }
        }
        outcome.map(|()| removed)
    }
}
