//! The kernel objects that follow from a result, in the container: ADD applies a plan, CHECK
//! compares it with the kernel, and a renewal brings the interface from one plan to another.

pub mod gateways;
pub mod keep_routes;
mod present;
mod routes;
pub mod source_routing;
mod transition;

use std::fmt;
use std::time::Duration;

use cni::{CniResult, Error};
use ipnet::IpNet;
use linknet::{Link, Netlink, NewAddress, Route, Rule};

use crate::error::KernelError;
use crate::lifetime::valid_lifetime;
use present::Present;
use source_routing::SourceRouting;

pub use transition::{Changes, Transition};

/// The addresses, routes and rules of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Routes through other interfaces, which must come before the others (`keepRoutes`).
    pub kept: Vec<Route>,
    /// Addresses of the interface. One that the kernel loses with the lease has a lifetime.
    pub addresses: Vec<NewAddress>,
    /// Routes through the interface, in an order in which each can be set.
    pub routes: Vec<Route>,
    /// Rules that send packets to the interface's own table (`sourceRouting`).
    pub rules: Vec<Rule>,
}

/// A route that the kernel rejected, and that the interface does without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    route: Route,
    refusal: linknet::Error,
}

impl LeftOut {
    /// Its destination.
    pub fn dst(&self) -> IpNet {
        self.route.dst
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeftOut { route, refusal } = self;
        write!(
            f,
            "route {} is left out: cannot {refusal}",
            route_text(route)
        )
    }
}

impl Plan {
    /// The plan that follows from an IPAM plugin's result, for the interface `ifindex`.
    pub fn new(result: &CniResult, ifindex: u32, source_routing: SourceRouting) -> Plan {
        let expanded = source_routing::expand(result.clone(), source_routing, ifindex);
        let routes = routes::for_kernel(ifindex, &expanded.ips, &expanded.routes);
        let addresses = result.ips.iter().map(|ip| ip.address.addr());
        let rules = source_routing.table(ifindex).into_iter().flat_map(|table| {
            let rules = addresses
                .clone()
                .map(move |address| source_routing::rule(address, table));
            rules.filter(|rule| {
                routes
                    .iter()
                    .any(|route| source_routing::leads_to(rule, route))
            })
        });
        Plan {
            rules: rules.collect(),
            addresses: result.ips.iter().map(new_address).collect(),
            kept: Vec::new(),
            routes,
        }
    }

    /// The plan that ADD followed, as far as `prevResult` shows it. `addresses` are those of our
    /// interface `ifindex`; the routes may be other plugins' too, so gateways outside every prefix
    /// have no route of their own here.
    pub fn of_reported(
        previous: &CniResult,
        addresses: &[IpNet],
        ifindex: u32,
        source_routing: SourceRouting,
    ) -> Plan {
        let mut routes = routes::as_reported(ifindex, &previous.ips, &previous.routes);
        let mut rules = Vec::new();
        if let Some(table) = source_routing.table(ifindex) {
            let on_link = source_routing::on_link(table, addresses);
            routes.extend(routes::as_reported(ifindex, &[], &on_link));
            let to_rule = |address: &IpNet| source_routing::rule(address.addr(), table);
            rules = addresses.iter().map(to_rule).collect();
        }
        Plan {
            kept: Vec::new(),
            addresses: addresses.iter().copied().map(NewAddress::new).collect(),
            routes,
            rules,
        }
    }

