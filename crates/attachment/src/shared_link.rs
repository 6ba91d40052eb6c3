//! Links of the host that several containers share: created when the first needs one, removed with
//! the last.
//!
//! Only the kernel shows who uses such a link, so there is no record that could be lost. Checking
//! and acting happen under the [`HostLock`](crate::HostLock).

use linknet::{Link, Netlink, Result};

use crate::ownership::is_macvlan;

/// The kinds of links that containers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedLink {
    /// A VLAN that macvlans sit on.
    Vlan,
    /// The host's own macvlan, through which it reaches containers on the same parent.
    Shim,
}

impl SharedLink {
    /// The group of a link from its creation until it is finished: unlike an alias, the kernel
    /// takes it together with everything else.
    pub const UNFINISHED_GROUP: u32 = u32::from_be_bytes(*b"lhld");

    /// Whether leasehold created the link as one of this kind. An administrator who wants to keep
    /// the link removes its alias.
    pub fn is(self, link: &Link) -> bool {
        self.is_of_kind(link)
            && (link.group == SharedLink::UNFINISHED_GROUP
                || link.alias.as_deref() == Some(self.alias()))
    }

    /// Marks the link as finished.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn finish(self, netlink: &Netlink, link: &Link) -> Result<()> {
        netlink.set_alias_and_group(link.index, self.alias(), 0)
    }

    /// The alias, as `ip link` shows it.
    fn alias(self) -> &'static str {
        match self {
            SharedLink::Vlan => "leasehold:vlan",
            SharedLink::Shim => "leasehold:host",
        }
    }

    fn is_of_kind(self, link: &Link) -> bool {
        match self {
            SharedLink::Vlan => link.kind.as_deref() == Some("vlan"),
            SharedLink::Shim => is_macvlan(link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_link_is_recognised_by_kind_and_mark() {
        let link = |kind: &str, alias: Option<&str>, group| Link {
            kind: Some(kind.to_owned()),
            alias: alias.map(str::to_owned),
            group,
            ..Link::default()
        };
        let vlan = link("vlan", Some("leasehold:vlan"), 0);
        assert!(SharedLink::Vlan.is(&vlan) && !SharedLink::Shim.is(&vlan));
        assert!(SharedLink::Shim.is(&link("macvlan", Some("leasehold:host"), 0)));
        let unfinished = link("macvlan", None, SharedLink::UNFINISHED_GROUP);
        assert!(SharedLink::Shim.is(&unfinished), "its maker was killed");
        for other in [
            link("vlan", None, 0),
            link("vlan", Some("uplink"), 0),
            link("macvlan", Some("leasehold:eth0/c1/lan"), 0),
            link(
                "dummy",
                Some("leasehold:host"),
                SharedLink::UNFINISHED_GROUP,
            ),
        ] {
            assert!(
                !SharedLink::Vlan.is(&other) && !SharedLink::Shim.is(&other),
                "{other:?}"
            );
        }
    }
}
