//! The container's interface follows its lease: what a renewal changed is changed there, what is lost is removed.

use std::net::IpAddr;

use dhcp4::Lease;
use ipnet::IpNet;
use linknet::{Link, Netlink, Netns, NewAddress, Protocol, Route};

use crate::place::Place;
use crate::protocol::Terms;

/// RTPROT_DHCP of linux/rtnetlink.h.
const DHCP: Protocol = Protocol(16);

/// Makes the interface follow from `old` to `new`. The new address and routes come before the old ones go, so that
/// what can go on, does.
///
/// # Errors
/// The first thing that the kernel refused; the rest is done all the same.
pub(crate) fn follow(
    netns: &Netns,
    place: &Place,
    terms: &Terms,
    old: Option<&Lease>,
    new: Option<&Lease>,
) -> linknet::Result<()> {
    let netlink = Netlink::open_in(netns)?;
    let mut outcome = Ok(());
    let mut note = |result: linknet::Result<()>| {
        if let Err(error) = result
            && outcome.is_ok()
        {
            outcome = Err(error);
        }
    };
    let routes =
        |lease: Option<&Lease>| lease.map(|lease| routes(place.ifindex, lease, terms)).unwrap_or_default();
    let (had, wanted) = (routes(old), routes(new));
    if let Some(lease) = new {
        note(netlink.replace_address(place.ifindex, &address(lease)));
    }
    for route in wanted.iter().filter(|route| !had.contains(route)) {
        note(netlink.replace_route(route));
    }
    for route in had.iter().filter(|route| !wanted.contains(route)) {
        note(ignore_absent(netlink.delete_route(route)));
    }
    if let Some(lease) = old
        && new.map(Lease::net) != Some(lease.net())
    {
        note(ignore_absent(netlink.delete_address(place.ifindex, lease.net())));
    }
    if let Some(lease) = new
        && old.map(Lease::net) != Some(lease.net())
    {
        note(linknet::announce(netns, place.ifindex));
    }
    outcome
}

fn address(lease: &Lease) -> NewAddress {
    NewAddress {
        broadcast: lease.options.broadcast.or(NewAddress::new(lease.net()).broadcast),
        protocol: Some(DHCP),
        ..NewAddress::new(lease.net())
    }
}

/// The routes of a lease. A gateway that no prefix covers gets a route of its own first, as macvlan has it at ADD.
fn routes(ifindex: u32, lease: &Lease, terms: &Terms) -> Vec<Route> {
    let mut on_link = vec![lease.net()];
    let mut routes = Vec::new();
    for route in lease.routes() {
        let shape = |dst: IpNet| Route { metric: terms.priority.unwrap_or(0), ..Route::new(dst, ifindex) };
        match route.gateway {
            None => {
                on_link.push(route.dst);
                routes.push(shape(route.dst.into()));
            }
            Some(gateway) => {
                if !on_link.iter().any(|prefix| prefix.contains(&gateway)) {
                    on_link.push(gateway.into());
                    routes.push(shape(IpAddr::V4(gateway).into()));
                }
                routes.push(shape(route.dst.into()).via(gateway));
            }
        }
    }
    routes
}

fn ignore_absent(result: linknet::Result<()>) -> linknet::Result<()> {
    match result {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// What is worth knowing of the interface when no server answers: the sentence at the end of an error.
pub(crate) fn health(netns: &Netns, place: &Place) -> String {
    let link = Netlink::open_in(netns).and_then(|netlink| netlink.link_by_index(place.ifindex));
    match link {
        Ok(Some(link)) => describe(&link),
        Ok(None) => format!("{} is gone", place.ifname),
        Err(error) => error.to_string(),
    }
}

fn describe(link: &Link) -> String {
    let Link { name, up, carrier, .. } = link;
    let parent =
        link.parent.and_then(parent_in_our_netns).map(|parent| format!(" (on {parent})")).unwrap_or_default();
    match (up, carrier) {
        (false, _) => format!("{name}{parent} is down"),
        (true, false) => format!("{name}{parent} has no carrier: is its parent up, and the cable in?"),
        (true, true) => {
            format!("{name}{parent} is up and has a carrier: is there a DHCP server on this network?")
        }
    }
}

/// The parent's name, as far as the daemon shares the host's netns.
fn parent_in_our_netns(index: u32) -> Option<String> {
    let link = Netlink::open().and_then(|netlink| netlink.link_by_index(index)).ok()??;
    Some(link.name)
}
