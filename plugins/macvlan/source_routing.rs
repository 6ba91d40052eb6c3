//! `sourceRouting`: the interface answers on its own. What leaves from its addresses is looked up in a table of its own,
//! to which a rule for each address sends it.
//!
//! What a rule is for, its address says: one from an address that nobody in the container has any more is left over, and
//! whoever comes by removes it. So nothing is lost with an interface that went away by itself, was renamed, or had
//! another address in the end than ADD gave it.

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

/// ADD: makes sure that the table is not another interface's: what comes from both would leave through one of them.
///
/// # Errors
/// 7.
pub(crate) fn ensure_free(inside: &Netlink, config: &Config, link: &Link) -> Result<(), Error> {
    let Some(table) = config.source_routing.table(link.index) else { return Ok(()) };
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
    let Some(table) = config.source_routing.table(link.index) else { return result };
    let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    CniResult { routes: SourceRouting::routes(table, &addresses, &result.routes), ..result }
}

/// The same as far as the runtime can be told: before 1.1.0 a route cannot name its table, and would seem to be there
/// twice.
pub(crate) fn told(result: CniResult, version: Version, config: &Config, link: &Link) -> CniResult {
    if version < Version::V1_1_0 { result } else { routed(result, config, link) }
}

/// ADD: sends what leaves from the result's addresses to the table.
///
/// # Errors
/// 7 for what the kernel refuses.
pub(crate) fn add_rules(
    inside: &Netlink,
    config: &Config,
    link: &Link,
    result: &CniResult,
) -> Result<(), Error> {
    let Some(table) = config.source_routing.table(link.index) else { return Ok(()) };
    for ip in &result.ips {
        match inside.add_rule(&Rule::from_address(ip.address.addr(), table)) {
            // IPAM may list an address twice.
            Err(error) if !error.is_exists() => return Err(refused(&error)),
            _ => {}
        }
    }
    Ok(())
}

/// A route through the interface that is not the result's, in every table that it is looked up in.
pub(crate) fn everywhere(route: Route, config: &Config, link: &Link) -> impl Iterator<Item = Route> {
    let own = config.source_routing.table(link.index);
    let own = own.map(|table| Route { table, ..route.clone() });
    iter::once(route).chain(own)
}

/// CHECK: every address must have its rule, and what is beside it its way. The other routes are in the result, with
/// their table where it can name one.
///
/// # Errors
/// 110.
pub(crate) fn check(inside: &Netlink, link: &Link, config: &Config, ours: &[IpNet]) -> Result<(), Error> {
    let Some(table) = config.source_routing.table(link.index) else { return Ok(()) };
    let rules = inside.rules().map_err(|error| asking(&error))?;
    for address in ours {
        let rule = Rule::from_address(address.addr(), table);
        if !rules.iter().any(|found| (found.from, found.table) == (rule.from, rule.table)) {
            let what = format!("the rule from {} to table {table} is missing", address.addr());
            return Err(differs(&link.name, what));
        }
    }
    let routes = inside.routes(Some(link.index)).map_err(|error| asking(&error))?;
    for route in SourceRouting::routes(table, ours, &[]) {
        if !routes.iter().any(|found| (found.dst, found.table) == (route.dst, table)) {
            return Err(differs(&link.name, format!("route {} (table {table}) is missing", route.dst)));
        }
    }
    Ok(())
}

/// Removes the rules of leasehold's from addresses that nobody in the container has but the interfaces that are leaving.
///
/// An address comes before its rule and goes after it, and the rules are listed first here: so one that is just being
/// made is never taken for a remainder.
///
/// # Errors
/// Whatever the kernel refused.
pub(crate) fn sweep(inside: &Netlink, leaving: &[Link]) -> linknet::Result<()> {
    let mut rules = inside.rules()?;
    rules.retain(|rule| rule.protocol == Protocol::LEASEHOLD);
    if rules.is_empty() {
        return Ok(());
    }
    let mut addresses = inside.all_addresses()?;
    addresses.retain(|address| !leaving.iter().any(|link| link.index == address.index));
    for rule in rules {
        if addresses.iter().any(|address| address.net.addr() == rule.from.addr()) {
            continue;
        }
        match inside.delete_rule(&rule) {
            Err(error) if !error.is_absent() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
