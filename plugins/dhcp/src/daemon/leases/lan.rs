//! Which LAN an interface is on: a server knows a client of one LAN by its identifier, and nothing
//! of the clients of another.

use linknet::{Link, Netlink, Netns};

/// The LAN of an interface, as far as its parent tells. Two parents on one LAN count as two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lan {
    /// The parent's index in its netns.
    parent: u32,
    /// Whether that netns is this process's own, which is usually the host's.
    is_here: bool,
    /// The VLAN, if the interface is one itself.
    vlan: Option<u16>,
}

impl Lan {
    /// The LAN of a link in this netns; `None` if its parent does not tell. The peer of a veth is no
    /// parent: each container has its own, and a bridge joins them.
    pub(super) fn of(netns: &Netns, link: &Link) -> Option<Lan> {
        let kind = link.kind.as_deref()?;
        if !["macvlan", "macvtap", "ipvlan", "vlan"].contains(&kind) {
            return None;
        }
        link.parent_netnsid?;
        let here = Netns::current().ok()?;
        let here = Netlink::open_in(netns)
            .and_then(|inside| inside.nsid(&here))
            .ok()?;
        Some(Lan {
            parent: link.parent?,
            is_here: here == link.parent_netnsid,
            vlan: link.vlan.as_ref().map(|vlan| vlan.id),
        })
    }

    /// Whether a server may serve both, because they are the same, or one of them is unknown.
    pub(super) fn may_be_same(one: Option<Lan>, other: Option<Lan>) -> bool {
        one.zip(other).is_none_or(|(one, other)| one == other)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The LAN of a parent on the host.
    pub(in crate::daemon::leases) fn lan_of_parent(parent: u32) -> Lan {
        Lan {
            parent,
            is_here: true,
            vlan: None,
        }
    }

    #[test]
    fn a_lan_that_is_unknown_may_be_any_other() {
        let lan = |parent, is_here, vlan| {
            Some(Lan {
                parent,
                is_here,
                vlan,
            })
        };
        let one = lan(2, true, None);
        assert!(Lan::may_be_same(one, one));
        assert!(Lan::may_be_same(one, None) && Lan::may_be_same(None, one));
        for other in [
            lan(3, true, None),
            lan(2, false, None),
            lan(2, true, Some(5)),
        ] {
            assert!(!Lan::may_be_same(one, other), "{other:?}");
        }
    }
}
