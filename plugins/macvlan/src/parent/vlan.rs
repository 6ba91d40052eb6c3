//! VLANs that macvlans sit on: made when the first container needs one, removed with the last.
//!
//! Whether a container is on a VLAN shows in no list: its interface is in another namespace. But
//! the kernel gives a device to one macvlan in mode passthru only, and only if it has no other. So
//! whoever may be the last to go makes one on the VLAN: if it gets it, nobody is there, and nobody
//! can come until both are deleted.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Error, code};
use linknet::{Link, Lock, MacvlanMode, Netlink, Netns, NewMacvlan, NewVlan, Scope, Shared};
use sha2::{Digest, Sha256};

use crate::diagnosis::also;
use crate::make::asking;
use crate::{codes, container, mark};

/// A VLAN, whether it exists yet or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vlan {
    /// The device that carries it.
    pub(crate) base: Link,
    /// Its identifier, 1 to 4094.
    pub(crate) id: u16,
}

/// What to do where there is no driver.
pub(crate) const DRIVER: &str =
    "modprobe 8021q; it may be in a package of its own, such as linux-modules-extra";

/// How long a container that is gone may keep its VLAN: its netns is torn down in the background.
const DYING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

impl Vlan {
    /// The base's name and the identifier, where `name` is in Docker's spelling: `eth1.228`.
    pub(crate) fn spelled(name: &str) -> Option<(&str, u16)> {
        let (base, id) = name.rsplit_once('.')?;
        let number: u16 = id
            .parse()
            .ok()
            .filter(|number| (1..=linknet::Vlan::MAX_ID).contains(number))?;
        (!base.is_empty() && number.to_string() == id).then_some((base, number))
    }

    /// The VLAN that a link is.
    pub(crate) fn of(netlink: &Netlink, link: &Link) -> Result<Option<Vlan>, Error> {
        let (Some(vlan), Some(base), None) = (link.vlan, link.parent, link.parent_netnsid) else {
            return Ok(None);
        };
        let base = netlink
            .link_by_index(base)
            .map_err(|error| asking(&error))?;
        Ok(base.map(|base| Vlan { base, id: vlan.id }))
    }

    /// Whether the link is this VLAN, whatever its name.
    fn is(&self, link: &Link) -> bool {
        link.vlan
            == Some(linknet::Vlan {
                id: self.id,
                protocol: linknet::Vlan::C_TAG,
            })
            && link.parent == Some(self.base.index)
            && link.parent_netnsid.is_none()
    }

    /// Its name if we make it: `eth1.228`, as everybody has it; something short where that is too
    /// long.
    fn name(&self) -> String {
        let name = format!("{}.{}", self.base.name, self.id);
        if name.len() <= Link::MAX_NAME_LEN {
            return name;
        }
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(&self.base.name).into();
        format!("lh{a:02x}{b:02x}{c:02x}{d:02x}.{}", self.id)
    }

    /// The link, if it exists.
    pub(crate) fn find(&self, netlink: &Netlink) -> Result<Option<Link>, Error> {
        let by_name = netlink.link(&self.name()).map_err(|error| asking(&error))?;
        if by_name.as_ref().is_some_and(|link| self.is(link)) {
            return Ok(by_name);
        }
        let links = netlink.links().map_err(|error| asking(&error))?;
        Ok(links.into_iter().find(|link| self.is(link)))
    }

    /// The link, made if there is none, and ready to be used if it is ours. One that an
    /// administrator made is taken as it is.
    ///
    /// # Errors
    /// 7 when a device of its name is something else, or the base carries no VLANs; 11 when the
    /// base is down.
    pub(crate) fn ensure(&self, netlink: &Netlink, _lock: &Lock) -> Result<Link, Error> {
        let Some(link) = self.find(netlink)? else {
            return self.make(netlink);
        };
        if Shared::Vlan.is(&link) {
            self.mend(netlink, link)
        } else {
            Ok(link)
        }
    }

