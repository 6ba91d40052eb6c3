//! Policy rules: which routing table the kernel looks a packet up in.

use ipnet::IpNet;
use libc::{RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE};
use rtnetlink::packet_core::{DecodeError, Emitable};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};

use super::attribute::decode_all_but;
use super::ip::{Protocol, family, unspecified};
use super::socket::{Change, Netlink};
use crate::error::Result;

/// A rule that has packets from a source prefix looked up in one table (ip-rule(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The source prefix that it matches; prefix length 0 matches every source.
    pub from: IpNet,
    /// The table to look up.
    pub table: u32,
    /// Rules apply in ascending order of priority. The main table's rule has 32766.
    pub priority: u32,
    /// Who configured it, as reported by kernels from 4.17 on.
    pub protocol: Protocol,
}

impl Netlink {
    /// The rules of both families that lead to a table, whatever else they match. The list is empty
    /// if the kernel lacks policy rules.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let what = || "list rules".to_owned();
            let found = match self.dump(&what, RTM_GETRULE, &message, parse) {
                Ok(found) => found,
                // The answer of a kernel without policy rules, or without IPv6.
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

    /// Adds a rule.
    ///
    /// # Errors
    /// `is_exists` if there is an identical one.
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

/// The request for a rule. By hand: rtnetlink builds one only as part of a request that its own
/// connection sends.
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

/// `FRA_IIFNAME` and `FRA_OIFNAME` of linux/fib_rules.h: the names of links that a rule matches.
const LINK_NAMES: [u16; 2] = [3, 17];

/// Decodes a message, but for the names of links.
pub(super) fn parse(payload: &[u8]) -> Result<RuleMessage, DecodeError> {
    let mut message = RuleMessage::default();
    message.header = RuleHeader::parse(payload)?;
    let attributes = &payload[message.header.buffer_len()..];
    message.attributes = decode_all_but(&LINK_NAMES, attributes)?;
    Ok(message)
}

/// The rule that a message describes; `None` if it does not lead to a table.
fn read(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.action != RuleAction::ToTable {
        return None;
    }
    let mut from = unspecified(header.family);
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
