//! Which links a name of the `master` key can mean.

use attachment::SharedLink;
use linknet::{Link, Mac};
use wildmatch::WildMatch;

/// The links that `name` can mean.
pub(super) fn matching(links: &[Link], name: &str) -> Vec<Link> {
    let mut found: Vec<Link> = links
        .iter()
        .filter(|link| is_called(link, name))
        .cloned()
        .collect();
    // A glob must not catch links that exist for containers only.
    let is_ours = |link: &Link| SharedLink::Vlan.is(link) || SharedLink::Shim.is(link);
    found.retain(|link| !is_glob(name) || !(link.loopback || is_ours(link)));
    if found.len() > 1 && name.parse::<Mac>().is_ok() {
        // A bridge or bond shares the MAC of a port, and a port can have no macvlan. A VLAN or a
        // macvlan in mode passthru shares that of the device below, from which the user read it.
        found.retain(|link| link.master.is_none() && !shares_mac_of_lower_link(link));
    }
    found
}

/// Whether `name` is the link's name, alternative name, alias or MAC, or a glob that matches a
/// name.
pub(super) fn is_called(link: &Link, name: &str) -> bool {
    if is_glob(name) {
        let pattern = WildMatch::new(name);
        let mut names = [&link.name].into_iter().chain(&link.alt_names);
        return names.any(|name| pattern.matches(name));
    }
    link.name == name
        || link.alt_names.iter().any(|alt| alt == name)
        || link.alias.as_deref() == Some(name)
        || name
            .parse()
            .is_ok_and(|mac: Mac| link.mac == Some(mac) && !mac.is_zero())
}

/// Brackets are not special: device names may contain them.
pub(super) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// The links' names, for an error.
pub(super) fn list(links: &[Link]) -> String {
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    names.join(", ")
}

fn shares_mac_of_lower_link(link: &Link) -> bool {
    let kind = link.kind.as_deref();
    matches!(
        kind,
        Some("vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MAC, device, macvlan};

    fn names_of(found: &[Link]) -> Vec<&str> {
        found.iter().map(|link| link.name.as_str()).collect()
    }

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, name, matches) in [
            ("en*", "enp3s0", true),
            ("en*", "eth0", false),
            ("eth?", "eth1", true),
            ("eth?", "eth10", false),
            ("eth?", "eth", false),
            ("*", "lo", true),
            ("*.5", "eth0.5", true),
            ("e*1*0", "eth100", true),
            ("e[t]*", "eth0", false),
        ] {
            assert_eq!(
                is_called(&device(name), pattern),
                matches,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_device_is_found_by_each_of_its_names() {
        let link = Link {
            alt_names: vec!["enp0s31f6".to_owned()],
            alias: Some("uplink".to_owned()),
            ..device("eth0")
        };
        for name in [
            "eth0",
            "enp0s31f6",
            "enp*",
            "uplink",
            "52:54:00:00:00:01",
            "52-54-00-00-00-01",
        ] {
            assert!(is_called(&link, name), "{name}");
        }
        for name in ["eth", "eth00", "up*", "52:54:00:00:00:02"] {
            assert!(!is_called(&link, name), "{name}");
        }
    }

    #[test]
    fn a_glob_matches_no_link_that_leasehold_created() {
        let vlan = Link {
            kind: Some("vlan".to_owned()),
            alias: Some("leasehold:vlan".to_owned()),
            ..device("eth0.5")
        };
        let shim = Link {
            alias: Some("leasehold:host".to_owned()),
            ..macvlan("lh-eth0")
        };
        let all = [device("eth0"), vlan, shim];
        assert_eq!(names_of(&matching(&all, "*eth0*")), ["eth0"]);
        assert_eq!(names_of(&matching(&all, "eth0.5")), ["eth0.5"]);
    }

    #[test]
    fn a_mac_selects_the_bridge_not_its_port_and_the_device_not_its_vlan() {
        let port = Link {
            index: 3,
            master: Some(4),
            ..device("eth0")
        };
        let bridge = Link {
            index: 4,
            kind: Some("bridge".to_owned()),
            ..device("br0")
        };
        let vlan = Link {
            index: 5,
            kind: Some("vlan".to_owned()),
            parent: Some(4),
            ..device("br0.5")
        };
        let all = [port.clone(), bridge, vlan];
        assert_eq!(names_of(&matching(&all, &MAC.to_string())), ["br0"]);
        // Where nothing else has that MAC, the port is selected, and the kernel refuses it later.
        assert_eq!(names_of(&matching(&[port], &MAC.to_string())), ["eth0"]);
    }
}
