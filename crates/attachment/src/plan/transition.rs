//! The difference between two plans, and applying it.

use std::fmt;

use linknet::{Error, Netlink, NewAddress, Result, Route, Rule};

use super::{Plan, route_text, rule_text};

/// The changes that were made, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<String>);

impl Changes {
    /// Adds a change before all others.
    pub fn prepend(&mut self, change: String) {
        self.0.insert(0, change);
    }

    fn push(&mut self, change: String) {
        self.0.push(change);
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

/// The changes that lead from one plan to another.
#[derive(Debug, PartialEq, Eq)]
struct Diff<'a> {
    /// All addresses of the new plan: those that stay get the new lifetimes.
    set: Vec<&'a NewAddress>,
    /// Those of them that the old plan did not have.
    added: Vec<&'a NewAddress>,
    removed: Vec<&'a NewAddress>,
    added_routes: Vec<&'a Route>,
    removed_routes: Vec<&'a Route>,
    added_rules: Vec<&'a Rule>,
    removed_rules: Vec<&'a Rule>,
}

impl Plan {
    /// Changes the interface `ifindex` from this plan to `new`. New addresses and routes are set
    /// before the old ones are removed, so that connections continue where possible. Routes of
    /// `kept` stay as they are.
    ///
    /// Returns the changes, and the kernel's first refusal. After a refusal the other changes are
    /// still made.
    pub fn transition(&self, new: &Plan, netlink: &Netlink, ifindex: u32) -> (Changes, Result<()>) {
        Diff::new(self, new).apply(netlink, ifindex)
    }
}

impl<'a> Diff<'a> {
    fn new(old: &'a Plan, new: &'a Plan) -> Diff<'a> {
        let has = |plan: &Plan, address: &NewAddress| {
            plan.addresses.iter().any(|other| other.net == address.net)
        };
        Diff {
            set: new.addresses.iter().collect(),
            added: without(&new.addresses, |address| has(old, address)),
            removed: without(&old.addresses, |address| has(new, address)),
            added_routes: without(&new.routes, |route| old.routes.contains(route)),
            removed_routes: without(&old.routes, |route| new.routes.contains(route)),
            added_rules: without(&new.rules, |rule| old.rules.contains(rule)),
            removed_rules: without(&old.rules, |rule| new.rules.contains(rule)),
        }
    }

    fn apply(&self, netlink: &Netlink, ifindex: u32) -> (Changes, Result<()>) {
        let mut changes = Changes::default();
        let mut outcome = Ok(());
        let mut note = |result: Result<()>, harmless: fn(&Error) -> bool| {
            if let Err(error) = result
                && !harmless(&error)
                && outcome.is_ok()
            {
                outcome = Err(error);
            }
        };
        for address in &self.set {
            note(netlink.replace_address(ifindex, address), |_| false);
        }
        for address in &self.added {
            changes.push(format!("address {} added", address.net));
        }
        for route in &self.added_routes {
            // There may be a route of another interface to the same destination, which stays.
            note(netlink.prepend_route(route), Error::is_exists);
            changes.push(format!("route {} added", route_text(route)));
        }
        // A rule is added when its table has routes, and removed before they go.
        for rule in &self.added_rules {
            note(netlink.add_rule(rule), Error::is_exists);
            changes.push(format!("rule {} added", rule_text(rule)));
        }
        for rule in &self.removed_rules {
            note(netlink.delete_rule(rule), Error::is_absent);
            changes.push(format!("rule {} removed", rule_text(rule)));
        }
        for route in &self.removed_routes {
            note(netlink.delete_route(route), Error::is_absent);
            changes.push(format!("route {} removed", route_text(route)));
        }
        for address in &self.removed {
            note(
                netlink.delete_address(ifindex, address.net),
                Error::is_absent,
            );
            changes.push(format!("address {} removed", address.net));
        }
        (changes, outcome)
    }
}

/// The items for which `is_elsewhere` is false.
fn without<T>(items: &[T], is_elsewhere: impl Fn(&T) -> bool) -> Vec<&T> {
    items.iter().filter(|item| !is_elsewhere(item)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    fn plan(address: &str, gateway: [u8; 4]) -> Plan {
        let default = "0.0.0.0/0".parse::<ipnet::IpNet>().unwrap();
        Plan {
            addresses: vec![NewAddress::new(address.parse::<ipnet::IpNet>().unwrap())],
            routes: vec![Route::new(default, 7).via(IpAddr::from(gateway))],
            ..Plan::default()
        }
    }

    #[test]
    fn a_lease_that_stays_only_sets_its_address_again() {
        let old = plan("10.0.0.5/24", [10, 0, 0, 1]);
        let mut new = old.clone();
        new.addresses[0].valid = Some(Duration::from_secs(60));
        let diff = Diff::new(&old, &new);
        assert_eq!(diff.set, [&new.addresses[0]]);
        let others = (
            diff.added,
            diff.removed,
            diff.added_routes,
            diff.removed_routes,
        );
        assert_eq!(others, (vec![], vec![], vec![], vec![]));
    }

    #[test]
    fn another_address_and_another_router_replace_the_old_ones() {
        let (old, new) = (
            plan("10.0.0.5/24", [10, 0, 0, 1]),
            plan("10.0.0.6/24", [10, 0, 0, 2]),
        );
        let diff = Diff::new(&old, &new);
        assert_eq!(diff.added, [&new.addresses[0]]);
        assert_eq!(diff.removed, [&old.addresses[0]]);
        assert_eq!(diff.added_routes, [&new.routes[0]]);
        assert_eq!(diff.removed_routes, [&old.routes[0]]);
    }

    #[test]
    fn a_lease_that_is_lost_takes_everything_with_it() {
        let (old, none) = (plan("10.0.0.5/24", [10, 0, 0, 1]), Plan::default());
        let diff = Diff::new(&old, &none);
        assert_eq!((diff.set.len(), diff.added.len()), (0, 0));
        assert_eq!(diff.removed, [&old.addresses[0]]);
        assert_eq!(diff.removed_routes, [&old.routes[0]]);
    }

    #[test]
    fn changes_read_as_a_list() {
        let mut changes = Changes::default();
        assert_eq!(changes.to_string(), "nothing");
        changes.push("MTU 1400".to_owned());
        changes.push("address 10.0.0.6/24 added".to_owned());
        assert_eq!(changes.to_string(), "MTU 1400, address 10.0.0.6/24 added");
    }
}
