//! The sentence about the interface at the end of an error, when no server granted an address.

use linknet::{Link, Netlink, Netns};

use super::clues::Clues;
use crate::state::InterfaceRef;

/// Describes the interface for a user whose ADD failed. `has_answer` says whether a server
/// answered.
pub(crate) fn health(netns: &Netns, interface: &InterfaceRef, has_answer: bool) -> String {
    let link = Netlink::open_in(netns).and_then(|netlink| netlink.link_by_index(interface.ifindex));
    match link {
        Ok(Some(link)) => {
            let parent = link.parent.and_then(parent_name);
            let clues = parent.as_deref().map(Clues::find).unwrap_or_default();
            describe(&link, parent.as_deref(), has_answer, &clues)
        }
        Ok(None) => format!("{} is gone", interface.ifname),
        Err(error) => error.to_string(),
    }
}

fn describe(link: &Link, parent: Option<&str>, has_answer: bool, clues: &Clues) -> String {
    let name = match parent {
        Some(parent) => format!("{} (on {parent})", link.name),
        None => link.name.clone(),
    };
    if !link.up {
        return format!("{name} is down");
    }
    if !link.carrier {
        return format!("{name} has no carrier: is its parent up, and the cable plugged in?");
    }
    let sound = format!("{name} is up and has a carrier");
    if has_answer {
        return sound;
    }
    let mut text = format!("{sound}: is there a DHCP server on this network?");
    let Some(parent) = parent else { return text };
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

/// The parent's name, if the daemon is in the parent's netns.
fn parent_name(index: u32) -> Option<String> {
    let link = Netlink::open()
        .and_then(|netlink| netlink.link_by_index(index))
        .ok()??;
    Some(link.name)
}
