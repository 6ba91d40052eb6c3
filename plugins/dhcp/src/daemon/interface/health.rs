//! The sentence about the interface at the end of an error, when no server answers.

use linknet::{Link, Netlink, Netns};

use crate::state::InterfaceRef;

/// Describes the interface for a user whose ADD no server answered.
pub(crate) fn health(netns: &Netns, interface: &InterfaceRef) -> String {
    let link = Netlink::open_in(netns).and_then(|netlink| netlink.link_by_index(interface.ifindex));
    match link {
        Ok(Some(link)) => describe(&link),
        Ok(None) => format!("{} is gone", interface.ifname),
        Err(error) => error.to_string(),
    }
}

fn describe(link: &Link) -> String {
    let name = match link.parent.and_then(parent_name) {
        Some(parent) => format!("{} (on {parent})", link.name),
        None => link.name.clone(),
    };
    match (link.up, link.carrier) {
        (false, _) => format!("{name} is down"),
        (true, false) => {
            format!("{name} has no carrier: is its parent up, and the cable plugged in?")
        }
        (true, true) => {
            format!("{name} is up and has a carrier: is there a DHCP server on this network?")
        }
    }
}

/// The parent's name, if the daemon is in the parent's netns.
fn parent_name(index: u32) -> Option<String> {
    let link = Netlink::open()
        .and_then(|netlink| netlink.link_by_index(index))
        .ok()??;
    Some(link.name)
}
