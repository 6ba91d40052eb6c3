//! Bringing an interface from one plan to another.
//!
//! Three things are compared: the plan in force, the new plan, and what is present in the kernel.
//!
//! - What the new plan has and the kernel lacks is set, also if the plan in force had it: it was
//!   lost (a link that goes down loses its routes), or could not be set the last time.
//! - A route that somebody moved to another table is present, and its successor goes to that table.
//! - A route that is gone, while another one has its destination, metric and table, was replaced on
//!   purpose. That one stays, whatever the new plan has in its place: the kernel is asked to add a
//!   route only if there is no such one.
//! - The routes of an interface in a VRF belong to the VRF's table: none is set in the main one.
//! - What the plan in force has and the new plan lacks is removed, if it is present.
//! - Everything else belongs to somebody else, and stays.
//! - A list that is too long to be read is taken to be as the plan in force says.

use std::fmt;

use linknet::{Error, Netlink, NewAddress, Result, Route, Rule};

use super::present::Present;
use super::{Plan, route_text, rule_text};

/// What became of a transition.
#[derive(Debug)]
pub struct Transition {
    /// The changes that were made.
    pub changes: Changes,
    /// The plan that the interface follows now: the new one, unless the kernel refused something.
    pub in_force: Plan,
    /// Whether the interface has an address that it did not have before.
    pub has_new_address: bool,
    has_removed_address: bool,
    /// Why a part was not compared with the kernel: somebody has added too many objects to it.
    pub not_compared: Option<Error>,
    /// The kernel's first refusal that was not overcome.
    pub outcome: Result<()>,
}

/// The changes that were made, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<String>);

impl Changes {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a change before all others.
    pub fn prepend(&mut self, change: String) {
        self.0.insert(0, change);
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("nothing"),
            changes => f.write_str(&changes.join(", ")),
        }
    }
}

impl Plan {
    /// Brings the interface `ifindex` from this plan, which is in force, to `new`. New addresses
    /// and routes are set before the old ones are removed, so that connections continue where
    /// possible. Routes of `kept` stay as they are.
    ///
    /// What the kernel refuses is tried once more, and the other changes are made in any case.
    pub fn transition(&self, new: &Plan, netlink: &Netlink, ifindex: u32) -> Transition {
        let mut transition = pass(self, new, netlink, ifindex);
        // With an address, the kernel may remove routes and other addresses of its prefix.
        if transition.outcome.is_err() || transition.has_removed_address {
            let second = pass(&transition.in_force, new, netlink, ifindex);
            transition.add(second);
        }
        transition
    }
}

impl Transition {
    fn new(in_force: Plan) -> Transition {
        Transition {
            changes: Changes::default(),
            in_force,
            has_new_address: false,
            has_removed_address: false,
            not_compared: None,
            outcome: Ok(()),
        }
    }

    /// Adds the pass that followed.
    fn add(&mut self, second: Transition) {
        self.changes.0.extend(second.changes.0);
        self.in_force = second.in_force;
        self.has_new_address |= second.has_new_address;
        self.not_compared = second.not_compared;
        self.outcome = second.outcome;
    }

    /// Notes a change, or its refusal. Returns whether it was made.
    fn note(&mut self, result: Result<()>, change: impl FnOnce() -> String) -> bool {
        let is_made = result.is_ok();
        if is_made {
            self.changes.0.push(change());
        }
        self.outcome = std::mem::replace(&mut self.outcome, Ok(())).and(result);
        is_made
    }
}

/// Compares, and makes all changes once.
fn pass(old: &Plan, new: &Plan, netlink: &Netlink, ifindex: u32) -> Transition {
    let mut transition = Transition::new(new.clone());
    let (present, errors) = Present::read(netlink, ifindex, &[old, new], Present::assumed(old));
    for error in errors {
        match error.is_too_many() {
            true => transition.not_compared = Some(error),
            false => transition.outcome = transition.outcome.and(Err(error)),
        }
    }
    Diff::new(old, new, &present).apply(netlink, ifindex, &mut transition);
    transition
}

/// The changes that lead from the plan in force to another one.
#[derive(Debug, PartialEq, Eq)]
struct Diff<'a> {
    /// All addresses of the new plan, with whether each is missing. Those that are present get new
    /// lifetimes.
    addresses: Vec<(&'a NewAddress, bool)>,
    stale_addresses: Vec<&'a NewAddress>,
    missing_routes: Vec<MissingRoute<'a>>,
    stale_routes: Vec<RouteChange<'a>>,
    missing_rules: Vec<&'a Rule>,
    stale_rules: Vec<&'a Rule>,
}

/// A planned route that the kernel lacks.
#[derive(Debug, PartialEq, Eq)]
struct MissingRoute<'a> {
    planned: &'a Route,
    /// The route to set for it, which may be in another table.
    actual: Route,
    /// Whether it, or its predecessor, should be there. Another one in its place stays.
    is_lost: bool,
}

