//! How the plugin knows its interfaces again.
//!
//! ```text
//! RTM_NEWLINK, group 2384762113 ── IPAM, addresses, routes, result on stdout ──▶ RTM_SETLINK, group 0,
//!                                                                                alias leasehold:eth0/c1/lan
//! ```
//!
//! The kernel takes a group together with the rest of a new link, but not an alias: so there is no
//! moment at which an unfinished interface could not be told from somebody else's. What a killed
//! ADD has left is in the attachment's group, and the next ADD replaces it. What is finished has
//! the alias, by which DEL and GC know it, and no group: to everybody who works with groups it is
//! like any other interface.
//!
//! Interfaces of the Go plugin have neither.

use std::hash::{DefaultHasher, Hash, Hasher};

use cni::{Attachment, Request};
use linknet::Link;

/// What stands for one attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Of a finished interface.
    pub(crate) alias: String,
    /// Of an unfinished one; never 0, which is everybody's.
    pub(crate) group: u32,
}

/// How every alias begins.
const PREFIX: &str = "leasehold:";

/// The longest alias (`IFALIASZ` of linux/if.h, less the NUL).
const LONGEST: usize = 255;

impl Mark {
    /// The mark of this request's attachment.
    pub(crate) fn of(request: &Request) -> Mark {
        Mark::new(&request.ifname, &request.container_id, &request.config.name)
    }

    /// The mark of the attachment of this interface of this container to this network.
    pub(crate) fn new(ifname: &str, container_id: &str, network: &str) -> Mark {
        // None of the three can hold a slash. What comes first is never cut off.
        let mut alias = format!("{PREFIX}{ifname}/{container_id}/{network}");
        // It need only be the same for the ADD that died and the one that is tried again.
        let mut hasher = DefaultHasher::new();
        alias.hash(&mut hasher);
        let group = (hasher.finish() as u32).max(1);
        alias.truncate(LONGEST);
        Mark { alias, group }
    }

    /// Whether an ADD of this attachment has begun this link and not finished it. It may have
    /// another name still.
    pub(crate) fn is_unfinished(&self, link: &Link) -> bool {
        is_macvlan(link) && link.group == self.group
    }

    /// Whether an ADD of this attachment has made this link.
    pub(crate) fn is_finished(&self, link: &Link) -> bool {
        is_macvlan(link) && link.alias.as_deref() == Some(&self.alias)
    }
}

/// Whether the link bears a mark, of whichever attachment.
pub(crate) fn is_marked(link: &Link) -> bool {
    link.alias
        .as_deref()
        .is_some_and(|alias| alias.starts_with(PREFIX))
}

/// The attachment that the link belongs to, if it is one of this network.
pub(crate) fn attachment(link: &Link, network: &str) -> Option<Attachment> {
    let alias = link.alias.as_deref()?;
    let (ifname, rest) = alias.strip_prefix(PREFIX)?.split_once('/')?;
    let (container_id, _) = rest.split_once('/')?;
    Mark::new(ifname, container_id, network)
        .is_finished(link)
        .then(|| Attachment {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        })
}

pub(crate) fn is_macvlan(link: &Link) -> bool {
    link.kind.as_deref() == Some("macvlan")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::macvlan;

    #[test]
    fn the_alias_reads_as_interface_container_and_network() {
        let mark = Mark::new("eth0", "c1", "lan");
        assert_eq!(mark.alias, "leasehold:eth0/c1/lan");
        assert_ne!(mark.group, Mark::new("eth1", "c1", "lan").group);
    }

    #[test]
    fn a_link_tells_its_attachment_to_its_own_network_only() {
        let link = Link {
            alias: Some(Mark::new("eth0", "c1", "lan").alias),
            ..macvlan("eth0")
        };
        let attachment =
            |network| attachment(&link, network).map(|it| (it.ifname, it.container_id));
        assert_eq!(
            attachment("lan"),
            Some(("eth0".to_owned(), "c1".to_owned()))
        );
        assert_eq!(attachment("la"), None);
        assert_eq!(attachment("lan2"), None);
    }

    #[test]
    fn a_name_too_long_for_an_alias_is_cut_and_known_all_the_same() {
        let (id, network) = ("c".repeat(64), "n".repeat(300));
        let mark = Mark::new("eth0", &id, &network);
        assert_eq!(mark.alias.len(), LONGEST);
        let link = Link {
            alias: Some(mark.alias.clone()),
            ..macvlan("eth0")
        };
        assert!(mark.is_finished(&link));
        assert_eq!(
            attachment(&link, &network).map(|it| it.container_id),
            Some(id)
        );
        // Of a container whose ID alone is too long, nothing is said, and so nothing is removed.
        let endless = Mark::new("eth0", &"c".repeat(300), "lan");
        let link = Link {
            alias: Some(endless.alias),
            ..macvlan("eth0")
        };
        assert_eq!(attachment(&link, "lan"), None);
    }

    #[test]
    fn only_a_macvlan_is_ever_ours() {
        let mark = Mark::new("eth0", "c1", "lan");
        let ours = Link {
            group: mark.group,
            alias: Some(mark.alias.clone()),
            ..macvlan("eth0")
        };
        assert!(mark.is_finished(&ours) && mark.is_unfinished(&ours) && is_marked(&ours));
        let veth = Link {
            kind: Some("veth".to_owned()),
            ..ours
        };
        assert!(!mark.is_finished(&veth) && !mark.is_unfinished(&veth));
    }
}
