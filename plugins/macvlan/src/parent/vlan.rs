//! VLANs that macvlans sit on: finding and creating them.

use attachment::{HostLock, KernelError, SharedLink, codes, is_macvlan};
use cni::{Error, code};
use linknet::{Link, Netlink, NewVlan};
use sha2::{Digest, Sha256};

use super::shared_vlan;

/// A VLAN, whether it exists yet or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// The device that carries it.
    pub base: Link,
    /// Its identifier, 1 to 4094.
    pub id: u16,
}

/// What to do on a kernel without the driver.
pub(crate) const INSTALL_DRIVER: &str =
    "modprobe 8021q; it may be in a package of its own, such as linux-modules-extra";

impl Vlan {
    /// The base's name and the identifier of a name such as `eth1.228`, as Docker spells VLANs.
    pub fn parse_dotted(name: &str) -> Option<(&str, u16)> {
        let (base, id) = name.rsplit_once('.')?;
        let number: u16 = id.parse().ok()?;
        let is_valid = !base.is_empty()
            && (1..=linknet::Vlan::MAX_ID).contains(&number)
            && number.to_string() == id;
        is_valid.then_some((base, number))
    }

    /// The VLAN that a link is, if it is one.
    pub(crate) fn of(netlink: &Netlink, link: &Link) -> Result<Option<Vlan>, Error> {
        let (Some(vlan), Some(base), None) = (link.vlan, link.parent, link.parent_netnsid) else {
            return Ok(None);
        };
        let base = netlink.link_by_index(base).or_kernel_error()?;
        Ok(base.map(|base| Vlan { base, id: vlan.id }))
    }

    /// Whether the link is this VLAN, whatever its name.
    fn is(&self, link: &Link) -> bool {
        let wanted = linknet::Vlan {
            id: self.id,
            protocol: linknet::Vlan::C_TAG,
        };
        link.vlan == Some(wanted)
            && link.parent == Some(self.base.index)
            && link.parent_netnsid.is_none()
    }

