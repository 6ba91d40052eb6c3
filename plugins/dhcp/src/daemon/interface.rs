//! The container's interface follows its lease: what a renewal changed is changed there, what is
//! lost is removed.

use std::fmt;
use std::time::Duration;

use cni::SourceRouting;
use dhcp4::{Instant, Lease};
use linknet::{Link, Netlink, Netns, NewAddress, Protocol, Route, Rule, Scope};

use super::result;
use crate::place::Place;
use crate::protocol::{Suppress, Terms};

/// What was changed, to be read in a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes(Vec<String>);

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("nothing")
        } else {
            f.write_str(&self.0.join(", "))
        }
    }
}

/// Makes the interface follow from `old` to `new`. The new address and routes come before the old
/// ones go, so that what can go on, does. The kernel takes the address away by itself when the
/// lease ends and nobody is there to do so.
///
/// Returns what was changed, and the first thing that the kernel refused; the rest is done all the
/// same.
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
    let mut changes = Changes::default();
    let mut outcome = Ok(());
    let mut note = |result: linknet::Result<()>| {
        if let Err(error) = result
            && outcome.is_ok()
        {
            outcome = Err(error);
        }
    };
    let routes = |lease: Option<&Lease>| {
        lease
            .map(|lease| routes(place.ifindex, lease, terms))
            .unwrap_or_default()
    };
    let (had, wanted) = (routes(old), routes(new));
    let other_address = new.map(Lease::net) != old.map(Lease::net);
    if let Some(lease) = new {
        note(netlink.replace_address(place.ifindex, &address(lease, now)));
        match set_mtu(&netlink, place, terms, lease) {
            Ok(mtu) => changes.0.extend(mtu.map(|mtu| format!("MTU {mtu}"))),
            Err(error) => note(Err(error)),
        }
    }
    if other_address {
        changes
            .0
            .extend(new.map(|lease| format!("address {} added", lease.net())));
    }
    // Each beside the other, never in its place: what has the same destination may be another
    // interface's.
    for route in wanted.iter().filter(|route| !had.contains(route)) {
        note(ignore(
            linknet::Error::is_exists,
            netlink.prepend_route(route),
        ));
        changes.0.push(format!("route {} added", text(route)));
    }
    // The rule comes when there is something to find, and goes before that does.
    let rule = |lease: Option<&Lease>| lease.and_then(|lease| rule(place.ifindex, lease, terms));
    let (had_rule, wanted_rule) = (rule(old), rule(new));
    if let Some(rule) = wanted_rule.filter(|_| wanted_rule != had_rule) {
        note(ignore(linknet::Error::is_exists, netlink.add_rule(&rule)));
        changes
            .0
            .push(format!("rule from {} added", rule.from.addr()));
    }
    if let Some(rule) = had_rule.filter(|_| wanted_rule != had_rule) {
        note(ignore(
            linknet::Error::is_absent,
            netlink.delete_rule(&rule),
        ));
        changes
            .0
            .push(format!("rule from {} removed", rule.from.addr()));
    }
    for route in had.iter().filter(|route| !wanted.contains(route)) {
        note(ignore(
            linknet::Error::is_absent,
            netlink.delete_route(route),
        ));
        changes.0.push(format!("route {} removed", text(route)));
    }
    if let Some(lease) = old.filter(|_| other_address) {
        note(ignore(
            linknet::Error::is_absent,
            netlink.delete_address(place.ifindex, lease.net()),
        ));
        changes.0.push(format!("address {} removed", lease.net()));
    }
    if new.is_some() && other_address && terms.announce {
        note(linknet::announce(netns, place.ifindex));
    }
    (changes, outcome)
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

/// The address of a lease. The kernel has whole seconds.
fn address(lease: &Lease, now: Instant) -> NewAddress {
    let valid = result::lifetime(lease, now).map(|seconds| Duration::from_secs(seconds.into()));
    NewAddress {
        broadcast: lease
            .options
            .broadcast
            .or(NewAddress::new(lease.net()).broadcast),
        protocol: Some(Protocol::DHCP),
        valid,
        preferred: valid,
        ..NewAddress::new(lease.net())
    }
}

/// The routes of a lease, as the kernel has them: as a plugin sets them that is given our result.
fn routes(ifindex: u32, lease: &Lease, terms: &Terms) -> Vec<Route> {
    let route = |told: cni::Route| {
        let route = Route {
            metric: told.priority.unwrap_or(0),
            table: told.table.unwrap_or(Route::MAIN),
            mtu: told.mtu,
            advmss: told.advmss,
            ..Route::new(told.dst, ifindex)
        };
        let route = match told.gw.filter(|gateway| !gateway.is_unspecified()) {
            Some(gateway) => route.via(gateway),
            None => route,
        };
        Route {
            scope: told.scope.map_or(route.scope, Scope),
            ..route
        }
    };
    let told = result::routes(lease, terms);
    let told = match terms.source_routing.table(ifindex) {
        Some(table) => SourceRouting::routes(table, &[lease.net().into()], &told),
        None => told,
    };
    told.into_iter().map(route).collect()
}

/// What sends packets from the address to the table of their own, if they have one.
fn rule(ifindex: u32, lease: &Lease, terms: &Terms) -> Option<Rule> {
    let table = terms.source_routing.table(ifindex)?;
    Some(Rule::from_address(lease.address.into(), table))
}

fn text(route: &Route) -> String {
    let via = route
        .gateway
        .map(|gateway| format!(" via {gateway}"))
        .unwrap_or_default();
    let table = Some(route.table).filter(|table| *table != Route::MAIN);
    let table = table
        .map(|table| format!(" in table {table}"))
        .unwrap_or_default();
    format!("{}{via}{table}", route.dst)
}

fn ignore(what: fn(&linknet::Error) -> bool, result: linknet::Result<()>) -> linknet::Result<()> {
    match result {
        Err(error) if what(&error) => Ok(()),
        other => other,
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
