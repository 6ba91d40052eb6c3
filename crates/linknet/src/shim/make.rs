//! Making a shim, or completing one that was left half-made.

use nix::errno::Errno;
use sha2::{Digest, Sha256};

use super::Shims;
use crate::{Error, Link, Mac, NewMacvlan, Result, Shared, sysctl};

impl Shims {
    /// The shim on a parent, ready for use, and the parent.
    pub(super) fn shim(&self, parent: u32, with_ipv6: bool) -> Result<(Link, Link)> {
        let absent = || {
            Error::new(
                format!("make link {parent} reach its macvlans"),
                Errno::ENODEV,
            )
        };
        let parent = self.netlink.link_by_index(parent)?.ok_or_else(absent)?;
        let shim = match Shims::find(&self.netlink, &parent)? {
            Some(shim) => shim,
            None => self.make(&parent)?,
        };
        // Whoever made it may have been killed right after.
        let unfinished = shim.group == Shared::GROUP;
        let prepare = || {
            if unfinished {
                settle(&shim.name)?;
            }
            if with_ipv6 {
                sysctl::set(&["ipv6", "conf", &shim.name, "disable_ipv6"], "0")
            } else {
                Ok(())
            }
        };
        if unfinished || with_ipv6 {
            let entering = |error| Error::io("enter the network namespace", &error);
            self.netns.run(prepare).map_err(entering)??;
        }
        if !shim.up {
            self.netlink.set_up(shim.index)?;
        }
        if unfinished {
            Shared::Shim.finish(&self.netlink, &shim)?;
        }
        Ok((shim, parent))
    }

    /// Down, until all is set that must be before it hears anything.
    fn make(&self, parent: &Link) -> Result<Link> {
        let name = name(&parent.name);
        let new = NewMacvlan {
            mac: Some(mac(parent)),
            group: Shared::GROUP,
            ..NewMacvlan::new(&name, parent.index)
        };
        self.netlink
            .add_macvlan(&new, &self.netns, &self.netlink)
            .map_err(|error| match error.is_exists() {
                true => taken(&name, parent),
                false => error,
            })
    }
}

/// Makes the link silent but for what goes through it.
fn settle(name: &str) -> Result<()> {
    // The LAN's own questions for the host's addresses are the parent's to answer. With this the
    // kernel answers here only whom it has a route to through here.
    sysctl::set(&["ipv4", "conf", name, "arp_filter"], "1")?;
    sysctl::set(&["ipv4", "conf", name, "arp_ignore"], "0")?;
    // Nor are the LAN's broadcasts to be heard twice: what comes in here is from those that the
    // host has a route to through here (RFC 3704 §2.2).
    sysctl::set(&["ipv4", "conf", name, "rp_filter"], "1")?;
    let ipv6 =
        |setting: &str, value: &str| match sysctl::set(&["ipv6", "conf", name, setting], value) {
            // A kernel without IPv6, or an MTU too small for it.
            Err(error) if error.is_absent() => Ok(()),
            end => end,
        };
    ipv6("disable_ipv6", "1")?;
    // It is no way into the LAN, whatever routers say.
    ipv6("accept_ra", "0")?;
    ipv6("autoconf", "0")?;
    // Its MAC is nobody else's, and the first packet need not wait.
    ipv6("accept_dad", "0")?;
    // The containers' routes name the address that this makes.
    ipv6("addr_gen_mode", "0")
}

/// What the shim of a parent of this name is called.
pub(super) fn name(parent: &str) -> String {
    let name = format!("lh-{parent}");
    if name.len() <= Link::LONGEST_NAME {
        return name;
    }
    let [a, b, c, d, e, f, ..] = digest(&format!("leasehold host {parent}"));
    format!("lh-{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}

/// The same each time, so that whoever knows it is right about it when the shim has been made anew.
fn mac(parent: &Link) -> Mac {
    let of = parent.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let [a, b, c, d, e, f, ..] = digest(&format!("leasehold host {of} {}", parent.name));
    Mac::local([a, b, c, d, e, f])
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn taken(name: &str, parent: &Link) -> Error {
    let what = format!("make a host's macvlan on {}", parent.name);
    let why =
        format!("there is a {name} that is not leasehold's: rename it, or do without hostAccess");
    Error::kernel(what, Errno::EEXIST, Some(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_whose_shim_it_is_where_there_is_room() {
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
    fn the_mac_is_one_that_an_interface_can_have_and_the_same_each_time() {
        let parent = |name: &str, mac| {
            let mut link = Link::from(netlink_packet_route::link::LinkMessage::default());
            link.name = name.to_owned();
            link.mac = Some(Mac(mac));
            link
        };
        let eth1 = parent("eth1", [0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!(mac(&eth1), mac(&eth1));
        assert!(!mac(&eth1).is_multicast() && mac(&eth1).octets()[0] & 0b10 != 0);
        // A VLAN has the MAC of the link below, and may share its bridge.
        assert_ne!(mac(&eth1), mac(&parent("eth1.5", [0x52, 0x54, 0, 0, 0, 1])));
        assert_ne!(mac(&eth1), mac(&parent("eth1", [0x52, 0x54, 0, 0, 0, 2])));
    }
}
