//! `sourceRouting`: rules that have become stale, and tables that are taken.

use std::net::IpAddr;

use attachment::source_routing::{SourceRouting, ensure_table_is_free, remove_stale_rules};
use attachment::{PROTOCOL, Plan};
use cni::{CniResult, IpConfig, code};
use lab::anyhow::{anyhow, ensure};
use lab::{Lan, Result, Test, World, test};
use linknet::{Link, Netlink, Protocol, Rule};

use crate::container;

pub(crate) const TESTS: &[Test] = &[
    test!(a_rule_is_stale_when_no_interface_with_its_address_is_led_to),
    test!(a_table_is_taken_while_a_rule_of_ours_leads_to_an_interface),
];

const TABLE: u32 = 50;

/// A container whose interface has a table of its own: a socket in it, and the interface.
fn with_table() -> Result<(Netlink, Link)> {
    let lan = Lan::new()?;
    let (container, link) = container(&lan, "c1")?;
    let inside = container.netlink()?;
    let result = CniResult {
        ips: vec![IpConfig::new("10.99.0.50/24".parse()?)],
        ..CniResult::default()
    };
    let plan = Plan::new(&result, link.index, SourceRouting::Table(TABLE));
    let applied = plan.apply(&inside, &link, |_| false);
    applied.map_err(|error| anyhow!("{error:?}"))?;
    Ok((inside, link))
}

fn rule(from: &str, table: u32, protocol: Protocol) -> Result<Rule> {
    Ok(Rule {
        from: from.parse::<IpAddr>()?.into(),
        table,
        priority: 32000,
        protocol,
    })
}

/// The sources and tables of the rules that this library would remove.
fn ours(inside: &Netlink) -> Result<Vec<(String, u32)>> {
    let rules = inside.rules()?;
    let ours = rules.iter().filter(|rule| rule.protocol == PROTOCOL);
    Ok(ours
        .map(|rule| (rule.from.addr().to_string(), rule.table))
        .collect())
}

fn a_rule_is_stale_when_no_interface_with_its_address_is_led_to(_: &World) -> Result {
    let (inside, link) = with_table()?;
    let needed = vec![("10.99.0.50".to_owned(), TABLE)];
    ensure!(ours(&inside)? == needed);
    let anothers = rule("10.99.0.77", TABLE, Protocol::DHCP)?;
    for other in [
        rule("10.99.0.77", TABLE, PROTOCOL)?,     // not an address here
        rule("10.99.0.50", TABLE + 1, PROTOCOL)?, // an empty table
        rule("fd99::50", TABLE, PROTOCOL)?,       // a table without IPv6
        anothers,
    ] {
        inside.add_rule(&other)?;
    }
    remove_stale_rules(&inside, &[])?;
    ensure!(ours(&inside)? == needed, "{:?}", ours(&inside)?);
    ensure!(inside.rules()?.contains(&anothers));

    remove_stale_rules(&inside, &[link])?;
    ensure!(ours(&inside)?.is_empty());
    Ok(())
}

fn a_table_is_taken_while_a_rule_of_ours_leads_to_an_interface(_: &World) -> Result {
    let (inside, link) = with_table()?;
    let code = |table| {
        let free = ensure_table_is_free(&inside, SourceRouting::Table(table), &link);
        free.err().map_or(0, |error| error.code)
    };
    ensure!(code(TABLE) == code::INVALID_NETWORK_CONFIG);
    ensure!(code(TABLE + 1) == 0);
    inside.add_rule(&rule("10.99.0.77", TABLE + 1, Protocol::DHCP)?)?;
    ensure!(code(TABLE + 1) == 0, "a rule of another program");
    ensure!(ensure_table_is_free(&inside, SourceRouting::Off, &link).is_ok());
    inside.delete_address(link.index, "10.99.0.50/24".parse::<ipnet::IpNet>()?)?;
    ensure!(code(TABLE) == 0, "the rule was stale");
    ensure!(ours(&inside)?.is_empty());
    Ok(())
}
