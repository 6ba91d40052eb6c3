//! Applying a plan, comparing it with the kernel, and going from one to another.

use std::net::IpAddr;

use attachment::source_routing::SourceRouting;
use attachment::{LeftOut, Plan};
use cni::{CniResult, IpConfig, code};
use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::{Lan, Node, Result, Test, World, test};
use linknet::{Link, Netlink, NewAddress, Route};

use crate::container;

pub(crate) const TESTS: &[Test] = &[
    test!(a_plan_that_was_applied_is_found_in_the_kernel),
    test!(what_is_missing_is_named),
    test!(a_route_that_is_rejected_is_left_out_where_that_is_allowed),
    test!(an_ipv6_address_with_another_prefix_is_another_address),
    test!(another_lease_replaces_addresses_routes_and_rules),
    test!(what_the_kernel_refuses_is_not_in_force),
    test!(an_old_route_stays_if_its_successor_is_refused),
    test!(what_can_only_be_set_after_the_rest_is_set_in_the_end),
    test!(a_route_that_somebody_replaced_stays_replaced),
    test!(routes_to_one_destination_are_all_set_again),
    test!(what_is_too_long_to_be_read_is_not_compared),
];

/// A container, its interface, and a socket in it.
struct Subject {
    _lan: Lan,
    container: Node,
    link: Link,
    inside: Netlink,
}

impl Subject {
    fn new() -> Result<Subject> {
        let lan = Lan::new()?;
        let (container, link) = container(&lan, "c1")?;
        Ok(Subject {
            inside: container.netlink()?,
            _lan: lan,
            container,
            link,
        })
    }

    /// The plan for an address of each family, with a default route and a table of its own.
    fn plan(&self, last: u8) -> Result<Plan> {
        let address = |text: String| -> Result<IpConfig> { Ok(IpConfig::new(text.parse()?)) };
        let route = |dst: &str, gateway: &str| -> Result<cni::Route> {
            Ok(cni::Route {
                gw: Some(gateway.parse()?),
                ..cni::Route::new(dst.parse()?)
            })
        };
        let result = CniResult {
            ips: vec![
                address(format!("10.99.0.{last}/24"))?,
                address(format!("fd99::{last}/64"))?,
            ],
            routes: vec![
                route("0.0.0.0/0", "10.99.0.1")?,
                route("10.8.0.0/16", &format!("10.99.0.{}", last + 1))?,
                route("::/0", "fd99::1")?,
            ],
            ..CniResult::default()
        };
        Ok(Plan::new(&result, self.link.index, SourceRouting::Own))
    }

    fn apply(&self, plan: &Plan) -> Result<Vec<LeftOut>> {
        let left_out = plan.apply(&self.inside, &self.link, |_| false);
        left_out.map_err(|error| lab::anyhow::anyhow!("{error:?}"))
    }

