//! The container's interface follows its lease: what a renewal changed is changed there, what is
//! lost is removed.

use attachment::{Changes, Plan};
use dhcp4::{Instant, Lease};
use linknet::{Link, Netlink, Netns, Protocol};

use super::result;
use crate::place::Place;
use crate::protocol::{Suppress, Terms};

/// Makes the interface follow from `old` to `new`. The kernel removes the address by itself if the
/// lease ends while no daemon runs.
///
/// Returns what was changed, and the kernel's first refusal; the rest is done nevertheless.
pub(crate) fn follow(
    netns: &Netns,
    place: &Place,
    terms: &Terms,
    old: Option<&Lease>,
    new: Option<&Lease>,
    now: Instant,
) -> (Changes, linknet::Result<()>) {
    let netlink = match Netlink::open_in(netns) {
        Ok(netlink) => netlink,
        Err(error) => return (Changes::default(), Err(error)),
    };
    let mtu = match new {
        Some(lease) => set_mtu(&netlink, place, terms, lease),
        None => Ok(None),
    };
    let plan_of = |lease: Option<&Lease>| {
        lease.map_or_else(Plan::default, |lease| {
            plan(lease, terms, place.ifindex, now)
        })
    };
    let (mut changes, moved) = plan_of(old).transition(&plan_of(new), &netlink, place.ifindex);
    if let Ok(Some(mtu)) = mtu {
        changes.prepend(format!("MTU {mtu}"));
    }
    let is_new_address = new.is_some() && new.map(Lease::net) != old.map(Lease::net);
    let announced = match is_new_address && terms.announce {
        true => linknet::announce(netns, place.ifindex),
        false => Ok(()),
    };
    (changes, mtu.map(drop).and(moved).and(announced))
}

/// The addresses, routes and rules that follow from a lease.
fn plan(lease: &Lease, terms: &Terms, ifindex: u32, now: Instant) -> Plan {
    let result = result::result(lease, terms, now);
    let mut plan = Plan::new(&result, ifindex, terms.source_routing);
    for address in &mut plan.addresses {
        address.protocol = Some(Protocol::DHCP);
        address.broadcast = lease.options.broadcast.or(address.broadcast);
    }
    plan
}

/// Gives the interface the MTU that the server tells (option 26), where it may have it.
///
/// # Errors
/// Whatever the kernel refused.
pub(crate) fn adopt_mtu(
    netns: &Netns,
    place: &Place,
    terms: &Terms,
    lease: &Lease,
) -> linknet::Result<()> {
    if lease.options.mtu.is_none() {
        return Ok(());
    }
    set_mtu(&Netlink::open_in(netns)?, place, terms, lease).map(drop)
}

/// Sets the MTU, and returns it if it was another. A macvlan may go up to its parent's MTU, which
/// the kernel sees to; of other links nobody knows what their other end takes, so theirs only goes
/// down.
fn set_mtu(
    netlink: &Netlink,
    place: &Place,
    terms: &Terms,
    lease: &Lease,
) -> linknet::Result<Option<u32>> {
    let Some(mtu) = lease
        .options
        .mtu
        .map(u32::from)
        .filter(|_| !terms.suppress.contains(&Suppress::Mtu))
    else {
        return Ok(None);
    };
    let Some(link) = netlink.link_by_index(place.ifindex)? else {
        return Ok(None);
    };
    if link.mtu == mtu || (link.mtu < mtu && link.macvlan.is_none()) {
        return Ok(None);
    }
    match netlink.set_mtu(place.ifindex, mtu) {
        Ok(()) => Ok(Some(mtu)),
        Err(error) if error.is_invalid() && link.mtu < mtu => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is worth knowing of the interface when no server answers: the sentence at the end of an
/// error.
pub(crate) fn health(netns: &Netns, place: &Place) -> String {
    let link = Netlink::open_in(netns).and_then(|netlink| netlink.link_by_index(place.ifindex));
    match link {
        Ok(Some(link)) => describe(&link),
        Ok(None) => format!("{} is gone", place.ifname),
        Err(error) => error.to_string(),
    }
}

fn describe(link: &Link) -> String {
    let Link {
        name, up, carrier, ..
    } = link;
    let parent = link
        .parent
        .and_then(parent_in_our_netns)
        .map(|parent| format!(" (on {parent})"))
        .unwrap_or_default();
    match (up, carrier) {
        (false, _) => format!("{name}{parent} is down"),
        (true, false) => {
            format!("{name}{parent} has no carrier: is its parent up, and the cable in?")
        }
        (true, true) => {
            format!(
                "{name}{parent} is up and has a carrier: is there a DHCP server on this network?"
            )
        }
    }
}

/// The parent's name, as far as the daemon shares the host's netns.
fn parent_in_our_netns(index: u32) -> Option<String> {
    let link = Netlink::open()
        .and_then(|netlink| netlink.link_by_index(index))
        .ok()??;
    Some(link.name)
}
