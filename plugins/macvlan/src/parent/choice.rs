//! The link that a macvlan sits on.

use attachment::{HostLock, KernelError};
use cni::Error;
use linknet::{Link, Netlink};

use super::vlan::Vlan;

/// The link on which to create a macvlan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// A device that exists.
    Device(Link),
    /// A VLAN, which is created if it does not exist; or one that leasehold created, which may be
    /// removed at any moment.
    Vlan(Vlan),
}

/// A parent that cannot disappear while this exists.
#[derive(Debug)]
pub(crate) struct LockedParent {
    pub(crate) link: Link,
    _lock: Option<HostLock>,
}

impl Parent {
    /// The device on the LAN: of a VLAN, the one that carries it.
    pub fn base(&self) -> &Link {
        match self {
            Parent::Device(link) | Parent::Vlan(Vlan { base: link, .. }) => link,
        }
    }

    /// The link itself, created if necessary, and kept from being removed until there is a macvlan
    /// on it.
    ///
    /// # Errors
    /// As for [`Vlan::ensure`]; 11 when another process holds the lock.
    pub(crate) fn lock(&self, netlink: &Netlink) -> Result<LockedParent, Error> {
        match self {
            Parent::Device(link) => Ok(LockedParent {
                link: link.clone(),
                _lock: None,
            }),
            Parent::Vlan(vlan) => {
                let lock = HostLock::acquire().or_kernel_error()?;
                Ok(LockedParent {
                    link: vlan.ensure(netlink, &lock)?,
                    _lock: Some(lock),
                })
            }
        }
    }
}
