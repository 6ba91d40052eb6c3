//! Marks in the kernel by which leasehold recognises its own objects: interfaces, routes and rules.
//!
//! ```text
//! RTM_NEWLINK, group 2384762113 ─ IPAM, addresses, routes, result on stdout ─▶ RTM_SETLINK, group 0,
//!                                                                              alias leasehold:eth0/c1/lan
//! ```
//!
//! The kernel takes a group together with the rest of a new link, but not an alias. So an interface
//! bears its attachment's group from the first moment, and there is no window in which an
//! unfinished one could be mistaken for another program's. What a killed ADD leaves behind is in
//! the attachment's group, and the next ADD replaces it. A finished interface has the alias, by
//! which DEL and GC recognise it, and is in the default group, so that it does not disturb users of
//! groups.
//!
//! Interfaces that the Go plugin created have neither alias nor group.

use std::hash::{DefaultHasher, Hash, Hasher};

use cni::Attachment;
use linknet::{Link, Protocol};

/// The `rtm_protocol` of routes and rules that do not disappear with an attachment's interface. No
/// other program in iproute2's rt_protos has this number.
pub const PROTOCOL: Protocol = Protocol(108);

/// The mark of one attachment's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerMark {
    /// The alias of a finished interface.
    pub alias: String,
    /// The group of an unfinished one; never 0, the default group.
    pub group: u32,
}

/// How every alias begins.
const PREFIX: &str = "leasehold:";

/// The longest alias in octets (`IFALIASZ` of linux/if.h, less the NUL).
const MAX_ALIAS_LEN: usize = 255;

impl OwnerMark {
    /// The mark of an attachment.
    pub fn new(attachment: &Attachment) -> OwnerMark {
        let (ifname, container_id) = (attachment.ifname(), attachment.container_id());
        // None of the three can hold a slash. The network is last because the end may be cut off.
        let mut alias = format!("{PREFIX}{ifname}/{container_id}/{}", attachment.network());
        // A retried ADD must compute the same group as the ADD that was killed, and that is all.
        let mut hasher = DefaultHasher::new();
        alias.hash(&mut hasher);
        let group = (hasher.finish() as u32).max(1);
        alias.truncate(MAX_ALIAS_LEN);
        OwnerMark { alias, group }
    }

    /// Whether an ADD of this attachment has created this link and not finished it. The link may
    /// still have a temporary name.
    pub fn is_unfinished(&self, link: &Link) -> bool {
        is_macvlan(link) && link.group == self.group
    }

    /// Whether an ADD of this attachment has created and finished this link.
    pub fn is_finished(&self, link: &Link) -> bool {
        is_macvlan(link) && link.alias.as_deref() == Some(&self.alias)
    }

    /// Whether the link bears the mark of any attachment.
    pub fn is_on(link: &Link) -> bool {
        link.alias
            .as_deref()
            .is_some_and(|alias| alias.starts_with(PREFIX))
    }

    /// The attachment that the link belongs to, if it is one to this network.
    pub fn attachment_of(link: &Link, network: &str) -> Option<Attachment> {
        let alias = link.alias.as_deref()?;
        let (ifname, rest) = alias.strip_prefix(PREFIX)?.split_once('/')?;
        let (container_id, _) = rest.split_once('/')?;
        let attachment = Attachment::new(container_id, network, ifname).ok()?;
        OwnerMark::new(&attachment)
            .is_finished(link)
            .then_some(attachment)
    }
}

/// Whether the link is a macvlan, whichever program created it.
pub fn is_macvlan(link: &Link) -> bool {
    link.kind.as_deref() == Some("macvlan")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(ifname: &str, container_id: &str, network: &str) -> Attachment {
        Attachment::new(container_id, network, ifname).unwrap()
    }

    fn mark(ifname: &str, container_id: &str, network: &str) -> OwnerMark {
        OwnerMark::new(&attachment(ifname, container_id, network))
    }

    fn macvlan(alias: &str) -> Link {
        Link {
            kind: Some("macvlan".to_owned()),
            alias: Some(alias.to_owned()),
            ..Link::default()
        }
    }

    #[test]
    fn the_alias_names_interface_container_and_network() {
        let mark_of_eth0 = mark("eth0", "c1", "lan");
        assert_eq!(mark_of_eth0.alias, "leasehold:eth0/c1/lan");
        assert_ne!(mark_of_eth0.group, mark("eth1", "c1", "lan").group);
    }

    #[test]
    fn a_link_shows_its_attachment_to_its_own_network_only() {
        let link = macvlan("leasehold:eth0/c1/lan");
        assert_eq!(
            OwnerMark::attachment_of(&link, "lan"),
            Some(attachment("eth0", "c1", "lan"))
        );
        assert_eq!(OwnerMark::attachment_of(&link, "la"), None);
        assert_eq!(OwnerMark::attachment_of(&link, "lan2"), None);
    }

    #[test]
    fn an_alias_that_had_to_be_cut_is_still_recognised() {
        let (id, network) = ("c".repeat(64), "n".repeat(300));
        let cut = mark("eth0", &id, &network);
        assert_eq!(cut.alias.len(), MAX_ALIAS_LEN);
        let link = macvlan(&cut.alias);
        assert!(cut.is_finished(&link));
        assert_eq!(
            OwnerMark::attachment_of(&link, &network),
            Some(attachment("eth0", &id, &network))
        );
        // Where the container's ID alone is too long, the link shows nothing, so nothing removes
        // it.
        let link = macvlan(&mark("eth0", &"c".repeat(300), "lan").alias);
        assert_eq!(OwnerMark::attachment_of(&link, "lan"), None);
    }

    #[test]
    fn only_a_macvlan_can_belong_to_an_attachment() {
        let mark = mark("eth0", "c1", "lan");
        let ours = Link {
            group: mark.group,
            ..macvlan(&mark.alias)
        };
        assert!(mark.is_finished(&ours) && mark.is_unfinished(&ours) && OwnerMark::is_on(&ours));
        let veth = Link {
            kind: Some("veth".to_owned()),
            ..ours
        };
        assert!(!mark.is_finished(&veth) && !mark.is_unfinished(&veth));
    }
}
