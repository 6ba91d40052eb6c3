//! GC: removes interfaces of attachments that are not valid, and shared links that are unused.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::slice;

use attachment::{OwnerMark, codes};
use cni::delegate::Ipam;
use cni::{Attachment, Error, Request};
use linknet::{Link, Netlink, or_absent};

use crate::parent::{Detached, SharedVlan};
use crate::{cleanup, guard, host_access, netns};

/// Forwards to IPAM (spec §4 demands it), and removes interfaces of this network whose attachment
/// is not in the list. Without a list no interface is removed.
///
/// As in DEL, addresses are taken off before IPAM gives them back, and the interfaces are removed
/// after that.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    let valid = request.valid_attachments.as_ref().map(aliases);
    let (invalid, searched) = match &valid {
        Some(valid) => find_invalid(&request.config.name, valid),
        None => (Vec::new(), Ok(())),
    };
    let taken_off = for_each(&invalid, |stale| {
        let link = slice::from_ref(&stale.link);
        // What is still there must not be given back: see DEL.
        cleanup::take_addresses_off(&stale.inside, link, None).or_else(|_| stale.remove())
    });
    let collected = Ipam::find(request).and_then(|ipam| ipam.map_or(Ok(()), |ipam| ipam.gc()));
    let removed = for_each(&invalid, Stale::remove);
    let unguarded = match (&valid, &removed) {
        (Some(valid), Ok(())) => guard::gc(request, valid),
        // An interface that may still exist stays guarded.
        _ => Ok(()),
    };
    // An unused macvlan of the host may be the last one on a VLAN.
    let detached = host_access::gc(request);
    let outcome = collected
        .and(searched)
        .and(taken_off)
        .and(removed)
        .and(unguarded);
    outcome.and(detached).and(remove_vlans())
}

/// Removes leasehold's unused VLANs, such as those of containers that disappeared without DEL.
fn remove_vlans() -> Result<(), Error> {
    let vlans = SharedVlan::all()?;
    let removed = vlans
        .iter()
        .map(|vlan| vlan.remove_if_unused(Detached::Yes));
    removed.fold(Ok(()), Result::and)
}

/// An interface whose attachment is not valid.
struct Stale {
    /// The path of its namespace.
    path: PathBuf,
    /// A socket in it.
    inside: Rc<Netlink>,
    link: Link,
    mark: OwnerMark,
}

impl Stale {
    fn remove(&self) -> linknet::Result<()> {
        let (name, container) = (&self.link.name, self.mark.container());
        log::warn!("removing {name} of {container} in {}", self.path.display());
        let cleaned = cleanup::remove(&self.inside, &self.mark, slice::from_ref(&self.link));
        or_absent(self.inside.delete_link(self.link.index)).and(cleaned)
    }
}

/// Does something to all stale interfaces.
///
/// # Errors
/// The first failure. The others are still done.
fn for_each(stale: &[Stale], change: impl Fn(&Stale) -> linknet::Result<()>) -> Result<(), Error> {
    let changed = stale.iter().map(|stale| {
        change(stale).map_err(|error| {
            let path = stale.path.display();
            let what = format!("cannot remove {} in {path}", stale.link.name);
            Error::new(codes::KERNEL, what).details(error.to_string())
        })
    });
    changed.fold(Ok(()), Result::and)
}

/// The aliases of the interfaces of these attachments.
fn aliases(attachments: &BTreeSet<Attachment>) -> BTreeSet<String> {
    attachments
        .iter()
        .map(|it| OwnerMark::new(it).alias)
        .collect()
}

/// Searches the namespaces that have a name. An interface in any other one disappears with it, when
/// its container's last process ends.
///
/// Returns what it found, and the first failure to look into a namespace. The others are still
/// searched.
fn find_invalid(network: &str, valid: &BTreeSet<String>) -> (Vec<Stale>, Result<(), Error>) {
    netns::search_named(|path, netns| {
        let inside = Rc::new(Netlink::open_in(netns)?);
        let links = inside.links()?.into_iter();
        let marked = links.filter_map(|link| Some((OwnerMark::of_network(&link, network)?, link)));
        let invalid = marked.filter(|(mark, _)| !valid.contains(&mark.alias));
        let stale = invalid.map(|(mark, link)| Stale {
            path: path.to_owned(),
            inside: Rc::clone(&inside),
            link,
            mark,
        });
        Ok(stale.collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_are_known_by_their_marks() {
        let attachments = ["c1", "c2"].map(|id| Attachment::new(id, "lan", "eth0").unwrap());
        let expected = ["leasehold:eth0/c1/lan", "leasehold:eth0/c2/lan"];
        assert_eq!(
            aliases(&attachments.into()),
            expected.map(ToOwned::to_owned).into()
        );
    }
}
