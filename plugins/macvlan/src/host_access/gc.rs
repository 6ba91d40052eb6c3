//! GC: removes the host's routes to attachments that are gone, and restores those to valid ones.
//!
//! Routes get lost: the kernel removes those with a source address that the host loses, and a
//! program that manages the host's network may remove what it did not set. GC restores the
//! routes that the host has a record of. It does not ask the containers: a container's root could
//! answer with any address, or any number of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use attachment::host_access::{
    AttachError, AttachmentTag, HostAccess, HostRoute, Reachable, Record, destinations,
};
use attachment::{OwnerMark, SharedLink, is_macvlan};
use cni::{Attachment, Error, Request};
use ipnet::IpNet;
use linknet::{Link, Netlink, Netns};

use super::{failed, lock, outside, set_return_routes};
use crate::config::Config;
use crate::netns;

/// Removes this network's routes to attachments that are not valid, and restores those to valid
/// ones. Without a list of attachments only unused macvlans are removed.
///
/// # Errors
/// 111 with the kernel's first refusal.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    let config = Config::read(request).ok();
    let config = config.filter(|config| !config.host_access.is_off());
    let outside = outside()?;
    // Before the lock: what an ADD sets while this waits is not in the list of valid attachments.
    let before = destinations(&outside).map_err(|error| failed(&error))?;
    if config.is_none() && before.is_empty() && !has_shim(&outside)? {
        return Ok(());
    }
    let host = lock()?;
    let own = netns::own()?;
    let (visible, searched) = netns::search_named(|_, netns| interfaces_in(netns, &own));
    let Some(valid) = &request.valid_attachments else {
        return host
            .detach(|_, _| false)
            .map(drop)
            .map_err(|error| failed(&error));
    };
    let removed = remove_stale(&host, &request.config.name, valid, &before, &visible);
    let restored = match &config {
        Some(config) => {
            forget_lost_parents(&host, &outside).and(restore(&host, config, valid, &visible))
        }
        None => Ok(()),
    };
    removed.and(restored).and(searched)
}

pub(super) fn has_shim(outside: &Netlink) -> Result<bool, Error> {
    let links = outside.links().map_err(|error| failed(&error))?;
    Ok(links.iter().any(|link| SharedLink::Shim.is(link)))
}

/// A container's interface whose parent is in our namespace.
struct VisibleInterface {
    netns: Netns,
    link: Link,
}

fn interfaces_in(netns: &Netns, own: &Netns) -> linknet::Result<Vec<VisibleInterface>> {
    let inside = Netlink::open_in(netns)?;
    let Some(own_nsid) = inside.nsid(own)? else {
        return Ok(Vec::new());
    };
    let mut links = inside.links()?;
    links.retain(|link| is_macvlan(link) && link.parent_netnsid == Some(own_nsid));
    let visible = links.into_iter().map(|link| {
        let netns = netns
            .try_clone()
            .map_err(|error| linknet::Error::io("keep a network namespace", &error))?;
        Ok(VisibleInterface { netns, link })
    });
    visible.collect()
}

fn remove_stale(
    host: &HostAccess,
    network: &str,
    valid: &BTreeSet<Attachment>,
    before: &BTreeSet<(AttachmentTag, IpAddr)>,
    visible: &[VisibleInterface],
) -> Result<(), Error> {
    let mut valid: BTreeSet<AttachmentTag> = valid.iter().map(AttachmentTag::new).collect();
    // Names of two networks may look alike in a tag.
    let marks = visible.iter();
    let marks = marks.filter_map(|interface| OwnerMark::attachment(&interface.link));
    let of_others = marks.filter(|attachment| attachment.network() != network);
    valid.extend(of_others.map(|attachment| AttachmentTag::new(&attachment)));
    let removed = host.detach(|tag, to| {
        tag.is_of(network) && !valid.contains(&tag) && before.contains(&(tag, to))
    });
    for HostRoute { to, .. } in removed.map_err(|error| failed(&error))? {
        log::warn!("removed stale host route to {to}");
    }
    Ok(())
}

/// Removes the records of parents that are gone, and the containers' interfaces with them.
fn forget_lost_parents(host: &HostAccess, outside: &Netlink) -> Result<(), Error> {
    let forget = || {
        let mut lost = Vec::new();
        for record in host.records()? {
            if outside.link_by_index(record.parent)?.is_none() {
                lost.push(record);
            }
        }
        let is_lost = |tag, to| lost.iter().any(|lost| lost.tag == tag && lost.to == to);
        if !lost.is_empty() {
            host.detach(is_lost)?;
        }
        Ok(())
    };
    forget().map_err(|error| failed(&error))
}

/// Sets every route again, since the host's source address may have changed.
///
/// # Errors
/// The first failure. The other routes are still set.
fn restore(
    host: &HostAccess,
    config: &Config,
    valid: &BTreeSet<Attachment>,
    visible: &[VisibleInterface],
) -> Result<(), Error> {
    let records = host.records().map_err(|error| failed(&error))?;
    let mut outcome = Ok(());
    for attachment in valid {
        let tag = AttachmentTag::new(attachment);
        let ours = records.iter().filter(|record| record.tag == tag);
        let mut reachable = Vec::new();
        for record in ours {
            match restore_route(host, config, attachment, record) {
                Ok(restored) => reachable.extend(restored),
                Err(error) => outcome = outcome.and(Err(failed(&error))),
            }
        }
        let mark = OwnerMark::new(attachment);
        for interface in visible.iter().filter(|it| mark.is_finished(&it.link)) {
            let answered = interface.set_return_routes(config, &reachable);
            outcome = outcome.and(answered.map_err(|error| failed(&error)));
        }
    }
    // A route that was withheld may have been the last one through its macvlan.
    let cleaned = host.detach(|_, _| false).map(drop);
    outcome.and(cleaned.map_err(|error| failed(&error)))
}

/// Sets the route to a recorded address again. An address that the host must not be led to any more
/// loses its route.
fn restore_route(
    host: &HostAccess,
    config: &Config,
    attachment: &Attachment,
    record: &Record,
) -> linknet::Result<Vec<Reachable>> {
    let &Record { tag, to, parent } = record;
    match host.attach(parent, tag, &[to], &config.host_access) {
        Ok(reachable) => Ok(reachable),
        Err(AttachError::Refused(refusal)) => {
            let advice = refusal.advice();
            log::warn!("hostAccess: no host route to {attachment}: {refusal} ({advice})");
            host.withhold(record)?;
            Ok(Vec::new())
        }
        Err(AttachError::Kernel(error)) => Err(error),
    }
}

impl VisibleInterface {
    fn set_return_routes(&self, config: &Config, reachable: &[Reachable]) -> linknet::Result<()> {
        let inside = Netlink::open_in(&self.netns)?;
        let addresses = match inside.addresses(self.link.index) {
            Err(error) if error.is_absent() => return Ok(()), // removed since
            addresses => addresses?,
        };
        let on_link: Vec<IpNet> = addresses.iter().map(|address| address.net).collect();
        set_return_routes(config, &inside, &self.link, &on_link, reachable)
    }
}
