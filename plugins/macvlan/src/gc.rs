//! GC: removes interfaces of attachments that are not valid, and shared links that are unused.

use std::collections::BTreeSet;
use std::path::Path;
use std::slice;

use attachment::{OwnerMark, codes};
use cni::delegate::Ipam;
use cni::{Attachment, Error, Request};
use linknet::{Link, Netlink, Netns};

use crate::parent::{Detached, SharedVlan};
use crate::{cleanup, host_access, netns};

/// Forwards to IPAM (spec §4 demands it), which comes first because a DHCP RELEASE is sent from the
/// interface, and removes interfaces of this network whose attachment is not in the list. Without a
/// list no interface is removed.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    let collected = Ipam::find(request).and_then(|ipam| ipam.map_or(Ok(()), |ipam| ipam.gc()));
    let removed = match &request.valid_attachments {
        Some(valid) => remove_invalid(&request.config.name, valid),
        None => Ok(()),
    };
    // An unused macvlan of the host may be the last one on a VLAN.
    let detached = host_access::gc(request);
    collected.and(removed).and(detached).and(remove_vlans())
}

/// Removes leasehold's unused VLANs, such as those of containers that disappeared without DEL.
fn remove_vlans() -> Result<(), Error> {
    let vlans = SharedVlan::all()?;
    let removed = vlans
        .iter()
        .map(|vlan| vlan.remove_if_unused(Detached::Yes));
    removed.fold(Ok(()), Result::and)
}

/// Searches the namespaces that have a name. An interface in any other one disappears with it, when
/// its container's last process ends.
///
/// # Errors
/// The first failure, whether to look into a namespace or to remove an interface. The others are
/// still searched.
fn remove_invalid(network: &str, valid: &BTreeSet<Attachment>) -> Result<(), Error> {
    let valid = valid.iter().map(|it| OwnerMark::new(it).alias).collect();
    let mut outcome = Ok(());
    for (path, netns) in netns::named() {
        let links = netns
            .map_err(|error| error.to_string())
            .and_then(|netns| look_into(&netns).map_err(|error| error.to_string()));
        let removed = match links {
            Ok((inside, links)) => remove_invalid_in(&path, &inside, &links, network, &valid),
            Err(error) => Err(netns::not_searched(&path, error)),
        };
        outcome = outcome.and(removed);
    }
    outcome
}

fn look_into(netns: &Netns) -> linknet::Result<(Netlink, Vec<Link>)> {
    let inside = Netlink::open_in(netns)?;
    let links = inside.links()?;
    Ok((inside, links))
}

fn remove_invalid_in(
    path: &Path,
    inside: &Netlink,
    links: &[Link],
    network: &str,
    valid: &BTreeSet<String>,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    let path = path.display();
    for link in links {
        let mark = OwnerMark::of_network(link, network);
        let Some(mark) = mark.filter(|mark| !valid.contains(&mark.alias)) else {
            continue;
        };
        log::warn!("removing {} of {} in {path}", link.name, mark.container());
        let cleaned = cleanup::remove(inside, &mark, slice::from_ref(link));
        let removed = match inside.delete_link(link.index) {
            Err(error) if !error.is_absent() => Err(error),
            _ => cleaned,
        };
        outcome = outcome.and(removed.map_err(|error| {
            let what = format!("cannot remove {} in {path}", link.name);
            Error::new(codes::KERNEL, what).details(error.to_string())
        }));
    }
    outcome
}
