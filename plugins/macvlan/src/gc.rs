//! GC: removes interfaces of attachments that are not valid, and shared links that are unused.

use std::collections::BTreeSet;
use std::slice;

use attachment::{OwnerMark, codes};
use cni::delegate::Ipam;
use cni::{Attachment, Error, Request};
use linknet::Netlink;

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
fn remove_invalid(network: &str, valid: &BTreeSet<Attachment>) -> Result<(), Error> {
    let mut outcome = Ok(());
    for (path, netns) in netns::named() {
        let Ok(inside) = Netlink::open_in(&netns) else {
            continue;
        };
        for link in inside.links().unwrap_or_default() {
            let attachment = OwnerMark::attachment_of(&link, network);
            let Some(attachment) = attachment.filter(|attachment| !valid.contains(attachment))
            else {
                continue;
            };
            let path = path.display();
            let container_id = attachment.container_id();
            eprintln!(
                "macvlan: removing {} of {container_id} in {path}",
                link.name
            );
            let mark = OwnerMark::new(&attachment);
            let removed = cleanup::remove(&inside, &mark, slice::from_ref(&link))
                .and_then(|()| inside.delete_link(link.index));
            if let Err(error) = removed
                && !error.is_absent()
            {
                let what = format!("cannot remove {} in {path}", link.name);
                let failed = Error::new(codes::KERNEL, what).details(error.to_string());
                outcome = outcome.and(Err(failed));
            }
        }
    }
    outcome
}