    fn make(&self, netlink: &Netlink) -> Result<Link, Error> {
        let Vlan { base, id } = self;
        let name = self.name();
        if let Some(there) = netlink.link(&name).map_err(|error| asking(&error))? {
            return Err(self.name_taken(&there));
        }
        if !base.up {
            return Err(Error::new(
                code::TRY_AGAIN_LATER,
                format!(
                    "VLAN {id} cannot be made on {0}: {0} is down (ip link set {0} up)",
                    base.name
                ),
            ));
        }
        let new = NewVlan {
            name: &name,
            parent: base.index,
            id: *id,
            up: true,
            group: Shared::GROUP,
        };
        let link = netlink
            .add_vlan(&new)
            .map_err(|refusal| self.refused(&refusal))?;
        Shared::Vlan
            .finish(netlink, &link)
            .map_err(|error| asking(&error))?;
        Ok(link)
    }

    /// Makes ours as it was, after whatever has happened to it: a maker who was killed, an
    /// administrator who set it down, a base that takes larger packets than when it was made. And
    /// what somebody left who was killed while letting go.
    fn mend(&self, netlink: &Netlink, link: Link) -> Result<Link, Error> {
        let asking = |error: linknet::Error| asking(&error);
        if let Some(left) = netlink
            .link(&probe(&link))
            .map_err(asking)?
            .filter(mark::is_macvlan)
        {
            netlink.delete_link(left.index).map_err(asking)?;
        }
        if link.group == Shared::GROUP {
            Shared::Vlan.finish(netlink, &link).map_err(asking)?;
        }
        if link.mtu < self.base.mtu {
            netlink.set_mtu(link.index, self.base.mtu).map_err(asking)?;
        }
        if !link.up && self.base.up {
            netlink.set_up(link.index).map_err(asking)?;
        }
        let now = netlink.link_by_index(link.index).map_err(asking)?;
        Ok(now.unwrap_or(link))
    }

    fn name_taken(&self, there: &Link) -> Error {
        let Vlan { base, id } = self;
        let what = match (&there.vlan, &there.kind) {
            (Some(vlan), _) if there.parent == Some(base.index) => format!("VLAN {}", vlan.id),
            (Some(vlan), _) => format!("VLAN {} of another device", vlan.id),
            (None, Some(kind)) => format!("a {kind}"),
            (None, None) => "a device".to_owned(),
        };
        Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!(
                "VLAN {id} cannot be made on {}: {} exists and is {what}",
                base.name, there.name
            ),
        )
        .details(format!(
            "rename {}, or make the VLAN under another name",
            there.name
        ))
    }

    fn refused(&self, refusal: &linknet::Error) -> Error {
        let Vlan { base, id } = self;
        let (code, why) = if refusal.is_unsupported() && refusal.kernel_text().is_none() {
            (codes::NO_DRIVER, "this kernel has no VLANs")
        } else if refusal.is_exists() {
            (
                code::INVALID_NETWORK_CONFIG,
                "it is there already, in another network namespace",
            )
        } else if refusal.is_denied() {
            (codes::KERNEL, "CAP_NET_ADMIN is missing")
        } else if refusal.is_absent() {
            (code::TRY_AGAIN_LATER, "the device has just disappeared")
        } else if refusal.kernel_text().is_some() || refusal.is_unsupported() {
            (
                code::INVALID_NETWORK_CONFIG,
                "the device does not carry VLANs",
            )
        } else {
            (codes::KERNEL, "the kernel refused")
        };
        let error = Error::new(
            code,
            format!("VLAN {id} cannot be made on {}: {why}", base.name),
        );
        let advice = if code == codes::NO_DRIVER { DRIVER } else { "" };
        also(error.details(advice), &refusal.to_string())
    }
}

/// What is known about the container that leaves a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// One has just been taken off it.
    Done,
    /// One may be on its way out, whose namespace could not be entered any more.
    Maybe,
}

/// A VLAN that leasehold has made, and where it is.
pub(crate) struct SharedVlan {
    netlink: Netlink,
    netns: Netns,
    link: Link,
}

