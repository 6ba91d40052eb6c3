//! Setting and removing the host's routes to containers.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use linknet::{Error, Link, Netlink, Netns, Result, or_absent};

use super::admission::{HostNetwork, Refusal};
use super::key::HostAccessKey;
use super::reachable::Reachable;
use super::record::Record;
use super::route::HostRoute;
use super::tag::AttachmentTag;
use super::{shim, source};
use crate::lock::HostLock;
use crate::ownership::PROTOCOL;
use crate::shared_link::SharedLink;

/// The shims of one namespace and the routes through them, locked against other processes.
#[derive(Debug)]
pub struct HostAccess {
    netns: Netns,
    netlink: Netlink,
    /// The host's network before the first route was set. GC sets one for each container.
    network: OnceCell<HostNetwork>,
    _lock: HostLock,
}

/// Why the host could not be led to a container.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused, or could not be asked.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The host must not be led to one of the addresses.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The addresses that the host is led to or has a record of, and whose they are. No lock is needed to
/// ask.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn destinations(netlink: &Netlink) -> Result<BTreeSet<(AttachmentTag, IpAddr)>> {
    let ours = netlink.routes_with_protocol(PROTOCOL)?;
    let routes = ours.iter().filter_map(HostRoute::from_route);
    let records = ours.iter().filter_map(Record::from_route);
    let routes = routes.map(|route| (route.tag, route.to));
    Ok(routes
        .chain(records.map(|record| (record.tag, record.to)))
        .collect())
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
            network: OnceCell::new(),
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

    /// The addresses of all attachments, whether or not there is a route to them.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn records(&self) -> Result<Vec<Record>> {
        Record::all(&self.netlink)
    }

    /// Sets the host's routes to these addresses on a parent, through its shim, which is created if
    /// there is none. The attachment's routes to other addresses stay.
    ///
    /// # Errors
    /// A refusal to lead the host to one of them; then nothing has been changed. Otherwise the
    /// kernel's refusal; `is_exists` if the shim's name is taken. Objects that were created by then
    /// stay, for [`HostAccess::detach`] to remove.
    pub fn attach(
        &self,
        parent: u32,
        tag: AttachmentTag,
        addresses: &[IpAddr],
        key: &HostAccessKey,
    ) -> Result<Vec<Reachable>, AttachError> {
        let parent = self.parent(parent)?;
        let network = self.network()?;
        for &to in addresses {
            network.admit(&parent, tag, to, key.listed())?;
        }
        let with_ipv6 = addresses.iter().any(IpAddr::is_ipv6);
        let shim = shim::ensure(&self.netlink, &self.netns, &parent, with_ipv6)?;
        let via = shim::link_local(shim.mac.unwrap_or_default());
        let mut reachable = Vec::new();
        for &to in addresses {
            let record = Record {
                tag,
                to,
                parent: parent.index,
            };
            self.record(network, record)?;
            let from = source::choose(&self.netlink, &network.addresses, &parent, to)?;
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

    fn network(&self) -> Result<&HostNetwork> {
        match self.network.get() {
            Some(network) => Ok(network),
            None => {
                let network = HostNetwork::read(&self.netlink)?;
                Ok(self.network.get_or_init(|| network))
            }
        }
    }

    /// Records an address of an attachment, which may have been on another parent before. `network`
    /// is the host's, before the change.
    fn record(&self, network: &HostNetwork, record: Record) -> Result<()> {
        self.netlink.replace_route(&record.to_route())?;
        let is_former =
            |other: &Record| (other.tag, other.to) == (record.tag, record.to) && *other != record;
        let records = network.routes.iter().filter_map(Record::from_route);
        for former in records.filter(is_former) {
            or_absent(self.netlink.delete_route(&former.to_route()))?;
        }
        Ok(())
    }

    fn parent(&self, index: u32) -> Result<Link> {
        self.netlink.link_by_index(index)?.ok_or_else(|| {
            let what = format!("create the host's macvlan on link {index}");
            Error::refusal(what, libc::ENODEV, None)
        })
    }

    /// Removes the host's route to an address, and keeps the record, for a later GC to restore it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn withhold(&self, record: &Record) -> Result<()> {
        let is_withheld = |route: &&HostRoute| route.tag == record.tag && route.to == record.to;
        for route in self.routes()?.iter().filter(is_withheld) {
            or_absent(self.netlink.delete_route(&route.to_route(None)))?;
        }
        Ok(())
    }

    /// Removes the addresses of attachments for which `is_stale` is true, routes and records, and
    /// every shim without a route. Returns the routes that were removed.
    ///
    /// # Errors
    /// The kernel's first refusal. The other routes and shims are still removed.
    pub fn detach(
        &self,
        is_stale: impl Fn(AttachmentTag, IpAddr) -> bool,
    ) -> Result<Vec<HostRoute>> {
        self.detach_with(is_stale, |shim| self.netlink.delete_link(shim.index))
    }

    /// Like [`HostAccess::detach`], for a process that ends soon: returns as soon as the shims are
    /// gone. See [`Netlink::delete_link_nowait`].
    ///
    /// # Errors
    /// As for [`HostAccess::detach`].
    pub fn detach_nowait(
        &self,
        is_stale: impl Fn(AttachmentTag, IpAddr) -> bool,
    ) -> Result<Vec<HostRoute>> {
        self.detach_with(is_stale, |shim| {
            self.netlink.delete_link_nowait(&self.netns, shim.index)
        })
    }

    fn detach_with(
        &self,
        is_stale: impl Fn(AttachmentTag, IpAddr) -> bool,
        delete: impl Fn(&Link) -> Result<()>,
    ) -> Result<Vec<HostRoute>> {
        let ours = self.netlink.routes_with_protocol(PROTOCOL)?;
        let (stale, mut kept): (Vec<_>, Vec<_>) = (ours.iter())
            .filter_map(HostRoute::from_route)
            .partition(|route| is_stale(route.tag, route.to));
        let mut outcome = Ok(());
        let mut removed = Vec::new();
        for route in stale {
            match or_absent(self.netlink.delete_route(&route.to_route(None))) {
                Ok(()) => removed.push(route),
                Err(error) => {
                    kept.push(route);
                    outcome = outcome.and(Err(error));
                }
            }
        }
        // Last, so that a process that is killed before leaves the address for another to find.
        let records = ours.iter().filter_map(Record::from_route);
        for record in records.filter(|record| is_stale(record.tag, record.to)) {
            let deleted = self.netlink.delete_route(&record.to_route());
            outcome = outcome.and(or_absent(deleted));
        }
        let is_unused = |link: &&Link| {
            SharedLink::Shim.is(link) && !kept.iter().any(|route| route.index == link.index)
        };
        for shim in self.netlink.links()?.iter().filter(is_unused) {
            outcome = outcome.and(or_absent(delete(shim)));
        }
        outcome.map(|()| removed)
    }
}