/// A planned route, and the kernel's route for it, which may be in another table.
#[derive(Debug, PartialEq, Eq)]
struct RouteChange<'a> {
    planned: &'a Route,
    actual: Route,
}

impl<'a> Diff<'a> {
    fn new(old: &'a Plan, new: &'a Plan, present: &Present) -> Diff<'a> {
        let is_new = |address: &NewAddress| new.addresses.iter().any(|it| it.net == address.net);
        let missing_routes =
            (new.routes.iter()).filter_map(|planned| missing_route(planned, old, new, present));
        let stale_routes = old.routes.iter().filter_map(|planned| {
            let actual = stale_route(planned, old, new, present)?;
            Some(RouteChange { planned, actual })
        });
        let is_present = |address: &NewAddress| present.addresses.contains(&address.net);
        Diff {
            addresses: (new.addresses.iter().map(|it| (it, !is_present(it)))).collect(),
            stale_addresses: matching(&old.addresses, |it| is_present(it) && !is_new(it)),
            missing_routes: missing_routes.collect(),
            stale_routes: stale_routes.collect(),
            missing_rules: matching(&new.rules, |rule| !present.has_rule(rule)),
            stale_rules: matching(&old.rules, |rule| {
                present.has_rule(rule) && !new.rules.contains(rule)
            }),
        }
    }

    fn apply(&self, netlink: &Netlink, ifindex: u32, transition: &mut Transition) {
        self.set_addresses(netlink, ifindex, transition);
        self.add_routes(netlink, transition);
        // A rule is added when its table has routes, and removed before they go.
        self.change_rules(netlink, transition);
        self.remove_routes(netlink, transition);
        self.remove_addresses(netlink, ifindex, transition);
    }

    fn set_addresses(&self, netlink: &Netlink, ifindex: u32, transition: &mut Transition) {
        for &(address, is_missing) in &self.addresses {
            let set = netlink.replace_address(ifindex, address);
            if is_missing {
                let change = || format!("address {} added", address.net);
                transition.has_new_address |= transition.note(set, change);
            } else if let Err(error) = set {
                transition.note(Err(error), String::new);
            }
        }
    }

    fn add_routes(&self, netlink: &Netlink, transition: &mut Transition) {
        let mut set: Vec<&Route> = Vec::new();
        for MissingRoute {
            planned,
            actual,
            is_lost,
        } in &self.missing_routes
        {
            let has_place_of_set = set.iter().any(|it| it.competes_with(actual));
            let added = match *is_lost && !has_place_of_set {
                true => match netlink.add_route(actual) {
                    Err(error) if error.is_exists() => continue, // somebody replaced it
                    outcome => outcome,
                },
                // A route of another interface to the same destination stays.
                false => tolerate(netlink.prepend_route(actual), Error::is_exists),
            };
            set.push(actual);
            if !transition.note(added, || format!("route {} added", route_text(actual))) {
                transition.in_force.routes.retain(|it| it != *planned);
            }
        }
    }

    fn change_rules(&self, netlink: &Netlink, transition: &mut Transition) {
        for rule in &self.missing_rules {
            let added = tolerate(netlink.add_rule(rule), Error::is_exists);
            if !transition.note(added, || format!("rule {} added", rule_text(rule))) {
                transition.in_force.rules.retain(|it| it != *rule);
            }
        }
        for &rule in &self.stale_rules {
            let removed = tolerate(netlink.delete_rule(rule), Error::is_absent);
            if !transition.note(removed, || format!("rule {} removed", rule_text(rule))) {
                transition.in_force.rules.push(*rule);
            }
        }
    }

    fn remove_routes(&self, netlink: &Netlink, transition: &mut Transition) {
        for RouteChange { planned, actual } in &self.stale_routes {
            // Better the old route than none.
            let successors = self.missing_routes.iter().map(|change| change.planned);
            let has_failed = |it: &Route| !transition.in_force.routes.contains(it);
            let removed = match { successors }.any(|it| it.competes_with(planned) && has_failed(it))
            {
                true => false,
                false => {
                    let removed = tolerate(netlink.delete_route(actual), Error::is_absent);
                    transition.note(removed, || format!("route {} removed", route_text(actual)))
                }
            };
            if !removed {
                transition.in_force.routes.push((*planned).clone());
            }
        }
    }

    fn remove_addresses(&self, netlink: &Netlink, ifindex: u32, transition: &mut Transition) {
        for &address in &self.stale_addresses {
            let removed = netlink.delete_address(ifindex, address.net);
            let removed = tolerate(removed, Error::is_absent);
            match transition.note(removed, || format!("address {} removed", address.net)) {
                true => transition.has_removed_address = true,
                false => transition.in_force.addresses.push(address.clone()),
            }
        }
    }
}