    /// What is missing of a plan.
    fn missing(&self, plan: &Plan) -> Result<String> {
        let difference = plan.difference(&self.inside, &self.link);
        let difference = difference.map_err(|error| lab::anyhow::anyhow!("{error:?}"))?;
        Ok(difference.unwrap_or_default())
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn a_plan_that_was_applied_is_found_in_the_kernel(_: &World) -> Result {
    let subject = Subject::new()?;
    let plan = subject.plan(50)?;
    ensure!(plan.rules.len() == 2 && plan.routes.len() > 3, "{plan:?}");
    // What is there already is no error.
    for _ in 0..2 {
        ensure!(subject.apply(&plan)?.is_empty());
        ensure!(subject.missing(&plan)?.is_empty());
    }
    Ok(())
}

fn what_is_missing_is_named(_: &World) -> Result {
    let subject = Subject::new()?;
    let (inside, index) = (&subject.inside, subject.link.index);
    let plan = subject.plan(50)?;
    ensure!(subject.missing(&plan)? == "address 10.99.0.50/24 is missing");
    subject.apply(&plan)?;

    let table = plan.rules[0].table;
    let is_it = |route: &&Route| route.dst == net("10.8.0.0/16") && route.table == table;
    let route = plan.routes.iter().find(is_it).context("a route")?;
    inside.delete_route(route)?;
    let expected = format!("route 10.8.0.0/16 via 10.99.0.51 in table {table} is missing");
    ensure!(subject.missing(&plan)? == expected);
    // A later plugin may have chosen another gateway.
    inside.add_route(&route.clone().via(ip("10.99.0.77")))?;
    ensure!(subject.missing(&plan)?.is_empty());

    let rule = &plan.rules[0];
    inside.delete_rule(rule)?;
    let expected = format!("rule from 10.99.0.50 to table {} is missing", rule.table);
    ensure!(subject.missing(&plan)? == expected);
    // It would lead nowhere.
    for route in inside.routes(Some(index))? {
        if route.table == rule.table && route.dst.addr().is_ipv4() {
            inside.delete_route(&route)?;
        }
    }
    let without_routes = Plan {
        routes: Vec::new(),
        ..plan
    };
    ensure!(subject.missing(&without_routes)?.is_empty());
    Ok(())
}

fn a_route_that_is_rejected_is_left_out_where_that_is_allowed(_: &World) -> Result {
    let subject = Subject::new()?;
    let out_of_reach = Route::new(net("10.8.0.0/16"), subject.link.index).via(ip("192.0.2.1"));
    let plan = Plan {
        addresses: vec![NewAddress::new(net("10.99.0.50/24"))],
        routes: vec![out_of_reach],
        ..Plan::default()
    };
    let apply = |optional: bool| plan.apply(&subject.inside, &subject.link, |_| optional);
    let refusal = apply(false).err().context("it is out of reach")?;
    ensure!(refusal.code == code::INVALID_NETWORK_CONFIG, "{refusal:?}");
    let left_out = apply(true).ok().context("it may be left out")?;
    ensure!(left_out.len() == 1 && left_out[0].dst() == net("10.8.0.0/16"));
    let text = left_out[0].to_string();
    let expected = "route 10.8.0.0/16 via 192.0.2.1 is left out: cannot add route";
    ensure!(text.starts_with(expected), "{text}");
    Ok(())
}

fn an_ipv6_address_with_another_prefix_is_another_address(_: &World) -> Result {
    let subject = Subject::new()?;
    let plan = |address| Plan {
        addresses: vec![NewAddress::new(net(address))],
        ..Plan::default()
    };
    subject.apply(&plan("fd99::50/64"))?;
    subject.apply(&plan("fd99::50/64"))?;
    ensure!(subject.apply(&plan("fd99::50/128")).is_err());
    Ok(())
}

fn another_lease_replaces_addresses_routes_and_rules(_: &World) -> Result {
    let subject = Subject::new()?;
    let (inside, index) = (&subject.inside, subject.link.index);
    let (old, new) = (subject.plan(50)?, subject.plan(60)?);
    subject.apply(&old)?;

    let transition = old.transition(&new, inside, index);
    transition.outcome.clone()?;
    ensure!(transition.in_force == new && transition.has_new_address);
    let changes = transition.changes.to_string();
    for change in [
        "address 10.99.0.60/24 added",
        "route 10.8.0.0/16 via 10.99.0.61 added",
        "rule from 10.99.0.60 to table",
        "route 10.8.0.0/16 via 10.99.0.51 removed",
        "address 10.99.0.50/24 removed",
    ] {
        ensure!(changes.contains(change), "{change}: {changes}");
    }
    ensure!(subject.missing(&new)?.is_empty());
    let rules = inside.rules()?;
    ensure!(!old.rules.iter().any(|rule| rules.contains(rule)));
    let addresses = inside.addresses(index)?;
    ensure!(!addresses.iter().any(|it| it.net == net("10.99.0.50/24")));

    let again = new.transition(&new, inside, index);
    ensure!(again.changes.is_empty() && again.changes.to_string() == "nothing");
    ensure!(again.in_force == new && !again.has_new_address);
    again.outcome?;

    // What was lost in between is set again, and changes nothing else.
    inside.delete_rule(&new.rules[0])?;
    let again = new.transition(&new, inside, index);
    ensure!(
        again
            .changes
            .to_string()
            .starts_with("rule from 10.99.0.60")
    );
    ensure!(
        !again.changes.to_string().contains(", "),
        "{}",
        again.changes
    );
    ensure!(subject.missing(&new)?.is_empty());

    ensure!(!again.changes.is_empty() && again.in_force == new);
    let without_rules = Plan {
        rules: Vec::new(),
        ..new.clone()
    };
    let again = new.transition(&without_rules, inside, index);
    ensure!(again.in_force == without_rules, "{:?}", again.in_force);
    again.outcome?;

    let nothing = Plan::default();
    let left = new.transition(&nothing, inside, index);
    ensure!(left.in_force == nothing && inside.routes(Some(index))?.len() < 4);
    left.outcome?;
    Ok(())
}

fn what_the_kernel_refuses_is_not_in_force(_: &World) -> Result {
    let subject = Subject::new()?;
    let (inside, index) = (&subject.inside, subject.link.index);
    let old = Plan::default();
    let mut new = subject.plan(50)?;
    let out_of_reach = Route::new(net("10.9.0.0/16"), index).via(ip("192.0.2.1"));
    let possible = new.clone();
    new.routes.push(out_of_reach);
    let transition = old.transition(&new, inside, index);
    ensure!(transition.outcome.is_err());
    ensure!(transition.in_force == possible, "{:?}", transition.in_force);
    ensure!(subject.missing(&possible)?.is_empty());
    let changes = transition.changes.to_string();
    ensure!(!changes.contains("10.9.0.0/16"), "{changes}");
    Ok(())
}

fn an_old_route_stays_if_its_successor_is_refused(_: &World) -> Result {
    let subject = Subject::new()?;
    let (inside, index) = (&subject.inside, subject.link.index);
    let plan = |gateways: [&str; 2]| Plan {
        addresses: vec![NewAddress::new(net("10.99.0.50/24"))],
        routes: ["10.8.0.0/16", "10.9.0.0/16"]
            .into_iter()
            .zip(gateways)
            .map(|(dst, gateway)| Route::new(net(dst), index).via(ip(gateway)))
            .collect(),
        ..Plan::default()
    };
    let (old, new) = (plan(["10.99.0.1"; 2]), plan(["192.0.2.1", "10.99.0.2"]));
    subject.apply(&old)?;
    let transition = old.transition(&new, inside, index);
    ensure!(transition.outcome.is_err());
    let routes = inside.routes(Some(index))?;
    ensure!(routes.contains(&old.routes[0]), "it has no successor");
    ensure!(!routes.contains(&old.routes[1]) && routes.contains(&new.routes[1]));
    let in_force = &transition.in_force.routes;
    ensure!(
        in_force.contains(&old.routes[0]) && in_force.len() == 2,
        "{in_force:?}"
    );
    Ok(())
}

fn what_can_only_be_set_after_the_rest_is_set_in_the_end(_: &World) -> Result {
    let subject = Subject::new()?;
    let (inside, index) = (&subject.inside, subject.link.index);
    let to_gateway = Route::new(net("192.0.2.1/32"), index);
    let through_it = Route::new(net("10.8.0.0/16"), index).via(ip("192.0.2.1"));
    let new = Plan {
        addresses: vec![NewAddress::new(net("10.99.0.50/24"))],
        routes: vec![through_it, to_gateway],
        ..Plan::default()
    };
    let transition = Plan::default().transition(&new, inside, index);
    ensure!(transition.in_force == new && transition.has_new_address);
    let changes = transition.changes.to_string();
    ensure!(
        changes.ends_with("route 10.8.0.0/16 via 192.0.2.1 added"),
        "{changes}"
    );
    transition.outcome?;
    ensure!(subject.missing(&new)?.is_empty());
    Ok(())
}

fn a_route_that_somebody_replaced_stays_replaced(_: &World) -> Result {
    let subject = Subject::new()?;
    let (inside, index) = (&subject.inside, subject.link.index);
    let plan = |gateway| Plan {
        addresses: vec![NewAddress::new(net("10.99.0.50/24"))],
        routes: vec![Route::new(net("10.8.0.0/16"), index).via(ip(gateway))],
        ..Plan::default()
    };
    let (old, new) = (plan("10.99.0.1"), plan("10.99.0.2"));
    subject.apply(&old)?;
    let loopback = inside.link("lo")?.context("a loopback")?.index;
    inside.set_up(loopback)?;
    let routes = || -> Result<Vec<Route>> {
        let mut routes = inside.routes(None)?;
        routes.retain(|route| route.dst == net("10.8.0.0/16"));
        Ok(routes)
    };
    let others = [
        Route::new(net("10.8.0.0/16"), index).via(ip("10.99.0.77")),
        Route::new(net("10.8.0.0/16"), loopback),
    ];
    for other in others {
        inside.replace_route(&other)?;
        for wanted in [&old, &new] {
            let transition = old.transition(wanted, inside, index);
            ensure!(transition.changes.is_empty(), "{}", transition.changes);
            ensure!(transition.in_force == *wanted);
            transition.outcome?;
            ensure!(routes()? == std::slice::from_ref(&other), "{:?}", routes()?);
        }
    }
    // One with another metric is no replacement.
    let other = routes()?.remove(0);
    inside.delete_route(&other)?;
    inside.add_route(&Route {
        metric: 100,
        ..other
    })?;
    let transition = old.transition(&old, inside, index);
    let changes = transition.changes.to_string();
    ensure!(changes == "route 10.8.0.0/16 via 10.99.0.1 added");
    ensure!(routes()?.len() == 2);
    Ok(())
}

fn routes_to_one_destination_are_all_set_again(_: &World) -> Result {
    let subject = Subject::new()?;
    let (inside, index) = (&subject.inside, subject.link.index);
    let via = |gateway| Route::new(net("10.8.0.0/16"), index).via(ip(gateway));
    let plan = Plan {
        addresses: vec![NewAddress::new(net("10.99.0.50/24"))],
        routes: vec![via("10.99.0.1"), via("10.99.0.2")],
        ..Plan::default()
    };
    subject.apply(&plan)?;
    for route in &plan.routes {
        inside.delete_route(route)?;
    }
    plan.transition(&plan, inside, index).outcome?;
    let routes = inside.routes(Some(index))?;
    ensure!(plan.routes.iter().all(|it| routes.contains(it)));
    Ok(())
}

fn what_is_too_long_to_be_read_is_not_compared(_: &World) -> Result {
    let subject = Subject::new()?;
    let index = subject.link.index;
    let old = subject.plan(50)?;
    subject.apply(&old)?;
    let route = old.routes.iter().find(|it| it.gateway.is_some());
    subject.inside.delete_route(route.context("a route")?)?;
    subject.inside.delete_address(index, old.addresses[0].net)?;
    for host in 0..200u32 {
        let dst = IpAddr::V4((0x0ac8_0000 + host).into());
        let route = Route::new(IpNet::from(dst), subject.link.index);
        subject.inside.add_route(&route)?;
    }
    let limited = Netlink::open_in(subject.container.netns())?.limited(100);
    let transition = old.transition(&old, &limited, index);
    let error = transition.not_compared.context("too many routes")?;
    ensure!(error.is_too_many(), "{error}");
    transition.outcome?;
    ensure!(transition.has_new_address && transition.in_force == old);
    let changes = transition.changes.to_string();
    ensure!(changes == "address 10.99.0.50/24 added", "{changes}");

    let dst = net("10.8.0.0/16");
    let mut new = old.clone();
    for route in new.routes.iter_mut().filter(|route| route.dst == dst) {
        route.gateway = Some(ip("10.99.0.77"));
    }
    let transition = old.transition(&new, &limited, index);
    transition.outcome?;
    ensure!(transition.not_compared.is_some() && transition.in_force == new);
    let mut left = subject.inside.routes(Some(index))?;
    left.retain(|route| route.dst == dst);
    let is_new = |route: &Route| route.gateway == Some(ip("10.99.0.77"));
    ensure!(left.len() == 2 && left.iter().all(is_new), "{left:?}");
    Ok(())
}
