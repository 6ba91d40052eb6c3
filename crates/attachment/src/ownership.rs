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

use std::array;

use cni::Attachment;
use linknet::{Link, Protocol};
use sha2::{Digest, Sha256};

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

/// The group of a finished interface that has a guard, so that DEL removes the guard whatever its
/// configuration says by then.
pub const GUARDED_GROUP: u32 = 0x6c68_6775;

/// How every alias begins.
const PREFIX: &str = "leasehold:";

/// The longest alias in octets (`IFALIASZ` of linux/if.h, less the NUL that it is stored with and
/// the one that it is sent with).
const MAX_ALIAS_LEN: usize = 254;

/// What comes before the digest of a name in place of the name. No name of CNI's can contain it.
const DIGEST_SIGN: char = '#';

impl OwnerMark {
    /// The mark of an attachment.
    pub fn new(attachment: &Attachment) -> OwnerMark {
        let (ifname, container_id) = (attachment.ifname(), attachment.container_id());
        let network = attachment.network();
        // None of the three can hold a slash. Long names become digests, first the network's:
        // people look for the container's.
        let candidates = [
            (container_id.to_owned(), network.to_owned()),
            (container_id.to_owned(), digest(network)),
            (digest(container_id), digest(network)),
        ];
        let aliases = candidates.map(|(id, network)| format!("{PREFIX}{ifname}/{id}/{network}"));
        let [.., shortest] = &aliases;
        let fitting = aliases.iter().find(|alias| alias.len() <= MAX_ALIAS_LEN);
        OwnerMark::from_alias(fitting.unwrap_or(shortest))
    }

    fn from_alias(alias: &str) -> OwnerMark {
        // It must never change: a retried ADD looks for what another version's ADD left behind.
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(format!("leasehold group {alias}")).into();
        OwnerMark {
            alias: alias.to_owned(),
            group: u32::from_be_bytes([a, b, c, d]).max(1),
        }
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

    /// The mark on a finished link, if it is one of an attachment to this network.
    pub fn of_network(link: &Link, network: &str) -> Option<OwnerMark> {
        OwnerMark::from_alias_in(link.alias.as_deref().filter(|_| is_macvlan(link))?, network)
    }

    /// The mark with this alias, if it is one of an attachment to this network.
    pub(crate) fn from_alias_in(alias: &str, network: &str) -> Option<OwnerMark> {
        let mark = OwnerMark::from_alias(alias);
        let (_, named) = mark.container_and_network()?;
        (named == network || named == digest(network)).then_some(mark)
    }

    /// The attachment that the mark on a finished link names; `None` without a mark, or if it has the
    /// digest of a name.
    pub fn attachment(link: &Link) -> Option<Attachment> {
        let mark = OwnerMark::from_alias(link.alias.as_deref().filter(|_| is_macvlan(link))?);
        let (ifname, _) = mark.alias.strip_prefix(PREFIX)?.split_once('/')?;
        let (container_id, network) = mark.container_and_network()?;
        Attachment::new(container_id, network, ifname).ok()
    }

    /// The container's ID; of a very long one the digest, with a `#` before it.
    pub fn container(&self) -> &str {
        self.container_and_network().unwrap_or_default().0
    }

    fn container_and_network(&self) -> Option<(&str, &str)> {
        let (_, rest) = self.alias.strip_prefix(PREFIX)?.split_once('/')?;
        rest.split_once('/')
    }
}

/// 32 hexadecimal digits in place of a name.
fn digest(name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let half = array::from_fn(|place| digest[place]);
    format!("{DIGEST_SIGN}{:032x}", u128::from_be_bytes(half))
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
    fn the_group_of_an_attachment_never_changes() {
        assert_eq!(mark("eth0", "c1", "lan").group, GROUP);
    }

    /// Of eth0 of c1 in lan.
    const GROUP: u32 = 1_397_828_781;

    #[test]
    fn a_link_shows_its_mark_to_its_own_network_only() {
        let link = macvlan("leasehold:eth0/c1/lan");
        let found = OwnerMark::of_network(&link, "lan");
        assert_eq!(found.as_ref(), Some(&mark("eth0", "c1", "lan")));
        assert_eq!(found.as_ref().map(OwnerMark::container), Some("c1"));
        assert_eq!(
            OwnerMark::attachment(&link),
            Some(attachment("eth0", "c1", "lan"))
        );
        for (alias, network) in [
            ("leasehold:eth0/c1/lan", "la"),
            ("leasehold:eth0/c1/lan", "lan2"),
            ("leasehold:eth0/lan", "lan"),
            ("leasehold:host", "host"),
            ("uplink", "uplink"),
        ] {
            assert_eq!(OwnerMark::of_network(&macvlan(alias), network), None);
        }
    }

    #[test]
    fn names_that_do_not_fit_into_an_alias_become_digests() {
        let digits = |alias: &str| alias.matches('#').count();
        for (id_len, network_len, digests) in [
            (64, 64, 0),
            (64, 174, 0),
            (64, 175, 1),
            (64, 300, 1),
            (205, 33, 0),
            (205, 300, 1),
            (206, 300, 2),
            (255, 255, 2),
            (1000, 1000, 2),
        ] {
            let (id, network) = ("c".repeat(id_len), "n".repeat(network_len));
            let ours = mark("eth0", &id, &network);
            assert!(ours.alias.len() <= MAX_ALIAS_LEN, "{ours:?}");
            assert_eq!(digits(&ours.alias), digests, "{ours:?}");
            let link = macvlan(&ours.alias);
            assert_eq!(OwnerMark::attachment(&link).is_some(), digests == 0);
            assert!(ours.is_finished(&link));
            assert_eq!(OwnerMark::of_network(&link, &network), Some(ours.clone()));
            assert_eq!(OwnerMark::of_network(&link, &"n".repeat(299)), None);
            assert_ne!(ours, mark("eth0", &format!("{id}c"), &network));
            assert_ne!(ours, mark("eth0", &id, &format!("{network}n")));
        }
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
        assert!(!OwnerMark::is_on(&Link::default()) && !OwnerMark::is_on(&macvlan("uplink")));
    }
}