/// The route to set for a planned one, unless it is present.
fn missing_route<'a>(
    planned: &'a Route,
    old: &Plan,
    new: &Plan,
    present: &Present,
) -> Option<MissingRoute<'a>> {
    if present.route(planned, new).is_some() {
        return None;
    }
    let before = old.routes.iter().find(|it| it.competes_with(planned));
    let (actual, is_lost) = match before.map(|before| present.route(before, old)) {
        Some(Some(actual)) => {
            let table = actual.table;
            let successor = planned.clone();
            (Route { table, ..successor }, false)
        }
        // In the main table it would be for the container's other interfaces.
        _ if !present.has_place_for(planned) => return None,
        before => (planned.clone(), before.is_some()),
    };
    Some(MissingRoute {
        planned,
        actual,
        is_lost,
    })
}

/// The route to delete for one of the old plan, if it is present and not part of the new plan.
fn stale_route(planned: &Route, old: &Plan, new: &Plan, present: &Present) -> Option<Route> {
    let actual = present.route(planned, old)?;
    let mut wanted = new.routes.iter().filter_map(|it| present.route(it, new));
    (!wanted.any(|wanted| wanted == actual)).then(|| actual.clone())
}

/// The result, in which an error that makes no difference is none.
fn tolerate(result: Result<()>, makes_no_difference: fn(&Error) -> bool) -> Result<()> {
    match result {
        Err(error) if makes_no_difference(&error) => Ok(()),
        result => result,
    }
}

