//! Policy rules: which table of routes a packet is looked up in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use libc::{RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{Change, Netlink, Protocol, family};
use crate::Result;

/// A rule that sends what comes from some addresses to a table of its own (ip-rule(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The source addresses that it is about; prefix length 0 is all of them.
    pub from: IpNet,
    /// The table that is looked up.
    pub table: u32,
    /// The lower, the sooner it is looked at. The main table's rule has 32766.
    pub priority: u32,
    /// Who made it, from kernel 4.17 on.
    pub protocol: Protocol,
}

impl Netlink {
    /// The rules of both families that lead to a table, whatever else they ask for. There are none
    /// where the kernel has no rules.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let found: Vec<RuleMessage> =
                match self.dump(&|| "list rules".to_owned(), RTM_GETRULE, &message) {
                    Ok(found) => found,
                    // The answer of a kernel without rules, or without IPv6.
                    Err(error)
                        if error.errno() == Some(libc::EAFNOSUPPORT) || error.is_unsupported() =>
                    {
                        continue;
                    }
                    Err(error) => return Err(error),
                };
            rules.extend(
                found
                    .iter()
                    .filter(|found| found.header.family == family)
                    .filter_map(read),
            );
        }
        Ok(rules)
    }

    /// Makes a rule.
    ///
    /// # Errors
    /// `is_exists` if there is the very same.
    pub fn add_rule(&self, rule: &Rule) -> Result<()> {
        self.change(
            &|| format!("add rule {}", text(rule)),
            RTM_NEWRULE,
            Change::Create,
            &message(rule),
        )
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// `is_absent` if there is none.
    pub fn delete_rule(&self, rule: &Rule) -> Result<()> {
        self.change(
            &|| format!("delete rule {}", text(rule)),
            RTM_DELRULE,
            Change::Existing,
            &message(rule),
        )
    }
}

fn text(rule: &Rule) -> String {
    format!("from {} lookup {}", rule.from, rule.table)
}

fn message(rule: &Rule) -> RuleMessage {
    let from = rule.from.trunc();
    let mut message = RuleMessage::default();
    message.header.family = family(from.addr());
    message.header.src_len = from.prefix_len();
    message.header.action = RuleAction::ToTable;
    if from.prefix_len() > 0 {
        message.attributes.push(RuleAttribute::Source(from.addr()));
    }
    message.attributes.push(RuleAttribute::Table(rule.table));
    message
        .attributes
        .push(RuleAttribute::Priority(rule.priority));
    message
        .attributes
        .push(RuleAttribute::Protocol(rule.protocol.0.into()));
    message
}

fn read(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.action != RuleAction::ToTable {
        return None;
    }
    let mut from = match header.family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut rule = Rule {
        from: from.into(),
        table: header.table.into(),
        priority: 0,
        protocol: Protocol::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => from = *address,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Protocol(protocol) => rule.protocol = Protocol((*protocol).into()),
            _ => {}
        }
    }
    rule.from = IpNet::new(from, header.src_len).ok()?;
    Some(rule)
}