    /// The name that leasehold gives it: `eth1.228`, as is usual; something short where that is too
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
        let by_name = netlink.link(&self.name()).or_kernel_error()?;
        if by_name.as_ref().is_some_and(|link| self.is(link)) {
            return Ok(by_name);
        }
        let links = netlink.links().or_kernel_error()?;
        Ok(links.into_iter().find(|link| self.is(link)))
    }

    /// The link, created if there is none, and ready for use if leasehold created it. One that an
    /// administrator created is used as it is.
    ///
    /// # Errors
    /// 7 when a device of its name is something else, or the base carries no VLANs; 11 when the
    /// base is down.
    pub(crate) fn ensure(&self, netlink: &Netlink, _lock: &HostLock) -> Result<Link, Error> {
        match self.find(netlink)? {
            None => self.create(netlink),
            Some(link) if SharedLink::Vlan.is(&link) => self.repair(netlink, link),
            Some(link) => Ok(link),
        }
    }

    fn create(&self, netlink: &Netlink) -> Result<Link, Error> {
        let base = &self.base;
        let name = self.name();
        if let Some(taker) = netlink.link(&name).or_kernel_error()? {
            return Err(self.name_taken(&taker));
        }
        if !base.up {
            let what = self.cannot_create(&format!("{0} is down (ip link set {0} up)", base.name));
            return Err(Error::new(code::TRY_AGAIN_LATER, what));
        }
        let new = NewVlan {
            name: &name,
            parent: base.index,
            id: self.id,
            up: true,
            group: SharedLink::UNFINISHED_GROUP,
        };
        let link = netlink.add_vlan(&new).map_err(|refusal| {
            // The kernel refuses so too if the device cannot carry one.
            let has_driver = !refusal.is_unsupported() || netlink.has_vlan().unwrap_or(true);
            self.explain(&refusal, has_driver)
        })?;
        SharedLink::Vlan.finish(netlink, &link).or_kernel_error()?;
        Ok(link)
    }

    /// Restores a VLAN that leasehold created: its creator may have been killed, an administrator
    /// may have set it down, the base's MTU may have grown, and a probe may be left of a process
    /// that was killed while it checked whether the VLAN is in use.
    fn repair(&self, netlink: &Netlink, link: Link) -> Result<Link, Error> {
        let probe = netlink.link(&shared_vlan::probe_name(&link));
        if let Some(probe) = probe.or_kernel_error()?.filter(is_macvlan) {
            netlink.delete_link(probe.index).or_kernel_error()?;
        }
        if link.group == SharedLink::UNFINISHED_GROUP {
            SharedLink::Vlan.finish(netlink, &link).or_kernel_error()?;
        }
        if link.mtu < self.base.mtu {
            let mtu = self.base.mtu;
            netlink.set_mtu(link.index, mtu).or_kernel_error()?;
        }
        if !link.up && self.base.up {
            netlink.set_up(link.index).or_kernel_error()?;
        }
        let repaired = netlink.link_by_index(link.index).or_kernel_error()?;
        Ok(repaired.unwrap_or(link))
    }

    fn name_taken(&self, taker: &Link) -> Error {
        let what = match (&taker.vlan, &taker.kind) {
            (Some(vlan), _) if taker.parent == Some(self.base.index) => format!("VLAN {}", vlan.id),
            (Some(vlan), _) => format!("VLAN {} of another device", vlan.id),
            (None, Some(kind)) => format!("a {kind}"),
            (None, None) => "a device".to_owned(),
        };
        let what = self.cannot_create(&format!("{} exists and is {what}", taker.name));
        Error::new(code::INVALID_NETWORK_CONFIG, what).details(format!(
            "rename {}, or create the VLAN yourself under another name",
            taker.name
        ))
    }

    /// Explains the kernel's refusal to create the VLAN, which has the driver or not.
    fn explain(&self, refusal: &linknet::Error, has_driver: bool) -> Error {
        let (code, why) = if !has_driver {
            (codes::NO_DRIVER, "this kernel has no VLANs")
        } else if refusal.is_exists() {
            let why = "it exists already, in another network namespace";
            (code::INVALID_NETWORK_CONFIG, why)
        } else if refusal.is_denied() {
            (codes::KERNEL, "CAP_NET_ADMIN is missing")
        } else if refusal.is_absent() {
            (code::TRY_AGAIN_LATER, "the device has just disappeared")
        } else if refusal.kernel_text().is_some() || refusal.is_unsupported() {
            let why = "the device does not carry VLANs";
            (code::INVALID_NETWORK_CONFIG, why)
        } else {
            (codes::KERNEL, "the kernel refused")
        };
        let advice = match code {
            codes::NO_DRIVER => INSTALL_DRIVER,
            _ => "",
        };
        let error = Error::new(code, self.cannot_create(why)).details(advice);
        error.and_details(&refusal.to_string())
    }

    fn cannot_create(&self, why: &str) -> String {
        format!(
            "cannot create VLAN {} on {}: {why}",
            self.id, self.base.name
        )
    }
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
    fn a_dotted_name_is_a_base_and_a_number() {
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
            assert_eq!(Vlan::parse_dotted(name), meant, "{name}");
        }
    }

    #[test]
    fn a_vlan_is_recognised_by_base_and_number_whatever_its_name() {
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
    fn the_name_is_never_too_long_for_the_kernel() {
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
    fn a_device_that_has_the_name_is_described() {
        let wanted = Vlan {
            base: device("eth1"),
            id: 228,
        };
        for (taker, words) in [
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
            let error = wanted.name_taken(&taker);
            assert!(
                error.code == code::INVALID_NETWORK_CONFIG && error.msg.ends_with(words),
                "{error}"
            );
        }
    }

    #[test]
    fn each_refusal_of_the_kernel_has_its_explanation() {
        let explain = |errno, text, has_driver| {
            let wanted = Vlan {
                base: device("eth1"),
                id: 228,
            };
            let refusal = linknet::Error::refusal("create VLAN", errno, text);
            wanted.explain(&refusal, has_driver)
        };
        for (errno, text, code, words) in [
            (95, None, codes::NO_DRIVER, "no VLANs"),
            (
                95,
                Some("Unknown device type"),
                codes::NO_DRIVER,
                "no VLANs",
            ),
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
            let error = explain(errno, text, code != codes::NO_DRIVER);
            assert!(error.code == code && error.msg.contains(words), "{error}");
            assert!(error.details.contains("create VLAN"), "{error}");
            let has_advice = error.details.contains("modprobe");
            assert_eq!(has_advice, code == codes::NO_DRIVER, "{error}");
        }
    }
}
