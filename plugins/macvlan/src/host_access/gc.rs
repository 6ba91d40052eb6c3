//! GC: removes the host's routes to attachments that are gone, and restores those to valid ones.
//!
//! Routes get lost: the kernel removes those with a source address that the host loses, and a
//! program that manages the host's network may remove what it did not set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use attachment::host_access::{AttachmentTag, HostAccess, HostRoute};
use attachment::{OwnerMark, SharedLink, is_macvlan};
use cni::{Attachment, Error, Request};
use ipnet::IpNet;
use linknet::{Address, Link, Netlink, Netns, Protocol, Scope};

use super::{failed, lock, set_return_routes};
use crate::config::Config;
use crate::netns;

/// Addresses that the kernel derived from router advertisements (`IFAPROT_KERNEL_RA` of
/// linux/if_addr.h): no result has them.
const KERNEL_RA: Protocol = Protocol(2);

/// Removes this network's routes to attachments that are not valid, and restores those to valid
/// ones that are visible. Without a list of attachments only unused macvlans are removed.
///
/// # Errors
/// 111 with the kernel's first refusal.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    let config = Config::read(request).ok();
    let config = config.filter(|config| config.host_access);
    let outside = Netlink::open().map_err(|error| failed(&error))?;
    let links = || outside.links().map_err(|error| failed(&error));
    if config.is_none() && !links()?.iter().any(|link| SharedLink::Shim.is(link)) {
        return Ok(());
    }
    let network = &request.config.name;
    let valid = request.valid_attachments.as_ref();
    let host = lock()?;
    // Listed under the lock: an ADD that had it before may have created a macvlan of the host's.
    let links = links()?;
    let own = netns::own()?;
    let (visible, searched) = netns::search_named(|_, netns| interfaces_in(netns, &own));
    let removed = remove_stale(&host, &links, network, valid, &visible);
    let restored = match (valid, config) {
        (Some(valid), Some(config)) => restore(&host, &config, network, valid, &visible),
        _ => Ok(()),
    };
    removed.and(restored).and(searched)
}

/// A container's interface whose parent is in our namespace.
struct VisibleInterface {
    netns: Netns,
    link: Link,
    parent: u32,
    addresses: Vec<IpNet>,
}

fn interfaces_in(netns: &Netns, own: &Netns) -> linknet::Result<Vec<VisibleInterface>> {
    let inside = Netlink::open_in(netns)?;
    let Some(own_nsid) = inside.nsid(own)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for link in inside.links()?.into_iter().filter(is_macvlan) {
        let Some(parent) = link
            .parent
            .filter(|_| link.parent_netnsid == Some(own_nsid))
        else {
            continue;
        };
        let addresses = match inside.addresses(link.index) {
            Err(error) if error.is_absent() => continue, // removed since
            addresses => addresses?,
        };
        let is_assigned =
            |address: &&Address| address.scope < Scope::LINK && address.protocol != Some(KERNEL_RA);
        let assigned = addresses.iter().filter(is_assigned);
        found.push(VisibleInterface {
            netns: (netns.try_clone())
                .map_err(|error| linknet::Error::io("keep a network namespace", &error))?,
            parent,
            addresses: assigned.map(|address| address.net).collect(),
            link,
        });
    }
    Ok(found)
}

fn remove_stale(
    host: &HostAccess,
    links: &[Link],
    network: &str,
    valid: Option<&BTreeSet<Attachment>>,
    visible: &[VisibleInterface],
) -> Result<(), Error> {
    let valid: Option<BTreeSet<AttachmentTag>> =
        valid.map(|valid| valid.iter().map(AttachmentTag::new).collect());
    let parent_of = |index| links.iter().find(|link| link.index == index)?.parent;
    // Attachments of two networks may have the same tag: a route to an address that is in use
    // stays, whichever network it belongs to.
    let is_in_use = |route: &HostRoute| {
        let parent = parent_of(route.index);
        visible.iter().any(|interface| {
            Some(interface.parent) == parent
                && interface.addresses.iter().any(|net| net.addr() == route.to)
        })
    };
    let is_stale = |route: &HostRoute| {
        let is_invalid = |valid: &BTreeSet<AttachmentTag>| {
            route.tag.is_of(network) && !valid.contains(&route.tag)
        };
        valid.as_ref().is_some_and(is_invalid) && !is_in_use(route)
    };
    for route in host.detach(is_stale).map_err(|error| failed(&error))? {
        log::warn!("removed stale host route to {}", route.to);
    }
    Ok(())
}

/// Sets every route again, since the host's source address may have changed; removes those to
/// addresses that the interface no longer has.
fn restore(
    host: &HostAccess,
    config: &Config,
    network: &str,
    valid: &BTreeSet<Attachment>,
    visible: &[VisibleInterface],
) -> Result<(), Error> {
    let marks = valid.iter().map(|it| (OwnerMark::new(it).alias, it));
    let by_mark: BTreeMap<String, &Attachment> = marks.collect();
    let mut outcome = Ok(());
    for interface in visible {
        let mark = OwnerMark::of_network(&interface.link, network);
        if let Some(attachment) = mark.and_then(|mark| by_mark.get(&mark.alias)) {
            let restored = interface.restore(host, AttachmentTag::new(attachment), config);
            outcome = outcome.and(restored.map_err(|error| failed(&error)));
        }
    }
    outcome
}

impl VisibleInterface {
    fn restore(
        &self,
        host: &HostAccess,
        tag: AttachmentTag,
        config: &Config,
    ) -> linknet::Result<()> {
        let addresses: Vec<IpAddr> = self.addresses.iter().map(IpNet::addr).collect();
        let reachable = match addresses.as_slice() {
            [] => Vec::new(),
            addresses => host.attach(self.parent, tag, addresses)?,
        };
        host.detach(|route| route.tag == tag && !addresses.contains(&route.to))?;
        let inside = Netlink::open_in(&self.netns)?;
        set_return_routes(config, &inside, &self.link, &self.addresses, &reachable)
    }
}
