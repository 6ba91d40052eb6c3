//! The rules that send packets to the table of their interface.

use std::net::IpAddr;

use cni::{Error, code};
use linknet::{Link, Netlink, Route, Rule, or_absent};

use super::key::SourceRouting;
use crate::error::KernelError;
use crate::ownership::PROTOCOL;

/// The priority of every rule. It comes before the main table's (32766), and before rules that were
/// added without a priority, which the kernel numbers downwards from there.
const PRIORITY: u32 = 32000;

/// The rule that sends packets from `address` to `table`.
pub(in crate::plan) fn rule(address: IpAddr, table: u32) -> Rule {
    Rule {
        from: address.into(),
        table,
        priority: PRIORITY,
        protocol: PROTOCOL,
    }
}

/// Whether the route is one that the rule sends packets to.
pub(in crate::plan) fn leads_to(rule: &Rule, route: &Route) -> bool {
    route.table == rule.table && route.dst.addr().is_ipv6() == rule.from.addr().is_ipv6()
}

/// ADD: refuses a table that another interface uses, since the packets of both interfaces would
/// leave through one of them.
///
/// # Errors
/// 7 if the table is in use; 111 if the kernel cannot be asked.
pub fn ensure_table_is_free(
    inside: &Netlink,
    source_routing: SourceRouting,
    link: &Link,
) -> Result<(), Error> {
    let Some(table) = source_routing.table(link.index) else {
        return Ok(());
    };
    remove_stale_rules(inside, &[]).or_kernel_error()?;
    let rules = inside.rules().or_kernel_error()?;
    let user = rules
        .iter()
        .find(|rule| rule.table == table && rule.protocol == PROTOCOL);
    let Some(user) = user else {
        return Ok(());
    };
    let what = format!(
        "invalid network configuration: sourceRouting: table {table} is in use for {} in this \
         container already",
        user.from.addr()
    );
    Err(Error::new(code::INVALID_NETWORK_CONFIG, what)
        .details("each network needs a table of its own; `true` chooses one"))
}

/// Removes leasehold's stale rules: those whose table leads to no interface with their address, not
/// counting the `leaving` interfaces. It is not enough that some interface has the address: it may
/// have got it from the same pool since.
///
/// ADD sets address and routes before the rule, DEL removes them after it, and this function lists
/// the rules first. So it never mistakes a rule that is just being added for a stale one.
///
/// # Errors
/// The kernel's refusal.
pub fn remove_stale_rules(inside: &Netlink, leaving: &[Link]) -> linknet::Result<()> {
    let mut rules = inside.rules()?;
    rules.retain(|rule| rule.protocol == PROTOCOL);
    if rules.is_empty() {
        return Ok(());
    }
    let mut addresses = inside.all_addresses()?;
    let mut routes = Vec::new();
    let mut tables: Vec<u32> = rules.iter().map(|rule| rule.table).collect();
    tables.sort_unstable();
    tables.dedup();
    for table in tables {
        routes.extend(inside.routes_in_table(table)?);
    }
    addresses.retain(|address| !leaving.iter().any(|link| link.index == address.index));
    let is_needed = |rule: &Rule| {
        let mut users = addresses
            .iter()
            .filter(|address| address.net.addr() == rule.from.addr());
        users.any(|user| {
            let mut through_user = routes.iter().filter(|route| route.index == user.index);
            through_user.any(|route| leads_to(rule, route))
        })
    };
    for rule in rules.iter().filter(|rule| !is_needed(rule)) {
        or_absent(inside.delete_rule(rule))?;
    }
    Ok(())
}
