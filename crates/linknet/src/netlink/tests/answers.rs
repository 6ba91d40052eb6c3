//! What is made of an answer.

use std::cell::RefCell;
use std::sync::Once;

use libc::{RTM_NEWADDR, RTM_NEWLINK};
use rtnetlink::packet_core::{Emitable, NLMSG_DONE, NLMSG_ERROR};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkInfo, MacVlanMode,
};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};

use super::addresses::address_message;
use super::links::link_message;
use super::*;
use crate::netlink::socket::MAX_DUMP_ATTEMPTS;

/// Of linux/rtnetlink.h, like `RTM_GETSTATS`.
const RTM_NEWSTATS: u16 = 92;

#[test]
fn a_list_is_complete_but_for_objects_that_cannot_be_decoded() {
    let loopback = [&[0, 0, 0, 0, 1, 0, 0, 0][..], &[0; 8]].concat();
    let odd = [9; 8];
    let end = (NLMSG_DONE, &[0; 4][..]);
    let links = answered(
        &[(RTM_NEWLINK, &odd), (RTM_NEWLINK, &loopback), end],
        Netlink::links,
    );
    let indices = links.map(|links| links.iter().map(|link| link.index).collect::<Vec<_>>());
    assert_eq!(indices, Ok(vec![1]));

    // An address without its last octets.
    let cut = [&[2, 24, 0, 0, 1, 0, 0, 0][..], &[6, 0, 2, 0, 10, 99, 0, 0]].concat();
    let whole = [&[2, 24, 0, 0, 1, 0, 0, 0][..], &[8, 0, 2, 0, 10, 99, 0, 5]].concat();
    let addresses = answered(
        &[(RTM_NEWADDR, &cut), (RTM_NEWADDR, &whole), end],
        Netlink::all_addresses,
    );
    let nets = addresses.map(|found| found.iter().map(|it| it.net).collect::<Vec<_>>());
    assert_eq!(nets, Ok(vec![net("10.99.0.5/24")]));
}

