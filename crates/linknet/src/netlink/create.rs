//! Creating macvlans and VLANs, and asking whether this kernel can.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use libc::{RTM_NEWLINK, RTM_SETLINK};
use nix::errno::Errno;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::LinkMessage;

use super::link::Link;
use super::macvlan::{self, NewMacvlan};
use super::socket::{Change, Netlink};
use super::vlan::{self, NewVlan};
use crate::error::{Error, Result};
use crate::netns::Netns;

impl Netlink {
    /// Creates a macvlan in `netns`, on a parent in this socket's namespace, and reads it back
    /// through `inside`, a socket opened in `netns`.
    ///
    /// A single message creates it under its final name, with everything that it asks for. Kernels
    /// before 6.15 refuse a name that is also taken in the parent's namespace, as `eth0` often is.
    /// On those the link is created under a temporary name and renamed. The temporary name is
    /// derived from the link's group, if it has one.
    ///
    /// # Errors
    /// `is_exists` if the name is taken in `netns`, and whatever the driver objects to. A failure
    /// leaves no link behind.
    pub fn add_macvlan(
        &self,
        new: &NewMacvlan<'_>,
        netns: &Netns,
        inside: &Netlink,
    ) -> Result<Link> {
        let what = || format!("create macvlan {} on link {}", new.name, new.parent);
        match self.add_link(&what, &new.message(new.name, new.up, netns)) {
            Err(error) if error.is_exists() && inside.link(new.name)?.is_none() => {
                self.add_macvlan_renamed(&what, new, netns, inside)?;
            }
            end => end?,
        }
        inside.read_back(&what, new.name)
    }

    /// Creates a macvlan under a temporary name, and renames it.
    fn add_macvlan_renamed(
        &self,
        what: &dyn Fn() -> String,
        new: &NewMacvlan<'_>,
        netns: &Netns,
        inside: &Netlink,
    ) -> Result<()> {
        let temporary = match new.group {
            0 => format!(
                "mv{:012x}",
                RandomState::new().build_hasher().finish() >> 16
            ),
            group => format!("mv{group:08x}"),
        };
        self.add_link(what, &new.message(&temporary, false, netns))?;
        let index = inside.read_back(what, &temporary)?.index;

        let mut rename = LinkUnspec::new_with_index(index).name(new.name);
        if new.up {
            rename = rename.up();
        }
        inside
            .change(what, RTM_SETLINK, Change::Existing, &rename.build())
            .inspect_err(|_| {
                // The refusal is the error to report. Should this fail too, a link is left behind
                // under the temporary name, where it blocks nothing.
                let _ = inside.delete_link(index);
            })
    }

    /// Creates a VLAN in this socket's namespace, with its parent's MAC and MTU, and reads it back.
    ///
    /// # Errors
    /// `is_exists` if the name is taken, or the parent has a VLAN with that identifier;
    /// `is_unsupported` if this kernel has no VLANs. A failure leaves no link behind.
    pub fn add_vlan(&self, new: &NewVlan<'_>) -> Result<Link> {
        let what = || {
            format!(
                "create VLAN {} ({}) on link {}",
                new.name, new.id, new.parent
            )
        };
        self.add_link(&what, &new.message())?;
        self.read_back(&what, new.name)
    }

    /// Whether this kernel has the macvlan driver. Asking loads its module, if there is one.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn has_macvlan(&self) -> Result<bool> {
        self.has_driver("macvlan", &macvlan::invalid_message())
    }

    /// Whether this kernel has the VLAN driver. Asking loads its module, if there is one.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn has_vlan(&self) -> Result<bool> {
        self.has_driver("VLAN", &vlan::invalid_message())
    }

    /// Asks for a link that the driver, if there is one, refuses (EINVAL) before it exists.
    fn has_driver(&self, name: &str, invalid: &LinkMessage) -> Result<bool> {
        match self.add_link(&|| format!("ask for the {name} driver"), invalid) {
            Err(error) if error.is_unsupported() => Ok(false),
            Err(error) if error.is_invalid() => Ok(true),
            end => end.map(|()| true),
        }
    }

    fn add_link(&self, what: &dyn Fn() -> String, message: &LinkMessage) -> Result<()> {
        self.change(what, RTM_NEWLINK, Change::Create, message)
    }

    /// The link that was created as `name`. Its parent or namespace may have gone since.
    fn read_back(&self, what: &dyn Fn() -> String, name: &str) -> Result<Link> {
        self.link(name)?.ok_or_else(|| {
            let text = "it disappeared at once".to_owned();
            Error::kernel(what(), Errno::ENODEV, Some(text))
        })
    }
}