impl SharedVlan {
    /// The link of this number, if it is one. `netlink` sees the parents: in the container, if it
    /// was opened `inside`, and in the plugin's own netns otherwise.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn find(
        netlink: Netlink,
        inside: Option<&Netns>,
        index: u32,
    ) -> Result<Option<SharedVlan>, Error> {
        let link = netlink
            .link_by_index(index)
            .map_err(|error| asking(&error))?;
        let Some(link) = link.filter(|link| Shared::Vlan.is(link)) else {
            return Ok(None);
        };
        let netns = match inside {
            Some(netns) => netns
                .try_clone()
                .map_err(|error| Error::new(codes::KERNEL, error.to_string()))?,
            None => container::own()?,
        };
        Ok(Some(SharedVlan {
            netlink,
            netns,
            link,
        }))
    }

    /// All of them in the plugin's own netns.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn all() -> Result<Vec<SharedVlan>, Error> {
        let links = Netlink::open()
            .and_then(|netlink| netlink.links())
            .map_err(|error| asking(&error))?;
        let ours = links.iter().filter(|link| Shared::Vlan.is(link));
        let found = ours.map(|link| {
            let netlink = Netlink::open().map_err(|error| asking(&error))?;
            SharedVlan::find(netlink, None, link.index)
        });
        found.filter_map(Result::transpose).collect()
    }

    /// Removes it if nobody is on it any longer.
    ///
    /// # Errors
    /// If the kernel refuses; not if somebody uses the VLAN, or it is gone.
    pub(crate) fn let_go(&self, leaving: Leaving) -> Result<(), Error> {
        let deadline = Instant::now() + DYING;
        while !self.remove_unused()? {
            // Whoever can be found is alive, and stays.
            let waiting = leaving == Leaving::Maybe && Instant::now() < deadline;
            if !waiting || !container::macvlans_on(&self.netlink, self.link.index, true)?.is_empty()
            {
                return Ok(());
            }
            sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether it has removed the VLAN, or somebody has.
    fn remove_unused(&self) -> Result<bool, Error> {
        let SharedVlan {
            netlink,
            netns,
            link,
        } = self;
        let failed = |error: linknet::Error| {
            Error::new(codes::KERNEL, format!("removing VLAN {} failed", link.name))
                .details(error.to_string())
        };
        let _lock = Lock::take().map_err(failed)?;
        // Whoever had the lock before may have been the last.
        let now = netlink.link_by_index(link.index).map_err(failed)?;
        let Some(now) = now.filter(|now| Shared::Vlan.is(now)) else {
            return Ok(true);
        };
        if is_built_upon(netlink, &now).map_err(failed)? {
            return Ok(false);
        }
        let name = probe(link);
        let probe = NewMacvlan {
            mode: MacvlanMode::Passthru,
            ..NewMacvlan::new(&name, link.index)
        };
        match netlink.add_macvlan(&probe, netns, netlink) {
            Ok(_) => {}
            // Left by somebody who was killed just here.
            Err(error) if error.is_exists() => {}
            Err(error) if error.is_absent() => return Ok(true),
            Err(error) if error.is_invalid() || error.is_busy() => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        match netlink.delete_link_nowait(netns, link.index) {
            Err(error) if !error.is_absent() => Err(failed(error)),
            _ => Ok(true),
        }
    }
}

/// Whether somebody has made the VLAN more than a parent of macvlans: it is a bridge's port, has
/// addresses, or carries other devices.
fn is_built_upon(netlink: &Netlink, link: &Link) -> linknet::Result<bool> {
    let on_it = |other: &Link| {
        other.parent == Some(link.index)
            && other.parent_netnsid.is_none()
            && !mark::is_macvlan(other)
    };
    Ok(link.master.is_some()
        || netlink
            .addresses(link.index)?
            .iter()
            .any(|address| address.scope < Scope::LINK)
        || netlink.links()?.iter().any(on_it))
}

/// The name of the macvlan by which one finds out whether a VLAN is in use.
fn probe(link: &Link) -> String {
    format!("lhprobe{:x}", link.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, macvlan};

    fn vlan(name: &str, id: u16) -> Link {
        Link {
            index: 9,
            kind: Some("vlan".to_owned()),
            parent: Some(2),
            vlan: Some(linknet::Vlan {
                id,
                protocol: linknet::Vlan::C_TAG,
            }),
            ..device(name)
        }
    }

    #[test]
    fn dockers_spelling_is_a_base_and_a_number() {
        for (name, meant) in [
            ("eth1.228", Some(("eth1", 228))),
            ("bond0.4094", Some(("bond0", 4094))),
            ("eth1.5.7", Some(("eth1.5", 7))),
            ("eth1", None),
            ("eth1.", None),
            (".5", None),
            ("eth1.0", None),
            ("eth1.4095", None),
            ("eth1.05", None),
            ("eth1.+5", None),
            ("eth1.lan", None),
        ] {
            assert_eq!(Vlan::spelled(name), meant, "{name}");
        }
    }

    #[test]
    fn it_is_known_by_base_and_number_whatever_its_name() {
        let wanted = Vlan {
            base: device("eth1"),
            id: 228,
        };
        assert!(wanted.is(&vlan("eth1.228", 228)) && wanted.is(&vlan("upstairs", 228)));
        let service_tag = Some(linknet::Vlan {
            id: 228,
            protocol: 0x88a8,
        });
        for other in [
            vlan("eth1.228", 229),
            Link {
                parent: Some(3),
                ..vlan("eth1.228", 228)
            },
            Link {
                parent_netnsid: Some(0),
                ..vlan("eth1.228", 228)
            },
            Link {
                vlan: service_tag,
                ..vlan("eth1.228", 228)
            },
            macvlan("eth1.228"),
        ] {
            assert!(!wanted.is(&other), "{other:?}");
        }
    }

    #[test]
    fn a_name_fits_the_kernel() {
        let name = |base: &str, id| {
            Vlan {
                base: device(base),
                id,
            }
            .name()
        };
        assert_eq!(name("eth1", 228), "eth1.228");
        assert_eq!(name("enp0s31f6x", 4094), "enp0s31f6x.4094");
        let long = name("enx525400000001", 4094);
        assert!(
            long.len() == 15 && long.starts_with("lh") && long.ends_with(".4094"),
            "{long}"
        );
        assert_ne!(long, name("enx525400000002", 4094));
    }

    #[test]
    fn what_stands_in_its_place_is_named() {
        let wanted = Vlan {
            base: device("eth1"),
            id: 228,
        };
        for (there, words) in [
            (
                Link {
                    kind: Some("dummy".to_owned()),
                    ..device("eth1.228")
                },
                "eth1.228 exists and is a dummy",
            ),
            (device("eth1.228"), "eth1.228 exists and is a device"),
            (vlan("eth1.228", 5), "eth1.228 exists and is VLAN 5"),
            (
                Link {
                    parent: Some(3),
                    ..vlan("eth1.228", 228)
                },
                "is VLAN 228 of another device",
            ),
        ] {
            let error = wanted.name_taken(&there);
            assert!(
                error.code == code::INVALID_NETWORK_CONFIG && error.msg.ends_with(words),
                "{error}"
            );
        }
    }

    #[test]
    fn the_kernels_refusals_are_told_apart() {
        let refused = |errno, text| {
            let wanted = Vlan {
                base: device("eth1"),
                id: 228,
            };
            wanted.refused(&linknet::Error::refusal("create VLAN", errno, text))
        };
        for (errno, text, code, words) in [
            (95, None, codes::NO_DRIVER, "no VLANs"),
            (
                95,
                Some("VLANs not supported on device"),
                code::INVALID_NETWORK_CONFIG,
                "carry VLANs",
            ),
            (
                17,
                Some("VLAN device already exists"),
                code::INVALID_NETWORK_CONFIG,
                "another network namespace",
            ),
            (1, None, codes::KERNEL, "CAP_NET_ADMIN"),
            (19, None, code::TRY_AGAIN_LATER, "disappeared"),
            (12, None, codes::KERNEL, "refused"),
        ] {
            let error = refused(errno, text);
            assert!(error.code == code && error.msg.contains(words), "{error}");
            assert!(error.details.contains("create VLAN"), "{error}");
        }
    }
}