thread_local! {
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Collects what is logged, by thread.
struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Warn {
            WARNINGS.with_borrow_mut(|warnings| warnings.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// The warnings that `operation` logs.
fn warnings_of(operation: impl FnOnce()) -> Vec<String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Recorder).expect("no other logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
    WARNINGS.take();
    operation();
    WARNINGS.take()
}

#[test]
fn an_object_that_cannot_be_decoded_is_warned_of() {
    let [odd, whole] = [vec![9; 8], link_payload(1, &[])];
    let done = end(0);
    let warnings = |objects: &[Message<'_>]| {
        let answer = [objects, &[(NLMSG_DONE, &done)]].concat();
        warnings_of(|| drop(answered(&answer, Netlink::links).expect("a list")))
    };
    assert_eq!(warnings(&[(RTM_NEWLINK, &whole)]), [""; 0]);
    let warnings = warnings(&[(RTM_NEWLINK, &odd), (RTM_NEWLINK, &whole)]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("list links: left out an object: "),
        "{warnings:?}"
    );
}

#[test]
fn an_address_can_be_used_while_it_is_optimistic_but_not_while_it_is_tentative() {
    const SECONDARY: u8 = 0x01;
    const OPTIMISTIC: u8 = 0x04;
    const FAILED: u8 = 0x08;
    const TENTATIVE: u8 = 0x40;
    for (flags, dad) in [
        (0, Dad::Done),
        (SECONDARY, Dad::Done), // a temporary address of the privacy extensions
        (OPTIMISTIC, Dad::Done),
        (TENTATIVE, Dad::Tentative),
        (TENTATIVE | OPTIMISTIC, Dad::Done),
        (TENTATIVE | FAILED, Dad::Failed),
    ] {
        let header = [10, 64, flags, 0, 1, 0, 0, 0];
        let address = [&[20, 0, 1, 0, 0xfd][..], &[0; 14], &[5]].concat();
        let described = [&header[..], &address].concat();
        let found = answered(
            &[(RTM_NEWADDR, &described), (NLMSG_DONE, &[0; 4])],
            Netlink::all_addresses,
        );
        let found = found.expect("a list").remove(0);
        assert_eq!(found.net, net("fd00::5/64"));
        assert_eq!((found.dad, found.secondary), (dad, false), "{flags:#x}");
    }
}

#[test]
fn a_kernel_without_next_hop_objects_or_rules_has_none() {
    let refused = |errno, operation: fn(&Netlink) -> Result<usize>| {
        let (refusal, end) = (refusal(errno), end(0));
        let answers: [&[Message<'_>]; 2] = [&[(NLMSG_ERROR, &refusal)], &[(NLMSG_DONE, &end)]];
        answered_in_turn(&answers, operation)
    };
    let nexthops = |netlink: &Netlink| Ok(netlink.nexthop_gateways()?.len());
    let rules = |netlink: &Netlink| Ok(netlink.rules()?.len());
    for errno in [libc::EOPNOTSUPP, libc::EINVAL] {
        assert_eq!(refused(errno, nexthops), Ok(0), "{errno}");
    }
    for errno in [libc::EOPNOTSUPP, libc::EAFNOSUPPORT] {
        assert_eq!(refused(errno, rules), Ok(0), "{errno}");
    }
    for operation in [nexthops, rules] {
        assert!(refused(libc::EPERM, operation).is_err_and(|error| error.is_denied()));
    }
}

#[test]
fn of_links_that_change_during_every_attempt_all_that_were_seen_are_listed() {
    let [one, two, three] = [1, 2, 3].map(|index| link_payload(index, &[]));
    let changed = (NLMSG_DONE, CHANGED);
    let first = [(RTM_NEWLINK, &*one), (RTM_NEWLINK, &*two), changed];
    let later = [(RTM_NEWLINK, &*one), (RTM_NEWLINK, &*three), changed];
    let answers: Vec<&[_]> = [&first[..]]
        .into_iter()
        .chain([&later[..]; MAX_DUMP_ATTEMPTS - 1])
        .collect();
    let indices = |links: Vec<Link>| links.iter().map(|link| link.index).collect::<Vec<_>>();
    let found = answered_in_turn(&answers, Netlink::links);
    assert_eq!(found.map(indices), Ok(vec![1, 2, 3]));

    let whole = [(RTM_NEWLINK, &*three), (NLMSG_DONE, &[0; 4])];
    let found = answered_in_turn(&[&first, &whole], Netlink::links);
    assert_eq!(found.map(indices), Ok(vec![3]));

    let addresses = answered_in_turn(
        &[&[changed] as &[_]; MAX_DUMP_ATTEMPTS],
        Netlink::all_addresses,
    );
    assert!(addresses.is_err_and(|error| error.is_interrupted()));
}

/// The last message of a list that the kernel has not completed.
fn end(errno: i32) -> [u8; 4] {
    (-errno).to_ne_bytes()
}

/// A link with this index, and these attributes behind its header.
fn link_payload(index: u8, attributes: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, index, 0, 0, 0][..], &[0; 8], attributes].concat()
}

#[test]
fn links_are_asked_for_one_by_one_and_one_that_is_too_long_is_left_out() {
    let counters = |index| [0, 0, 0, 0, index, 0, 0, 0, 1, 0, 0, 0];
    let list = [1, 2, 3].map(counters);
    let links = [1, 3].map(|index| link_payload(index, &[]));
    let done = end(0);
    let (too_long, acknowledged) = (refusal(libc::ENOBUFS), refusal(0));
    let found = answered_in_turn(
        &[
            &[
                (RTM_NEWSTATS, &list[0]),
                (RTM_NEWSTATS, &list[1]),
                (RTM_NEWSTATS, &list[2]),
                (NLMSG_DONE, &done),
            ],
            &[(RTM_NEWLINK, &links[0]), (NLMSG_ERROR, &acknowledged)],
            &[(NLMSG_ERROR, &too_long)],
            &[(RTM_NEWLINK, &links[1]), (NLMSG_ERROR, &acknowledged)],
        ],
        Netlink::links_one_by_one,
    );
    let indices = found.map(|links| links.iter().map(|link| link.index).collect::<Vec<_>>());
    assert_eq!(indices, Ok(vec![1, 3]));
}

#[test]
fn a_refusal_to_describe_a_link_is_an_error() {
    let counters = [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
    let denied = refusal(libc::EPERM);
    let found = answered_in_turn(
        &[
            &[(RTM_NEWSTATS, &counters), (NLMSG_DONE, &end(0))],
            &[(NLMSG_ERROR, &denied)],
        ],
        Netlink::links_one_by_one,
    );
    assert!(found.is_err_and(|error| error.is_denied()));
}

#[test]
fn one_by_one_the_links_are_the_same_as_in_a_list() {
    let netlink = Netlink::open().expect("a socket");
    let indices = |links: Result<Vec<Link>>| {
        let links = links.expect("links");
        links.iter().map(|link| link.index).collect::<Vec<_>>()
    };
    let listed = indices(netlink.links());
    assert!(!listed.is_empty());
    assert_eq!(indices(netlink.links_one_by_one()), listed);
}

#[test]
fn a_link_whose_properties_are_longer_than_a_length_can_tell_keeps_its_name_and_kind() {
    let name = [&[9, 0, 3, 0][..], b"eth0\0\0\0\0"].concat();
    let kind = [&[12, 0, 1, 0][..], b"macvlan\0"].concat();
    // What follows looks like another name.
    let properties = name.repeat(6000);
    for length in [0, 4, 16, 4000] {
        let info = u16::to_ne_bytes(length);
        let attributes = [&name[..], &info, &[18, 0], &kind, &properties].concat();
        let link = link_payload(7, &attributes);
        let done = end(0);
        let links = answered(&[(RTM_NEWLINK, &link), (NLMSG_DONE, &done)], Netlink::links);
        let links = links.expect("a list");
        assert_eq!(
            (links[0].name.as_str(), links[0].kind.as_deref()),
            ("eth0", Some("macvlan")),
            "a length of {length}"
        );
    }
}

#[test]
fn no_answer_makes_the_reader_panic() {
    let link = link_message(
        LINK,
        vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::IfAlias("uplink".to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![
                    InfoMacVlan::Mode(MacVlanMode::Source),
                    InfoMacVlan::MacAddrData(vec![InfoMacVlan::MacAddr(MAC.octets())]),
                ])),
            ]),
        ],
    );
    let mut address = address_message(AddressFamily::Inet, 24);
    address.attributes = vec![AddressAttribute::Local(ip("10.99.0.5"))];
    let mut rule = RuleMessage::default();
    rule.header.family = AddressFamily::Inet;
    rule.attributes = vec![RuleAttribute::Source(ip("10.99.0.5"))];
    let octets = |message: &dyn Fn(&mut [u8]), length| {
        let mut octets = vec![0; length];
        message(&mut octets);
        octets
    };
    for message in [
        octets(&|octets| link.emit(octets), link.buffer_len()),
        octets(&|octets| address.emit(octets), address.buffer_len()),
        octets(&|octets| rule.emit(octets), rule.buffer_len()),
    ] {
        let read = |octets: &[u8]| {
            let _ = link::parse(octets).ok();
            let _ = address::parse(octets).ok();
            let _ = rule::parse(octets).ok();
        };
        for length in 0..=message.len() {
            read(&message[..length]);
        }
        for place in 0..message.len() {
            for value in [0, 1, 3, 5, 0x7f, 0xff] {
                let mut changed = message.clone();
                changed[place] = value;
                read(&changed);
            }
        }
    }
}

#[test]
fn a_socket_is_shown_without_what_it_has_received() {
    let netlink = Netlink::open().expect("a socket");
    netlink.links().expect("links");
    let watch = LinkWatch::open().expect("a socket");
    for (shown, name) in [
        (format!("{netlink:?}"), "Netlink { socket: "),
        (format!("{watch:?}"), "LinkWatch { socket: "),
    ] {
        assert!(shown.starts_with(name) && shown.len() < 100, "{shown}");
    }
}

#[test]
fn looking_for_one_object_fails_if_it_cannot_be_decoded() {
    let end = (NLMSG_ERROR, &[0; 20][..]);
    let error = answered(&[(RTM_NEWLINK, &[9; 8]), end], |netlink| {
        netlink.link_by_index(LINK)
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("look up link 7: cannot decode"),
        "{error}"
    );
}