    /// Sets everything. An item that IPAM lists twice is set once. A route to a destination that is
    /// `optional` is left out if the kernel rejects it; those routes are returned.
    ///
    /// # Errors
    /// 7 if the kernel refuses, naming the address, route or rule. The objects that were set by
    /// then stay; they disappear with the interface, or with [`keep_routes::remove`] and
    /// [`source_routing::remove_stale_rules`].
    pub fn apply(
        &self,
        inside: &Netlink,
        link: &Link,
        optional: impl Fn(&IpNet) -> bool,
    ) -> Result<Vec<LeftOut>, Error> {
        let mut left_out = Vec::new();
        for route in &self.kept {
            // One that a killed ADD left behind is replaced.
            inside.replace_route(route).or_rejected()?;
        }
        for address in &self.addresses {
            add_address(inside, link, address)?;
        }
        for route in &self.routes {
            match routes::add(inside, route) {
                Err(refusal) if refusal.is_rejected() && optional(&route.dst) => {
                    let route = route.clone();
                    left_out.push(LeftOut { route, refusal });
                }
                outcome => outcome.or_rejected()?,
            }
        }
        for rule in &self.rules {
            match inside.add_rule(rule) {
                Err(error) if error.is_exists() => {}
                outcome => outcome.or_rejected()?,
            }
        }
        Ok(left_out)
    }

    /// The first address, route or rule that is missing in the kernel.
    ///
    /// A later plugin of the chain may have moved a route of the main table to another one, as
    /// `sbr` and `vrf` do, or replaced it by one through another gateway on the same
    /// interface. A rule may be missing while nothing is in its table.
    ///
    /// # Errors
    /// 111 if the kernel cannot be asked.
    pub fn difference(&self, inside: &Netlink, link: &Link) -> Result<Option<String>, Error> {
        let (present, problems) = Present::read(inside, link.index, &[self], Present::default());
        (problems.into_iter().next())
            .map_or(Ok(()), Err)
            .or_kernel_error()?;
        let mut addresses = self.addresses.iter();
        let missing_address = addresses.find(|wanted| !present.addresses.contains(&wanted.net));
        let missing_among = |routes: &[Route]| {
            let is_present = |wanted| routes.iter().any(|it| present::replaces(it, wanted));
            let mut expected = self.routes.iter().filter(|it| present.has_place_for(it));
            expected.find(|wanted| !is_present(wanted))
        };
        let missing_route = match missing_among(&present.routes) {
            // Another plugin's may lead through another interface.
            Some(_) => missing_among(&inside.routes(None).or_kernel_error()?),
            None => None,
        };
        let missing_rule = self
            .rules
            .iter()
            .find(|wanted| !present.has_rule(wanted) && present.leads_somewhere(wanted));
        Ok(missing_address
            .map(|address| format!("address {}", address.net))
            .or_else(|| missing_route.map(|route| format!("route {}", route_text(route))))
            .or_else(|| missing_rule.map(|rule| format!("rule {}", rule_text(rule))))
            .map(|missing| format!("{missing} is missing")))
    }
}

/// The address with the lifetime of its lease: it expires even if the daemon that renews it has
/// died.
fn new_address(ip: &cni::IpConfig) -> NewAddress {
    let lifetime = valid_lifetime(ip).map(|seconds| Duration::from_secs(seconds.into()));
    NewAddress {
        valid: lifetime,
        preferred: lifetime,
        ..NewAddress::new(ip.address)
    }
}

fn add_address(inside: &Netlink, link: &Link, address: &NewAddress) -> Result<(), Error> {
    let refusal = match inside.add_address(link.index, address) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    // IPv6 has an address once, whatever its prefix.
    if refusal.is_exists() {
        let existing = inside.addresses(link.index).or_rejected()?;
        if existing.iter().any(|existing| existing.net == address.net) {
            return Ok(());
        }
    }
    Err(refusal).or_rejected()
}

/// A route as errors and logs name it.
fn route_text(route: &Route) -> String {
    let via = match route.gateway {
        Some(gateway) => format!(" via {gateway}"),
        None => String::new(),
    };
    let table = match route.table {
        Route::MAIN => String::new(),
        table => format!(" in table {table}"),
    };
    format!("{}{via}{table}", route.dst)
}

/// A rule as errors and logs name it.
fn rule_text(rule: &Rule) -> String {
    format!("from {} to table {}", rule.from.addr(), rule.table)
}

#[cfg(test)]
mod tests;
