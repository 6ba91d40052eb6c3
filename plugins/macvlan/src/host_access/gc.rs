//! GC: the host's routes go with the attachments that are gone, and come back to those that are
//! there.
//!
//! Routes get lost: the kernel takes those away that name an address which the host has no longer,
//! and a program that manages the host's network may clear away what it has not made.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni::{Attachment, Error, Request};
use ipnet::IpNet;
use linknet::{HostRoute, Link, Netlink, Netns, Protocol, Scope, Shared, Shims, Tag};

use super::{failed, shims, show_the_way_back};
use crate::config::Config;
use crate::{container, mark};

/// Addresses that the kernel made of what routers say (`IFAPROT_KERNEL_RA` of linux/if_addr.h): no
/// result has them.
const ROUTERS: Protocol = Protocol(2);

/// Removes this network's routes to attachments that are not valid, and restores those to valid
/// ones that can be seen. Without a list only macvlans that nobody needs are removed.
///
/// # Errors
/// 111 with what the kernel refused first.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    let wanted = Config::read(request)
        .ok()
        .filter(|config| config.host_access);
    let outside = Netlink::open().map_err(|error| failed(&error))?;
    let any = || {
        outside
            .links()
            .map(|links| links.iter().any(|link| Shared::Shim.is(link)))
    };
    if wanted.is_none() && !any().map_err(|error| failed(&error))? {
        return Ok(());
    }
    let shims = shims()?;
    let own = container::own()?;
    let visible = visible(&own);
    let removed = remove(&shims, &outside, request, &visible);
    let restored = match (&request.valid_attachments, &wanted) {
        (Some(valid), Some(config)) => restore(&shims, request, config, valid, &visible),
        _ => Ok(()),
    };
    removed.and(restored)
}

/// A container's interface, in a namespace that has a name.
struct Visible {
    netns: Netns,
    link: Link,
    parent: u32,
    addresses: Vec<IpNet>,
}

/// Those whose parent is in our namespace.
fn visible(own: &Netns) -> Vec<Visible> {
    let mut found = Vec::new();
    for (_, netns) in container::named() {
        // What cannot be looked into is as good as unseen.
        let Ok(inside) = Netlink::open_in(&netns) else {
            continue;
        };
        let links = inside.links().unwrap_or_default();
        let ours = inside.nsid(own).ok().flatten();
        for link in links.into_iter().filter(mark::is_macvlan) {
            if ours.is_none() || link.parent_netnsid != ours {
                continue;
            }
            let (Some(parent), Ok(netns)) = (link.parent, netns.try_clone()) else {
                continue;
            };
            let addresses = inside.addresses(link.index).unwrap_or_default();
            let addresses = addresses
                .iter()
                .filter(|address| address.scope < Scope::LINK && address.protocol != Some(ROUTERS))
                .map(|address| address.net)
                .collect();
            found.push(Visible {
                netns,
                link,
                parent,
                addresses,
            });
        }
    }
    found
}

fn remove(
    shims: &Shims,
    outside: &Netlink,
    request: &Request,
    visible: &[Visible],
) -> Result<(), Error> {
    let network = &request.config.name;
    let valid: Option<BTreeSet<Tag>> = request.valid_attachments.as_ref().map(|valid| {
        valid
            .iter()
            .map(
                |Attachment {
                     container_id,
                     ifname,
                 }| Tag::new(network, container_id, ifname),
            )
            .collect()
    });
    let links = outside.links().map_err(|error| failed(&error))?;
    let parent_of = |index| links.iter().find(|link| link.index == index)?.parent;
    // Tags of two networks may look like one's: an address that is in use is reached, whoever's it
    // is.
    let in_use = |route: &HostRoute| {
        let parent = parent_of(route.index);
        visible.iter().any(|there| {
            Some(there.parent) == parent && there.addresses.iter().any(|net| net.addr() == route.to)
        })
    };
    let is_over = |route: &HostRoute| {
        valid
            .as_ref()
            .is_some_and(|valid| route.tag.is_of(network) && !valid.contains(&route.tag))
            && !in_use(route)
    };
    for route in shims.part(is_over).map_err(|error| failed(&error))? {
        eprintln!(
            "macvlan: removed the host's route to {}, which is nobody's any more",
            route.to
        );
    }
    Ok(())
}

/// Makes every route anew, since the host may speak from another address by now; those to addresses
/// that the interface has no longer go.
fn restore(
    shims: &Shims,
    request: &Request,
    config: &Config,
    valid: &BTreeSet<Attachment>,
    visible: &[Visible],
) -> Result<(), Error> {
    let network = &request.config.name;
    let mut outcome = Ok(());
    for there in visible {
        let Some(attachment) =
            mark::attachment(&there.link, network).filter(|it| valid.contains(it))
        else {
            continue;
        };
        let tag = Tag::new(network, &attachment.container_id, &attachment.ifname);
        outcome = outcome.and(
            there
                .join(shims, tag, config)
                .map_err(|error| failed(&error)),
        );
    }
    outcome
}

impl Visible {
    fn join(&self, shims: &Shims, tag: Tag, config: &Config) -> linknet::Result<()> {
        let addresses: Vec<IpAddr> = self.addresses.iter().map(IpNet::addr).collect();
        let reached = match addresses.as_slice() {
            [] => Vec::new(),
            addresses => shims.join(self.parent, tag, addresses)?,
        };
        shims.part(|route| route.tag == tag && !addresses.contains(&route.to))?;
        let inside = Netlink::open_in(&self.netns)?;
        show_the_way_back(&inside, config, &self.link, &self.addresses, &reached)
    }
}
