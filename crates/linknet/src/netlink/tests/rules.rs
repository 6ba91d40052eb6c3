//! Routing rules, and the numbers of namespaces.

use std::os::fd::{AsFd, AsRawFd};

use libc::{RTM_DELRULE, RTM_GETNSID, RTM_GETRULE, RTM_NEWRULE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::*;

#[test]
fn a_rule_is_added_and_deleted_by_one_message() {
    for (family, from) in [
        (AddressFamily::Inet, "10.99.0.5/32"),
        (AddressFamily::Inet, "0.0.0.0/0"),
        (AddressFamily::Inet6, "fd00::5/128"),
    ] {
        let rule = Rule {
            from: net(from),
            table: 1007,
            priority: 32000,
            protocol: Protocol(76),
        };
        let mut message = RuleMessage::default();
        message.header.family = family;
        message.header.src_len = rule.from.prefix_len();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Table(1007),
            RuleAttribute::Priority(32000),
            RuleAttribute::Protocol(RouteProtocol::Other(76)),
        ];
        if rule.from.prefix_len() > 0 {
            let source = RuleAttribute::Source(rule.from.addr());
            message.attributes.push(source);
        }
        assert_eq!(
            sent(|netlink| netlink.add_rule(&rule)),
            request(RTM_NEWRULE, CREATE, &message)
        );
        assert_eq!(
            sent(|netlink| netlink.delete_rule(&rule)),
            request(RTM_DELRULE, SET, &message)
        );
    }
}

#[test]
fn rules_are_asked_for_family_by_family() {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    assert_eq!(sent(Netlink::rules), request(RTM_GETRULE, DUMP, &message));
}

#[test]
fn a_namespace_is_asked_for_by_its_descriptor() {
    let netns = here();
    let mut message = NsidMessage::default();
    let fd = netns.as_fd().as_raw_fd().cast_unsigned();
    message.attributes = vec![NsidAttribute::Fd(fd)];
    assert_eq!(
        sent(|netlink| netlink.nsid(&netns)),
        request(RTM_GETNSID, GET, &message)
    );
}
