//! The addresses, routes and rules that are present in the kernel, which plans are compared with.

use ipnet::IpNet;
use linknet::{Error, Netlink, Result, Route, Rule};

use super::Plan;
use super::source_routing;

/// The addresses of an interface, the routes through it, and the rules of its network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) addresses: Vec<IpNet>,
    pub(super) routes: Vec<Route>,
    /// Whether the interface belongs to a VRF, which has a table of its own.
    pub(super) is_in_vrf: bool,
    /// Empty if no plan has rules, because then nobody asks for them.
    pub(super) rules: Vec<Rule>,
}

impl Present {
    /// Reads what these plans for the interface `ifindex` are compared with. What cannot be read is
    /// as `assumed`; the errors say why.
    pub(super) fn read(
        netlink: &Netlink,
        ifindex: u32,
        plans: &[&Plan],
        assumed: Present,
    ) -> (Present, Vec<Error>) {
        let mut errors = Vec::new();
        let have_rules = plans.iter().any(|plan| !plan.rules.is_empty());
        let rules = have_rules.then(|| netlink.rules());
        let present = Present {
            addresses: read_or(addresses(netlink, ifindex), assumed.addresses, &mut errors),
            routes: read_or(netlink.routes(Some(ifindex)), assumed.routes, &mut errors),
            is_in_vrf: read_or(is_in_vrf(netlink, ifindex), assumed.is_in_vrf, &mut errors),
            rules: read_or(rules.unwrap_or(Ok(Vec::new())), assumed.rules, &mut errors),
        };
        (present, errors)
    }

    /// What is present if the kernel has exactly what is planned: a guess for when it cannot be
    /// asked.
    pub(super) fn assumed(plan: &Plan) -> Present {
        Present {
            addresses: plan.addresses.iter().map(|address| address.net).collect(),
            routes: plan.routes.clone(),
            is_in_vrf: false,
            rules: plan.rules.clone(),
        }
    }

    /// Whether a planned route can be expected: the routes of an interface in a VRF belong to the
    /// VRF's table, and the plugin that moved it there may not have moved all of them.
    pub(super) fn has_place_for(&self, planned: &Route) -> bool {
        !(self.is_in_vrf && planned.table == Route::MAIN)
    }

    /// Whether there is the rule, or one for the same packets to the same table.
    pub(super) fn has_rule(&self, wanted: &Rule) -> bool {
        let is_wanted = |rule: &Rule| (rule.from, rule.table) == (wanted.from, wanted.table);
        self.rules.iter().any(is_wanted)
    }

    /// Whether the rule has routes through the interface to lead to.
    pub(super) fn leads_somewhere(&self, rule: &Rule) -> bool {
        let mut routes = self.routes.iter();
        routes.any(|route| source_routing::leads_to(rule, route))
    }

    /// The wanted route of the plan through its own interface: as planned, or in the table that
    /// somebody moved it to.
    pub(super) fn route(&self, wanted: &Route, plan: &Plan) -> Option<&Route> {
        let in_place = |route: &&Route| route.table == wanted.table;
        // Source routing puts a route into several tables, each of which is planned.
        let is_planned_there = |route: &Route| {
            let mut planned = plan.routes.iter();
            planned.any(|other| (other.dst, other.table) == (route.dst, route.table))
        };
        let candidates = || self.routes.iter().filter(|route| fulfils(route, wanted));
        candidates()
            .find(in_place)
            .or_else(|| candidates().find(|route| !is_planned_there(route)))
    }
}

/// What was read, or what is assumed because of an error.
fn read_or<T>(read: Result<T>, assumed: T, errors: &mut Vec<Error>) -> T {
    read.unwrap_or_else(|error| {
        errors.push(error);
        assumed
    })
}

fn addresses(netlink: &Netlink, ifindex: u32) -> Result<Vec<IpNet>> {
    let addresses = netlink.addresses(ifindex)?;
    Ok(addresses.iter().map(|it| it.net).collect())
}

fn is_in_vrf(netlink: &Netlink, ifindex: u32) -> Result<bool> {
    let link = netlink.link_by_index(ifindex)?;
    Ok(link.is_some_and(|link| link.port_kind.as_deref() == Some("vrf")))
}

/// Whether the kernel's route is the wanted one, or the form that a later plugin gave it.
pub(super) fn fulfils(route: &Route, wanted: &Route) -> bool {
    leads_there(route, wanted) && route.gateway == wanted.gateway
}

/// Whether the kernel's route is the wanted one, or takes its place on its interface: a later plugin
/// may have replaced the gateway.
pub(super) fn replaces(route: &Route, wanted: &Route) -> bool {
    fulfils(route, wanted) || leads_there(route, wanted) && route.index == wanted.index
}

/// Whether both lead to the same destination, through whatever gateway.
fn leads_there(route: &Route, wanted: &Route) -> bool {
    route.dst == wanted.dst && (route.table == wanted.table || wanted.table == Route::MAIN)
}
