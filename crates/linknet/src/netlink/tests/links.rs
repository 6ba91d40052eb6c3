//! Links: macvlans, VLANs and others.

use std::os::fd::{AsFd, AsRawFd};

use libc::{RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK};
use rtnetlink::packet_core::{DefaultNla, NLMSG_ERROR};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage, MacVlanFlags, MacVlanMacAddressMode, MacVlanMode,
};

use super::*;
use crate::mac::Mac;

pub(super) fn link_message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

#[test]
fn a_link_is_asked_for_without_its_counters() {
    let skip = || LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    assert_eq!(
        sent(|netlink| netlink.link_by_index(LINK)),
        request(RTM_GETLINK, GET, &link_message(LINK, vec![skip()]))
    );
    assert_eq!(
        sent(Netlink::links),
        request(RTM_GETLINK, DUMP, &link_message(0, vec![skip()]))
    );
    let name = || LinkAttribute::IfName("eth0".to_owned());
    assert_eq!(
        sent(|netlink| netlink.link("eth0")),
        request(RTM_GETLINK, GET, &link_message(0, vec![skip(), name()]))
    );
    let long = "enp0s31f6-by-the-window";
    let name = DefaultNla::new(libc::IFLA_ALT_IFNAME, format!("{long}\0").into_bytes());
    assert_eq!(
        sent(|netlink| netlink.link(long)),
        request(
            RTM_GETLINK,
            GET,
            &link_message(0, vec![skip(), LinkAttribute::Other(name)])
        )
    );
}

#[test]
fn a_link_is_set_up_by_a_flag() {
    let mut message = link_message(LINK, vec![]);
    message.header.change_mask = LinkFlags::Up;
    message.header.flags = LinkFlags::Up;
    assert_eq!(
        sent(|netlink| netlink.set_up(LINK)),
        request(RTM_SETLINK, SET, &message)
    );
}

#[test]
fn a_change_to_a_link_sends_only_the_changed_attributes() {
    let set = |attributes| request(RTM_SETLINK, SET, &link_message(LINK, attributes));
    assert_eq!(
        sent(|netlink| netlink.set_mac(LINK, MAC)),
        set(vec![LinkAttribute::Address(MAC.octets().to_vec())])
    );
    assert_eq!(
        sent(|netlink| netlink.set_mtu(LINK, 1400)),
        set(vec![LinkAttribute::Mtu(1400)])
    );
    assert_eq!(
        sent(|netlink| netlink.set_alias_and_group(LINK, "uplink", 0)),
        set(vec![
            LinkAttribute::IfAlias("uplink".to_owned()),
            LinkAttribute::Group(0)
        ])
    );
}

#[test]
fn a_link_is_deleted_by_its_index() {
    assert_eq!(
        sent(|netlink| netlink.delete_link(LINK)),
        request(RTM_DELLINK, SET, &link_message(LINK, vec![]))
    );
}

fn macvlan_info(data: Vec<InfoMacVlan>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::MacVlan),
        LinkInfo::Data(InfoData::MacVlan(data)),
    ])
}

#[test]
fn a_plain_macvlan_is_requested_by_name_parent_mode_and_namespace_alone() {
    let netns = here();
    let message = link_message(
        0,
        vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::Link(LINK),
            LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()),
            macvlan_info(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]),
        ],
    );
    assert_eq!(
        sent(|netlink| netlink.add_macvlan(&NewMacvlan::new("eth0", LINK), &netns, netlink)),
        request(RTM_NEWLINK, CREATE, &message)
    );
}

#[test]
fn one_message_creates_a_macvlan_with_all_its_properties() {
    let netns = here();
    let sources = [MAC, Mac([2, 0, 0, 0, 0, 0x12])];
    let new = NewMacvlan {
        mode: MacvlanMode::Source,
        mac: Some(MAC),
        mtu: Some(1400),
        nopromisc: true,
        sources: &sources,
        bc_queue_len: Some(4000),
        bc_cutoff: Some(-1),
        up: true,
        group: 0x6c68,
        ..NewMacvlan::new("eth0", LINK)
    };
    let mut message = link_message(
        0,
        vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::Link(LINK),
            LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()),
            LinkAttribute::Address(MAC.octets().to_vec()),
            LinkAttribute::Mtu(1400),
            LinkAttribute::Group(0x6c68),
            macvlan_info(vec![
                InfoMacVlan::Mode(MacVlanMode::Source),
                InfoMacVlan::Flags(MacVlanFlags::NoPromisc),
                InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set),
                InfoMacVlan::MacAddrData(vec![
                    InfoMacVlan::MacAddr([2, 0, 0, 0, 0, 0x11]),
                    InfoMacVlan::MacAddr([2, 0, 0, 0, 0, 0x12]),
                ]),
                InfoMacVlan::BcQueueLen(4000),
                InfoMacVlan::BcCutoff(-1),
            ]),
        ],
    );
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    assert_eq!(
        sent(|netlink| netlink.add_macvlan(&new, &netns, netlink)),
        request(RTM_NEWLINK, CREATE, &message)
    );
}

