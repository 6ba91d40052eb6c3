//! An interface in a container, identified so that it is never mistaken for another.

use std::path::{Path, PathBuf};

use attachment::OwnerMark;
use cni::{Attachment, Error, code};
use linknet::{Link, Mac, Netlink, Netns, NetnsError, NetnsId};
use serde::{Deserialize, Serialize};

/// An interface in a container. The netns is identified by device and inode, the interface by its
/// index, so that another one with the same name is not mistaken for it. Nothing is kept open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceRef {
    /// The path of the netns, as the daemon sees it.
    pub(crate) path: PathBuf,
    netns: NetnsId,
    /// The name that the interface had at ADD.
    pub(crate) ifname: String,
    /// The interface's index in its netns.
    pub(crate) ifindex: u32,
    /// The MAC with which servers know the interface. It may have got another one since.
    pub mac: Mac,
}

/// Why an interface cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    /// There is no netns at its path.
    #[error("its network namespace is gone")]
    NetnsGone,
    /// There is something else at its path. The netns may live on.
    #[error("there is something else at the path of its network namespace")]
    NetnsReplaced,
    /// There is no such interface in the netns, or another one.
    #[error("its interface is gone")]
    InterfaceGone,
    /// The kernel refused to look it up, because descriptors, memory or a capability are missing.
    #[error("its network namespace cannot be inspected at the moment")]
    Temporary,
}

impl Unreachable {
    /// Whether the container or its interface is gone, or at least not where it was.
    pub(crate) fn is_gone(self) -> bool {
        !matches!(self, Unreachable::Temporary)
    }

    /// A failure that says nothing about the container. It is logged here, since callers only need
    /// to know that there was one.
    pub(crate) fn temporary(error: impl std::error::Error) -> Unreachable {
        tracing::warn!(%error, "cannot inspect a container");
        Unreachable::Temporary
    }
}

impl InterfaceRef {
    /// Finds the interface in the container's netns, and sets it up if it is down.
    ///
    /// # Errors
    /// `INVALID_ENVIRONMENT` (4) if there is no such interface, or none with a MAC; `IO_FAILURE`
    /// (5) if the netns cannot be used.
    pub(crate) fn find(
        netns: &Netns,
        path: &Path,
        ifname: &str,
    ) -> Result<(InterfaceRef, Link), Error> {
        let failed = |error: linknet::Error| {
            let code = match error.is_exhausted() {
                true => code::TRY_AGAIN_LATER,
                false => code::IO_FAILURE,
            };
            Error::new(code, format!("in {}: {error}", path.display()))
        };
        let id = netns.id().map_err(|error| {
            Error::new(code::IO_FAILURE, format!("{}: {error}", path.display()))
        })?;
        let netlink = Netlink::open_in(netns).map_err(failed)?;
        let unusable = |problem: &str| {
            let what = format!("CNI_IFNAME: {ifname} in {} {problem}", path.display());
            Error::new(code::INVALID_ENVIRONMENT, what)
        };
        let Some(link) = netlink.link(ifname).map_err(failed)? else {
            return Err(unusable("does not exist")
                .details("the plugin that calls the dhcp plugin must create it first"));
        };
        let Some(mac) = link.mac else {
            return Err(unusable("is not an Ethernet interface"));
        };
        if !link.up {
            netlink.set_up(link.index).map_err(failed)?;
        }
        let interface = InterfaceRef {
            path: path.to_owned(),
            netns: id,
            ifname: ifname.to_owned(),
            ifindex: link.index,
            mac,
        };
        Ok((interface, link))
    }

    /// The interface with the MAC that it has now.
    pub(crate) fn with_mac(self, mac: Mac) -> InterfaceRef {
        InterfaceRef { mac, ..self }
    }

    /// Whether both are the same interface, whatever its MAC.
    pub(crate) fn is_same(&self, other: &InterfaceRef) -> bool {
        *self == other.clone().with_mac(self.mac)
    }

    /// Opens the netns by its path, if it is still the interface's.
    ///
    /// # Errors
    /// If there is none at that path, or another one.
    pub(crate) fn open_netns(&self) -> Result<Netns, Unreachable> {
        let netns = Netns::open(&self.path).map_err(|error| match error {
            NetnsError::NotFound(_) => Unreachable::NetnsGone,
            NetnsError::NotNetns(_) => Unreachable::NetnsReplaced,
            NetnsError::Io { .. } => Unreachable::temporary(error),
        })?;
        match netns.id() {
            Ok(id) if id == self.netns => Ok(netns),
            Ok(_) => Err(Unreachable::NetnsReplaced),
            Err(error) => Err(Unreachable::temporary(error)),
        }
    }

