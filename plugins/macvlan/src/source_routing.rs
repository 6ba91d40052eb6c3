//! `sourceRouting`: the interface answers on its own. What leaves from its addresses is looked up
//! in a table of its own, to which a rule for each address sends it.
//!
//! What a rule is for, its address and its table say: one that leads no interface with that address
//! anywhere is left over, and whoever comes by removes it. So nothing is lost with an interface
//! that went away by itself, was renamed, or had another address in the end than ADD gave it.

use std::iter;

use cni::{CniResult, Error, Request, SourceRouting, Version, code};
use ipnet::IpNet;
use linknet::{Link, Netlink, Protocol, Route, Rule};

use crate::addresses::refused;
use crate::check::differs;
use crate::config::Config;
use crate::make::asking;

/// Refuses the key where it can have no effect.
///
/// # Errors
/// 7.
pub(crate) fn fits(config: &Config, request: &Request) -> Result<(), Error> {
    if config.source_routing.is_off() || request.config.ipam_type().is_some() {
        return Ok(());
    }
    let what = "invalid network configuration: sourceRouting is about the addresses of the interface, and without ipam \
                it has none";
    Err(Error::new(code::INVALID_NETWORK_CONFIG, what))
}

/// ADD: makes sure that the table is not another interface's: what comes from both would leave
/// through one of them.
///
/// # Errors
/// 7.
pub(crate) fn ensure_free(inside: &Netlink, config: &Config, link: &Link) -> Result<(), Error> {
    let Some(table) = config.source_routing.table(link.index) else {
        return Ok(());
    };
    sweep(inside, &[]).map_err(|error| asking(&error))?;
    let rules = inside.rules().map_err(|error| asking(&error))?;
    match rules.iter().find(|rule| rule.table == table && rule.protocol == Protocol::LEASEHOLD) {
        None => Ok(()),
        Some(rule) => Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!(
                "invalid network configuration: sourceRouting: table {table} is in use for {} in this container",
                rule.from.addr()
            ),
        )
        .details("each network needs a table of its own; `true` finds one")),
    }
}

/// The result with the routes as they are made: see [`SourceRouting::routes`].
pub(crate) fn routed(result: CniResult, config: &Config, link: &Link) -> CniResult {
    let Some(table) = config.source_routing.table(link.index) else {
        return result;
    };
    let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    CniResult {
        routes: SourceRouting::routes(table, &addresses, &result.routes),
        ..result
    }
}

/// The same as far as the runtime can be told: before 1.1.0 a route cannot name its table, and
/// would seem to be there twice.
pub(crate) fn told(result: CniResult, version: Version, config: &Config, link: &Link) -> CniResult {
    if version < Version::V1_1_0 {
        result
    } else {
        routed(result, config, link)
    }
}

/// ADD: sends what leaves from the result's addresses to the table, where there is anything for it.
///
/// # Errors
/// 7 for what the kernel refuses.
pub(crate) fn add_rules(
    inside: &Netlink,
    config: &Config,
    link: &Link,
    made: &CniResult,
) -> Result<(), Error> {
    let Some(table) = config.source_routing.table(link.index) else {
        return Ok(());
    };
    for address in made.ips.iter().map(|ip| ip.address.addr()) {
        let leads = |route: &cni::Route| {
            route.table == Some(table) && route.dst.addr().is_ipv6() == address.is_ipv6()
        };
        if !made.routes.iter().any(leads) {
            continue;
        }
        match inside.add_rule(&Rule::from_address(address, table)) {
            // IPAM may list an address twice.
            Err(error) if !error.is_exists() => return Err(refused(&error)),
            _ => {}
        }
    }
    Ok(())
}

/// A route through the interface that is not the result's, in every table that it is looked up in.
pub(crate) fn everywhere(
    route: Route,
    config: &Config,
    link: &Link,
) -> impl Iterator<Item = Route> {
    let own = config.source_routing.table(link.index);
    let own = own.map(|table| Route {
        table,
        ..route.clone()
    });
    iter::once(route).chain(own)
}

/// CHECK: every address must have its rule, and what is beside it its way. The other routes are in
/// the result, with their table where it can name one.
///
/// # Errors
/// 110.
pub(crate) fn check(
    inside: &Netlink,
    link: &Link,
    config: &Config,
    ours: &[IpNet],
) -> Result<(), Error> {
    let Some(table) = config.source_routing.table(link.index) else {
        return Ok(());
    };
    let rules = inside.rules().map_err(|error| asking(&error))?;
    let routes = inside
        .routes(Some(link.index))
        .map_err(|error| asking(&error))?;
    for address in ours {
        let rule = Rule::from_address(address.addr(), table);
        let is_there = rules
            .iter()
            .any(|found| (found.from, found.table) == (rule.from, rule.table));
        if !is_there && routes.iter().any(|route| is_of(&rule, route)) {
            let what = format!(
                "the rule from {} to table {table} is missing",
                address.addr()
            );
            return Err(differs(&link.name, what));
        }
    }
    for route in SourceRouting::routes(table, ours, &[]) {
        if !routes
            .iter()
            .any(|found| (found.dst, found.table) == (route.dst, table))
        {
            return Err(differs(
                &link.name,
                format!("route {} (table {table}) is missing", route.dst),
            ));
        }
    }
    Ok(())
}

/// Whether the route is one that the rule sends packets to.
fn is_of(rule: &Rule, route: &Route) -> bool {
    route.table == rule.table && route.dst.addr().is_ipv6() == rule.from.addr().is_ipv6()
}

/// Removes the rules of leasehold's that are of no use to any interface with their address, but for
/// those that are leaving. That somebody has the address is not enough: another interface may have
/// had it since from the same pool.
///
/// Address and routes come before the rule and go after it, and the rules are listed first here: so
/// one that is just being made is never taken for a remainder.
///
/// # Errors
/// Whatever the kernel refused.
pub(crate) fn sweep(inside: &Netlink, leaving: &[Link]) -> linknet::Result<()> {
    let mut rules = inside.rules()?;
    rules.retain(|rule| rule.protocol == Protocol::LEASEHOLD);
    if rules.is_empty() {
        return Ok(());
    }
    let (mut addresses, routes) = (inside.all_addresses()?, inside.routes(None)?);
    addresses.retain(|address| !leaving.iter().any(|link| link.index == address.index));
    let is_needed = |rule: &Rule| {
        let mut users = addresses
            .iter()
            .filter(|address| address.net.addr() == rule.from.addr());
        users.any(|user| {
            routes
                .iter()
                .any(|route| route.index == user.index && is_of(rule, route))
        })
    };
    for rule in rules.iter().filter(|rule| !is_needed(rule)) {
        match inside.delete_rule(rule) {
            Err(error) if !error.is_absent() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
