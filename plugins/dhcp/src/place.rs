//! Where a lease lives: an interface in a container's netns, known well enough to never mistake
//! another for it.

use std::path::{Path, PathBuf};

use cni::{Error, code};
use linknet::{Link, Mac, Netlink, Netns, NetnsError, NetnsId};
use serde::{Deserialize, Serialize};

/// An interface in a container. The netns is known by device and inode, the interface by index and
/// MAC, so that a name used again is never taken for the old one. It holds nothing open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Where the netns was found, as the daemon sees it.
    pub(crate) path: PathBuf,
    #[serde(with = "WrittenNetnsId")]
    netns: NetnsId,
    /// Name of the interface when it was found.
    pub(crate) ifname: String,
    /// Index of the interface in its netns.
    pub(crate) ifindex: u32,
    /// Its hardware address.
    #[serde(with = "mac")]
    pub(crate) mac: Mac,
}

/// Why a place cannot be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Gone {
    /// No netns at its path, or another one.
    #[error("its network namespace is gone")]
    Netns,
    /// No such interface in it, or another one.
    #[error("its interface is gone")]
    Interface,
    /// It may well be there: the system did not let us look, for want of descriptors, memory or a
    /// right.
    #[error("its network namespace cannot be looked into at present")]
    Unclear,
}

impl Gone {
    /// Whether the container, or its interface, is no more; not so where we only failed to find
    /// out.
    pub(crate) fn is_certain(self) -> bool {
        !matches!(self, Gone::Unclear)
    }

    /// Something failed on the way: said here, since it is not what becomes of the container.
    pub(crate) fn unclear(error: &dyn std::error::Error) -> Gone {
        tracing::warn!(%error, "a container cannot be looked into");
        Gone::Unclear
    }
}

impl Place {
    /// Finds the interface in the container's netns, and sets it up where it is down.
    ///
    /// # Errors
    /// Naming what is missing.
    pub(crate) fn find(netns: &Netns, path: &Path, ifname: &str) -> Result<Place, Error> {
        let failed = |error: linknet::Error| {
            Error::new(code::IO_FAILURE, format!("in {}: {error}", path.display()))
        };
        let id = netns.id().map_err(|error| {
            Error::new(code::IO_FAILURE, format!("{}: {error}", path.display()))
        })?;
        let netlink = Netlink::open_in(netns).map_err(failed)?;
        let missing = |what: &str| {
            Error::new(
                code::INVALID_ENVIRONMENT,
                format!("CNI_IFNAME: {ifname} in {} {what}", path.display()),
            )
        };
        let Some(link) = netlink.link(ifname).map_err(failed)? else {
            return Err(missing("does not exist")
                .details("the plugin that calls the dhcp plugin makes it first"));
        };
        let Some(mac) = link.mac else {
            return Err(missing("is no Ethernet interface"));
        };
        if !link.up {
            netlink.set_up(link.index).map_err(failed)?;
        }
        Ok(Place {
            path: path.to_owned(),
            netns: id,
            ifname: ifname.to_owned(),
            ifindex: link.index,
            mac,
        })
    }

    /// Opens the netns again by its path, if it and the interface are still those of the lease.
    pub(crate) fn reopen(&self) -> Result<(Netns, Link), Gone> {
        let netns = Netns::open(&self.path).map_err(|error| match error {
            NetnsError::NotFound(_) | NetnsError::NotNetns(_) => Gone::Netns,
            NetnsError::Io { .. } => Gone::unclear(&error),
        })?;
        if netns.id().map_err(|error| Gone::unclear(&error))? != self.netns {
            return Err(Gone::Netns);
        }
        let link = self.look_at(&netns)?;
        Ok((netns, link))
    }

    /// The interface, if it is still the lease's, in its own netns.
    pub(crate) fn look_at(&self, netns: &Netns) -> Result<Link, Gone> {
        let link = Netlink::open_in(netns).and_then(|netlink| netlink.link_by_index(self.ifindex));
        match link {
            Ok(Some(link)) if link.mac == Some(self.mac) => Ok(link),
            Ok(_) => Err(Gone::Interface),
            Err(error) => Err(Gone::unclear(&error)),
        }
    }
}

/// [`NetnsId`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "NetnsId")]
struct WrittenNetnsId {
    dev: u64,
    ino: u64,
}

/// A hardware address as text.
mod mac {
    use linknet::Mac;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(mac: &Mac, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The same where there may be none.
pub(crate) mod optional_mac {
    use linknet::Mac;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        mac: &Option<Mac>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match mac {
            Some(mac) => serializer.collect_str(mac),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Mac>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(de::Error::custom))
            .transpose()
    }
}