/// The description of the link with this index.
fn described(index: u8) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[4] = index;
    octets
}

/// The requests with which a macvlan is created on a kernel that refuses its name, and that gives
/// this verdict on its new name.
fn renamed(new: &NewMacvlan<'_>, verdict: i32) -> (Result<Link>, Vec<Request>) {
    let [exists, absent, done, verdict] = [libc::EEXIST, libc::ENODEV, 0, verdict].map(refusal);
    let link = described(9);
    let found: [Message<'_>; 2] = [(RTM_NEWLINK, &link), (NLMSG_ERROR, &done)];
    let answers: [&[Message<'_>]; 6] = [
        &[(NLMSG_ERROR, &exists)],
        &[(NLMSG_ERROR, &absent)],
        &[(NLMSG_ERROR, &done)],
        &found,
        &[(NLMSG_ERROR, &verdict)],
        &found,
    ];
    exchanged(&answers, |netlink| {
        netlink.add_macvlan(new, &here(), netlink)
    })
}

#[test]
fn where_its_parents_namespace_has_the_name_a_macvlan_is_created_under_another() {
    let plain = NewMacvlan::new("eth0", LINK);
    for (new, temporary) in [
        (plain.clone(), None),
        (
            NewMacvlan {
                up: true,
                group: 0x6c68,
                ..plain
            },
            Some("mv00006c68"),
        ),
    ] {
        let (created, requests) = renamed(&new, 0);
        assert_eq!(created.map(|link| link.index), Ok(9));
        let (_, name) = &requests[2].attributes[0];
        let name = std::str::from_utf8(name).unwrap().trim_end_matches('\0');
        match temporary {
            Some(temporary) => assert_eq!(name, temporary),
            None => assert!(name.starts_with("mv") && name.len() == 14, "{name}"),
        }
        assert_eq!(
            requests[2].header[8..],
            [0; 8],
            "it is up only when it is named"
        );

        let mut message = link_message(9, vec![LinkAttribute::IfName("eth0".to_owned())]);
        if new.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        assert_eq!(requests[4], request(RTM_SETLINK, SET, &message));
    }
}

#[test]
fn a_macvlan_that_cannot_have_its_name_is_deleted() {
    let (refused, requests) = renamed(&NewMacvlan::new("eth0", LINK), libc::EPERM);
    assert!(refused.is_err_and(|error| error.is_denied()));
    assert_eq!(
        requests[5],
        request(RTM_DELLINK, SET, &link_message(9, vec![]))
    );
}

#[test]
fn a_link_that_is_gone_as_soon_as_it_was_created_is_an_error() {
    let [done, absent] = [0, libc::ENODEV].map(refusal);
    let new = NewVlan {
        name: "eth1.228",
        parent: LINK,
        id: 228,
        up: true,
        group: 0,
    };
    let created = answered_in_turn(
        &[&[(NLMSG_ERROR, &done)], &[(NLMSG_ERROR, &absent)]],
        |netlink| netlink.add_vlan(&new),
    );
    let error = created.unwrap_err();
    assert!(error.is_absent());
    assert_eq!(error.kernel_text(), Some("it disappeared at once"));
}

#[test]
fn the_macvlan_driver_is_asked_for_a_mode_that_does_not_exist() {
    let info = macvlan_info(vec![InfoMacVlan::Mode(MacVlanMode::Other(0))]);
    assert_eq!(
        sent(Netlink::has_macvlan),
        request(RTM_NEWLINK, CREATE, &link_message(0, vec![info]))
    );
}

#[test]
fn one_message_creates_a_vlan() {
    let new = NewVlan {
        name: "eth1.228",
        parent: LINK,
        id: 228,
        up: true,
        group: 0x6c68,
    };
    let info = LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(228)])),
    ]);
    let mut message = link_message(
        0,
        vec![
            LinkAttribute::IfName("eth1.228".to_owned()),
            LinkAttribute::Link(LINK),
            info,
        ],
    );
    let plain = NewVlan {
        up: false,
        group: 0,
        ..new
    };
    assert_eq!(
        sent(|netlink| netlink.add_vlan(&plain)),
        request(RTM_NEWLINK, CREATE, &message)
    );
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::Group(0x6c68));
    assert_eq!(
        sent(|netlink| netlink.add_vlan(&new)),
        request(RTM_NEWLINK, CREATE, &message)
    );
}

#[test]
fn the_vlan_driver_is_asked_for_a_vlan_without_an_identifier() {
    let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]);
    assert_eq!(
        sent(Netlink::has_vlan),
        request(RTM_NEWLINK, CREATE, &link_message(0, vec![info]))
    );
}