/// The items for which `is_wanted` is true.
fn matching<T>(items: &[T], is_wanted: impl Fn(&T) -> bool) -> Vec<&T> {
    items.iter().filter(|item| is_wanted(item)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;

    use super::*;

    const OURS: u32 = 7;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn default_via(last: u8) -> Route {
        Route::new(net("0.0.0.0/0"), OURS).via(IpAddr::from([10, 0, 0, last]))
    }

    fn plan(address: &str, routes: &[Route]) -> Plan {
        Plan {
            addresses: vec![NewAddress::new(net(address))],
            routes: routes.to_vec(),
            ..Plan::default()
        }
    }

    /// The plan for 10.0.0.5 with a default route through 10.0.0.1, and with it in the kernel.
    fn in_force() -> (Plan, Present) {
        let plan = plan("10.0.0.5/24", &[default_via(1)]);
        let present = Present::assumed(&plan);
        (plan, present)
    }

    /// The changes as text.
    fn diff(old: &Plan, new: &Plan, present: &Present) -> Vec<String> {
        let diff = Diff::new(old, new, present);
        let missing = diff.addresses.iter().filter(|(_, is_missing)| *is_missing);
        let text = |sign: &str, route: &Route| format!("{sign} {}", route_text(route));
        let added = |missing: &MissingRoute| {
            // One that was lost is set only if nobody has replaced it.
            let sign = if missing.is_lost { "?" } else { "+" };
            text(sign, &missing.actual)
        };
        (missing.map(|(address, _)| format!("+ {}", address.net)))
            .chain(diff.missing_routes.iter().map(added))
            .chain((diff.stale_routes.iter()).map(|change| text("-", &change.actual)))
            .chain(
                diff.stale_addresses
                    .iter()
                    .map(|address| format!("- {}", address.net)),
            )
            .collect()
    }

    #[test]
    fn only_the_error_that_makes_no_difference_is_none() {
        let refused = |errno| Err(Error::refusal("add a route", errno, None));
        assert_eq!(tolerate(Ok(()), Error::is_exists), Ok(()));
        assert_eq!(tolerate(refused(libc::EEXIST), Error::is_exists), Ok(()));
        let denied = refused(libc::EPERM);
        assert_eq!(tolerate(denied.clone(), Error::is_exists), denied);
    }

    #[test]
    fn a_change_can_come_before_all_others() {
        let mut changes = Changes(vec!["second".to_owned()]);
        assert!(!changes.is_empty() && Changes::default().is_empty());
        changes.prepend("first".to_owned());
        assert_eq!(changes.to_string(), "first, second");
    }

    #[test]
    fn a_lease_that_stays_only_sets_its_address_again() {
        let (plan, present) = in_force();
        assert_eq!(diff(&plan, &plan, &present), [""; 0]);
        assert_eq!(
            Diff::new(&plan, &plan, &present).addresses,
            [(&plan.addresses[0], false)]
        );
    }

    #[test]
    fn another_address_and_another_router_replace_the_old_ones() {
        let (old, present) = in_force();
        let new = plan("10.0.0.6/24", &[default_via(2)]);
        let expected = [
            "+ 10.0.0.6/24",
            "+ 0.0.0.0/0 via 10.0.0.2",
            "- 0.0.0.0/0 via 10.0.0.1",
            "- 10.0.0.5/24",
        ];
        assert_eq!(diff(&old, &new, &present), expected);
    }

    #[test]
    fn a_lease_that_is_lost_takes_everything_with_it() {
        let (old, present) = in_force();
        let expected = ["- 0.0.0.0/0 via 10.0.0.1", "- 10.0.0.5/24"];
        assert_eq!(diff(&old, &Plan::default(), &present), expected);
        assert_eq!(diff(&old, &Plan::default(), &Present::default()), [""; 0]);
    }

    #[test]
    fn what_was_lost_is_set_again() {
        let (plan, mut present) = in_force();
        present.routes.clear();
        assert_eq!(diff(&plan, &plan, &present), ["? 0.0.0.0/0 via 10.0.0.1"]);
        present.addresses.clear();
        let expected = ["+ 10.0.0.5/24", "? 0.0.0.0/0 via 10.0.0.1"];
        assert_eq!(diff(&plan, &plan, &present), expected);
    }

    #[test]
    fn a_route_that_could_not_be_set_is_set_beside_another_interfaces() {
        let (new, mut present) = in_force();
        let refused = plan("10.0.0.5/24", &[]);
        present.routes.clear();
        assert_eq!(diff(&refused, &new, &present), ["+ 0.0.0.0/0 via 10.0.0.1"]);
    }

    #[test]
    fn a_route_that_somebody_may_have_replaced_is_set_only_if_nobody_has() {
        let (old, mut present) = in_force();
        let new = plan("10.0.0.5/24", &[default_via(2)]);
        present.routes = vec![default_via(9)];
        assert_eq!(diff(&old, &old, &present), ["? 0.0.0.0/0 via 10.0.0.1"]);
        assert_eq!(diff(&old, &new, &present), ["? 0.0.0.0/0 via 10.0.0.2"]);
    }

    #[test]
    fn a_route_in_another_table_is_followed_there() {
        let (old, mut present) = in_force();
        present.routes[0].table = 100;
        assert_eq!(diff(&old, &old, &present), [""; 0]);
        let new = plan("10.0.0.5/24", &[default_via(2)]);
        let expected = [
            "+ 0.0.0.0/0 via 10.0.0.2 in table 100",
            "- 0.0.0.0/0 via 10.0.0.1 in table 100",
        ];
        assert_eq!(diff(&old, &new, &present), expected);
    }

    #[test]
    fn an_interface_in_a_vrf_gets_no_routes_in_the_main_table() {
        let (plan, mut present) = in_force();
        present.routes.clear();
        present.is_in_vrf = true;
        assert_eq!(diff(&plan, &plan, &present), [""; 0]);
        present.routes = vec![Route {
            table: 10,
            ..default_via(1)
        }];
        let new = Plan {
            routes: vec![default_via(2)],
            ..plan.clone()
        };
        let expected = [
            "+ 0.0.0.0/0 via 10.0.0.2 in table 10",
            "- 0.0.0.0/0 via 10.0.0.1 in table 10",
        ];
        assert_eq!(diff(&plan, &new, &present), expected);
    }

    #[test]
    fn a_route_that_is_planned_in_two_tables_is_restored_in_both() {
        let route = Route::new(net("10.5.0.0/16"), OURS);
        let own = Route {
            table: 1007,
            ..route.clone()
        };
        let plan = plan("10.0.0.5/24", &[route.clone(), own.clone()]);
        let mut present = Present::assumed(&plan);
        present.routes = vec![own];
        assert_eq!(diff(&plan, &plan, &present), ["? 10.5.0.0/16"]);
        present.routes = vec![route];
        assert_eq!(
            diff(&plan, &plan, &present),
            ["? 10.5.0.0/16 in table 1007"]
        );
    }

    #[test]
    fn rules_come_and_go_with_their_address() {
        let rule = super::super::source_routing::rule(IpAddr::from([10, 0, 0, 5]), 1007);
        let (without, mut present) = in_force();
        let with = Plan {
            rules: vec![rule],
            ..without.clone()
        };
        assert_eq!(Diff::new(&with, &with, &present).missing_rules, [&rule]);
        present.rules = vec![rule];
        assert!(Diff::new(&with, &with, &present).missing_rules.is_empty());
        assert_eq!(Diff::new(&with, &without, &present).stale_rules, [&rule]);
    }

    #[test]
    fn changes_read_as_a_list() {
        let mut changes = Changes::default();
        assert_eq!(changes.to_string(), "nothing");
        changes.0.push("MTU 1400".to_owned());
        changes.0.push("address 10.0.0.6/24 added".to_owned());
        assert_eq!(changes.to_string(), "MTU 1400, address 10.0.0.6/24 added");
    }
}
