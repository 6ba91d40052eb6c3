//! The shim: finding it, creating it, and completing one that was left unfinished.

use std::net::IpAddr;

use linknet::{Error, Link, Mac, Netlink, Netns, NewMacvlan, Result, sysctl};
use sha2::{Digest, Sha256};

use crate::shared_link::SharedLink;

/// The shim on a parent, finished or not, if there is one. No lock is needed to look.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn find(netlink: &Netlink, parent: &Link) -> Result<Option<Link>> {
    let is_shim = |link: &Link| {
        SharedLink::Shim.is(link)
            && link.parent == Some(parent.index)
            && link.parent_netnsid.is_none()
    };
    // It has this name unless it was renamed, and one link is cheaper to ask for than all.
    match netlink.link(&name(&parent.name))?.filter(is_shim) {
        Some(shim) => Ok(Some(shim)),
        None => Ok(netlink.links()?.into_iter().find(is_shim)),
    }
}

/// The shim on the parent, created if there is none and ready for use. `netlink` is a socket in
/// `netns`, the parent's namespace.
pub(super) fn ensure(
    netlink: &Netlink,
    netns: &Netns,
    parent: &Link,
    with_ipv6: bool,
) -> Result<Link> {
    let shim = match find(netlink, parent)? {
        Some(shim) => shim,
        None => create(netlink, netns, parent)?,
    };
    // The process that created it may have been killed before it configured it.
    let is_unfinished = shim.group == SharedLink::UNFINISHED_GROUP;
    let prepare = || {
        if is_unfinished {
            configure(&shim.name)?;
        }
        match with_ipv6 {
            true => sysctl::set(&["ipv6", "conf", &shim.name, "disable_ipv6"], "0"),
            false => Ok(()),
        }
    };
    if is_unfinished || with_ipv6 {
        let cannot_enter = |error| Error::io("enter the network namespace", &error);
        netns.run(prepare).map_err(cannot_enter)??;
    }
    if !shim.up {
        netlink.set_up(shim.index)?;
    }
    if is_unfinished {
        SharedLink::Shim.finish(netlink, &shim)?;
    }
    Ok(shim)
}

/// The link-local address that the kernel derives from a MAC (RFC 4291, appendix A).
pub(super) fn link_local(mac: Mac) -> IpAddr {
    let [a, b, c, d, e, f] = mac.octets();
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 0b10,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]
    .into()
}

/// Creates the shim down: it must not receive anything before it is configured.
fn create(netlink: &Netlink, netns: &Netns, parent: &Link) -> Result<Link> {
    let name = name(&parent.name);
    let new = NewMacvlan {
        mac: Some(mac(parent)),
        group: SharedLink::UNFINISHED_GROUP,
        ..NewMacvlan::new(&name, parent.index)
    };
    netlink
        .add_macvlan(&new, netns, netlink)
        .map_err(|error| match error.is_exists() {
            true => name_taken(&name, parent),
            false => error,
        })
}

/// Makes the shim ignore everything but the traffic between the host and its containers. To be
/// called in its namespace.
fn configure(name: &str) -> Result<()> {
    // ARP requests from the LAN for the host's addresses are for the parent to answer. With this
    // the kernel answers on the shim only those that it has a route to through the shim.
    sysctl::set(&["ipv4", "conf", name, "arp_filter"], "1")?;
    sysctl::set(&["ipv4", "conf", name, "arp_ignore"], "0")?;
    // The LAN's broadcasts must not be received twice: the shim takes only packets from sources
    // that the host has a route to through the shim (RFC 3704 §2.2).
    sysctl::set(&["ipv4", "conf", name, "rp_filter"], "1")?;
    let ipv6 = |setting: &str, value: &str| {
        match sysctl::set(&["ipv6", "conf", name, setting], value) {
            // A kernel without IPv6, or an MTU too small for it.
            Err(error) if error.is_absent() => Ok(()),
            outcome => outcome,
        }
    };
    ipv6("disable_ipv6", "1")?;
    // The host must not take addresses or routes from routers that it hears here.
    ipv6("accept_ra", "0")?;
    ipv6("autoconf", "0")?;
    // Its MAC is unique on the link, and the first packet need not wait.
    ipv6("accept_dad", "0")?;
    // The containers' routes name the address that this setting makes.
    ipv6("addr_gen_mode", "0")
}

/// The name of the shim on a parent of this name.
fn name(parent: &str) -> String {
    let name = format!("lh-{parent}");
    if name.len() <= Link::MAX_NAME_LEN {
        return name;
    }
    let [a, b, c, d, e, f, ..] = digest(&format!("leasehold host {parent}"));
    format!("lh-{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}

/// The MAC of the shim on a parent. It is derived from the parent's, so that neighbours who know it
/// find the shim again after it was recreated.
fn mac(parent: &Link) -> Mac {
    let parent_mac = parent.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let [a, b, c, d, e, f, ..] = digest(&format!("leasehold host {parent_mac} {}", parent.name));
    Mac::local([a, b, c, d, e, f])
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn name_taken(name: &str, parent: &Link) -> Error {
    let what = format!("create {name} on {}", parent.name);
    let why = format!(
        "interface {name} exists, and leasehold did not create it: rename it, or do without \
         hostAccess"
    );
    Error::refusal(what, libc::EEXIST, Some(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_contains_the_parents_if_it_fits() {
        assert_eq!(name("eth1"), "lh-eth1");
        assert_eq!(name("enp3s0f1np1x"), "lh-enp3s0f1np1x");
        let hashed = name("enp3s0f1np1x1");
        assert_eq!(hashed.len(), 15);
        assert!(
            hashed.starts_with("lh-") && hashed != name("enp3s0f1np1x2"),
            "{hashed}"
        );
    }

    #[test]
    fn the_mac_is_a_local_unicast_address_and_does_not_change() {
        let parent = |name: &str, mac| Link {
            name: name.to_owned(),
            mac: Some(Mac(mac)),
            ..Link::default()
        };
        let eth1 = parent("eth1", [0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!(mac(&eth1), mac(&eth1));
        assert!(!mac(&eth1).is_multicast() && mac(&eth1).octets()[0] & 0b10 != 0);
        // A VLAN has the MAC of the link below, and the two may be on one bridge.
        assert_ne!(mac(&eth1), mac(&parent("eth1.5", [0x52, 0x54, 0, 0, 0, 1])));
        assert_ne!(mac(&eth1), mac(&parent("eth1", [0x52, 0x54, 0, 0, 0, 2])));
    }
}