    /// Whether this is the interface's netns.
    pub(crate) fn is_in(&self, netns: &Netns) -> bool {
        netns.id().is_ok_and(|id| id == self.netns)
    }

    /// Looks the interface of this attachment up in its netns. `pinned` is the netns, if the daemon
    /// keeps it open because it cannot find it by its path.
    ///
    /// # Errors
    /// If the netns or the interface is gone, or cannot be inspected.
    pub(crate) fn lookup(
        &self,
        attachment: &Attachment,
        pinned: Option<&Netns>,
    ) -> Result<(Netns, Link), Unreachable> {
        let netns = match pinned {
            Some(netns) => netns.try_clone().map_err(Unreachable::temporary)?,
            None => self.open_netns()?,
        };
        let link = Netlink::open_in(&netns).and_then(|netlink| netlink.link_by_index(self.ifindex));
        match link {
            Ok(Some(link)) if self.is_link(attachment, &link) => Ok((netns, link)),
            Ok(_) => Err(Unreachable::InterfaceGone),
            Err(error) => Err(Unreachable::temporary(error)),
        }
    }

    /// Whether the link with the interface's index is the interface. Another MAC is no difference,
    /// because other programs may set one, but another attachment's mark is.
    fn is_link(&self, attachment: &Attachment, link: &Link) -> bool {
        let is_anothers = OwnerMark::is_on(link) && !OwnerMark::new(attachment).is_finished(link);
        link.mac == Some(self.mac) || (link.mac.is_some() && !is_anothers)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The loopback interface of the process's own netns, with its MAC: one that is there.
    pub(crate) fn loopback() -> InterfaceRef {
        let own = Netns::current().expect("the process's own netns");
        InterfaceRef {
            path: PathBuf::from("/proc/self/ns/net"),
            netns: own.id().expect("its identity"),
            ifname: "lo".to_owned(),
            ifindex: 1,
            mac: Mac([0; 6]),
        }
    }

    #[test]
    fn an_interface_stays_the_same_with_another_mac_but_not_under_another_index() {
        let interface = crate::state::tests::record().interface;
        let renamed = interface.clone().with_mac(Mac([2, 0, 0, 0, 0, 9]));
        assert_ne!(renamed, interface);
        assert!(interface.is_same(&renamed) && renamed.is_same(&interface));
        let other = InterfaceRef {
            ifindex: interface.ifindex + 1,
            ..interface.clone()
        };
        assert!(!interface.is_same(&other));
    }

    #[test]
    fn a_netns_is_known_by_its_identity_and_not_by_its_path() {
        let own = Netns::current().expect("the process's own netns");
        let interface = loopback();
        assert!(interface.open_netns().is_ok() && interface.is_in(&own));
        let unreachable = |interface: &InterfaceRef| interface.open_netns().err();
        let replaced = InterfaceRef {
            netns: crate::state::tests::record().interface.netns,
            ..interface.clone()
        };
        assert_eq!(unreachable(&replaced), Some(Unreachable::NetnsReplaced));
        assert!(!replaced.is_in(&own));
        for (path, why) in [
            ("/nonexistent", Unreachable::NetnsGone),
            ("/dev/null", Unreachable::NetnsReplaced),
        ] {
            let path = PathBuf::from(path);
            let elsewhere = InterfaceRef {
                path,
                ..interface.clone()
            };
            assert_eq!(unreachable(&elsewhere), Some(why));
            assert!(why.is_gone());
        }
        assert!(!Unreachable::Temporary.is_gone());
    }

    #[test]
    fn an_interface_may_get_another_mac_but_not_another_owner() {
        let record = crate::state::tests::record();
        let (interface, attachment) = (&record.interface, &record.attachment);
        let other = Attachment::new("c2", "lan", "eth0").expect("valid names");
        let link = |mac: Option<Mac>, owner: Option<&Attachment>| Link {
            mac,
            alias: owner.map(|owner| OwnerMark::new(owner).alias),
            kind: Some("macvlan".to_owned()),
            macvlan: Some(linknet::Macvlan::default()),
            ..Link::default()
        };
        let own = Some(interface.mac);
        let new = Some(Mac([2, 0, 0, 0, 0, 9]));
        for (mac, owner, is_it) in [
            (own, Some(attachment), true),
            (own, None, true),
            // The mark may have been changed in the container.
            (own, Some(&other), true),
            (new, Some(attachment), true),
            (new, None, true),
            (new, Some(&other), false),
            (None, Some(attachment), false),
            (None, None, false),
        ] {
            let link = link(mac, owner);
            assert_eq!(interface.is_link(attachment, &link), is_it, "{link:?}");
        }
    }
}
