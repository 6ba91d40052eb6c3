//! The sentence about the interface at the end of an error, when no server granted an address.

use attachment::no_link;
use linknet::{Link, Netlink, Netns};

use super::clues::Clues;
use crate::state::InterfaceRef;

/// Describes the interface for a user whose ADD failed. `has_answer` says whether a server
/// answered.
pub(crate) fn health(netns: &Netns, interface: &InterfaceRef, has_answer: bool) -> String {
    let describe = || -> linknet::Result<String> {
        let inside = Netlink::open_in(netns)?;
        let Some(link) = inside.link_by_index(interface.ifindex)? else {
            return Ok(format!("{} is gone", interface.ifname));
        };
        let (parent, clues) = if is_parent_here(&inside, &link) {
            let parent = parent(&Netlink::open()?, &link);
            let clues = parent.as_ref().map(|parent| Clues::find(&parent.name));
            (parent, clues.unwrap_or_default())
        } else if link.parent_netnsid.is_none() {
            (parent(&inside, &link), Clues::default())
        } else {
            (None, Clues::default())
        };
        Ok(describe(&link, parent.as_ref(), has_answer, &clues))
    };
    describe().unwrap_or_else(|error| error.to_string())
}

fn describe(link: &Link, parent: Option<&Link>, has_answer: bool, clues: &Clues) -> String {
    let name = match parent {
        Some(parent) => format!("{} (on {})", link.name, parent.name),
        None => link.name.clone(),
    };
    if !link.up {
        return format!("{name} is down");
    }
    if !link.carrier {
        let why = parent.and_then(no_link);
        return match why {
            Some(why) => format!("{} is up, but {why}", link.name),
            None => format!("{name} has no carrier: is its parent up, and the cable plugged in?"),
        };
    }
    let sound = format!("{name} is up and has a carrier");
    if has_answer {
        return sound;
    }
    let mut text = format!("{sound}: is there a DHCP server on this network?");
    let Some(Link { name: parent, .. }) = parent else {
        return text;
    };
    if clues.server_on_host {
        text.push_str(&format!(
            " A process on this host has UDP port 67: if it is the DHCP server, the container \
             cannot reach it, because a macvlan and the host's own {parent} do not reach each \
             other, and hostAccess does not pass broadcasts on to {parent}"
        ));
    }
    if let Some(neighbour) = clues.neighbour {
        text.push_str(&format!(
            " The host itself reaches {neighbour} through {parent}: does the network admit only \
             the MAC address of {parent}, as Wi-Fi, hypervisors and port security do?"
        ));
    }
    text
}

/// Whether the link's parent is in the daemon's own netns, which is usually the host's.
fn is_parent_here(inside: &Netlink, link: &Link) -> bool {
    let here = Netns::current()
        .ok()
        .and_then(|here| inside.nsid(&here).ok()?);
    here.is_some() && here == link.parent_netnsid
}

/// The parent, in the netns that it is in.
fn parent(netlink: &Netlink, link: &Link) -> Option<Link> {
    netlink.link_by_index(link.parent?).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_carrier_is_reported_once_and_where_it_is_missing() {
        let link = |name: &str, up, carrier| Link {
            name: name.to_owned(),
            up,
            carrier,
            ..Link::default()
        };
        let eth0 = link("eth0", true, false);
        let describe = |parent: Option<&Link>| describe(&eth0, parent, false, &Clues::default());
        for (parent, text) in [
            (
                link("eth1", true, false),
                "eth0 is up, but eth1 has no carrier: is the cable plugged in?",
            ),
            (
                link("eth1", false, false),
                "eth0 is up, but eth1 is down (ip link set eth1 up)",
            ),
            (
                link("eth1", true, true),
                "eth0 (on eth1) has no carrier: is its parent up, and the cable plugged in?",
            ),
        ] {
            assert_eq!(describe(Some(&parent)), text);
        }
        let unseen = "eth0 has no carrier: is its parent up, and the cable plugged in?";
        assert_eq!(describe(None), unseen);
    }

    #[test]
    fn a_server_on_the_host_is_suspected_with_and_without_host_access() {
        let link = |name: &str| Link {
            name: name.to_owned(),
            up: true,
            carrier: true,
            ..Link::default()
        };
        let clues = Clues {
            server_on_host: true,
            neighbour: None,
        };
        let text = "eth0 (on eth1) is up and has a carrier: is there a DHCP server on this network? \
                    A process on this host has UDP port 67: if it is the DHCP server, the container \
                    cannot reach it, because a macvlan and the host's own eth1 do not reach each \
                    other, and hostAccess does not pass broadcasts on to eth1";
        let describe =
            |has_answer| describe(&link("eth0"), Some(&link("eth1")), has_answer, &clues);
        assert_eq!(describe(false), text);
        assert_eq!(describe(true), "eth0 (on eth1) is up and has a carrier");
    }
}
