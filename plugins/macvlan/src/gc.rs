//! GC: what belongs to no valid attachment goes, and what is shared and unused.

use std::collections::BTreeSet;
use std::slice;

use cni::delegate::Ipam;
use cni::{Attachment, Error, Request};
use linknet::Netlink;

use crate::mark::{self, Mark};
use crate::parent::{Leaving, SharedVlan};
use crate::{codes, container, host_access, remains};

/// Forwards to IPAM (spec §4: it must be), which goes first because a release is sent from the
/// interface, and removes interfaces of this network that bear the mark of an attachment not in the
/// list. Without a list nothing is removed.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    let collected = Ipam::find(request).and_then(|ipam| ipam.map_or(Ok(()), |ipam| ipam.gc()));
    let removed = match &request.valid_attachments {
        Some(valid) => remove_invalid(&request.config.name, valid),
        None => Ok(()),
    };
    // A host's macvlan that nobody needs any more may be the last on a VLAN.
    let parted = host_access::gc(request);
    collected.and(removed).and(parted).and(remove_vlans())
}

/// Removes the VLANs of ours that nobody uses, as after a container that vanished without DEL. It
/// takes no list to know those.
fn remove_vlans() -> Result<(), Error> {
    let ours = SharedVlan::all()?;
    ours.iter()
        .map(|vlan| vlan.let_go(Leaving::Done))
        .fold(Ok(()), Result::and)
}

/// Looks through the namespaces that have a name. An interface in any other dies with it, when its
/// container's last process does.
fn remove_invalid(network: &str, valid: &BTreeSet<Attachment>) -> Result<(), Error> {
    let mut outcome = Ok(());
    for (path, netns) in container::named() {
        let Ok(inside) = Netlink::open_in(&netns) else {
            continue;
        };
        for link in inside.links().unwrap_or_default() {
            let Some(attachment) = mark::attachment(&link, network) else {
                continue;
            };
            if valid.contains(&attachment) {
                continue;
            }
            let Attachment {
                container_id,
                ifname,
            } = attachment;
            eprintln!(
                "macvlan: removing {} of {container_id} in {}",
                link.name,
                path.display()
            );
            let mark = Mark::new(&ifname, &container_id, network);
            let remains = remains::remove(&inside, &mark, slice::from_ref(&link));
            match remains.and_then(|()| inside.delete_link(link.index)) {
                Err(error) if !error.is_absent() && outcome.is_ok() => {
                    let what = format!("removing {} in {} failed", link.name, path.display());
                    outcome = Err(Error::new(codes::KERNEL, what).details(error.to_string()));
                }
                _ => {}
            }
        }
    }
    outcome
}
