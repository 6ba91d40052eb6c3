//! What is sent to the kernel, request by request.
//!
//! A user-space netlink socket (`NETLINK_USERSOCK`) stands in for the kernel: it records the
//! request and refuses it, so that no test needs a privilege. Expected messages are spelled out
//! attribute by attribute, without the builders that the code uses. The order of attributes
//! does not matter.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use libc::{
    RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_DELRULE, RTM_GETADDR, RTM_GETLINK, RTM_GETNSID,
    RTM_GETROUTE, RTM_GETRULE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, RTM_NEWRULE, RTM_SETLINK,
};
use rtnetlink::packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage, MacVlanFlags, MacVlanMacAddressMode, MacVlanMode,
};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::sys::protocols::NETLINK_USERSOCK;
use rtnetlink::sys::{Socket, SocketAddr};

use super::*;
use crate::error::Result;
use crate::mac::Mac;
use crate::netns::Netns;

const LINK: u32 = 7;
const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x11]);

const SET: u16 = NLM_F_REQUEST | NLM_F_ACK;
const CREATE: u16 = SET | NLM_F_CREATE | NLM_F_EXCL;
const PREPEND: u16 = SET | NLM_F_CREATE;
const REPLACE: u16 = SET | NLM_F_CREATE | NLM_F_REPLACE;
const GET: u16 = NLM_F_REQUEST | NLM_F_ACK;
const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// A request, taken apart so that two can be compared whatever the order of their attributes.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    kind: u16,
    flags: u16,
    /// The fixed part of the message, such as `struct ifinfomsg`.
    header: Vec<u8>,
    /// The attributes: type and value, sorted.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        let (header, attributes) = body.split_at(match kind {
            RTM_NEWLINK | RTM_SETLINK | RTM_GETLINK | RTM_DELLINK => 16,
            RTM_NEWADDR | RTM_GETADDR | RTM_DELADDR => 8,
            RTM_GETNSID => 4,
            _ => 12,
        });
        let mut attributes: Vec<_> = NlasIterator::new(attributes)
            .map(|attribute| attribute.expect("whole attributes"))
            .map(|attribute| (attribute.kind(), attribute.value().to_vec()))
            .collect();
        attributes.sort();
        Request {
            kind,
            flags,
            header: header.to_vec(),
            attributes,
        }
    }
}

/// The request that asks the kernel for `message`.
fn request(kind: u16, flags: u16, message: &impl Emitable) -> Request {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    Request::new(kind, flags, &body)
}

/// The first request that `operation` sends.
fn sent<T>(operation: impl FnOnce(&Netlink) -> Result<T>) -> Request {
    let mut kernel = Socket::new(NETLINK_USERSOCK).expect("a netlink socket");
    let address = kernel.bind_auto().expect("a port");
    let socket = Socket::new(NETLINK_USERSOCK).expect("a netlink socket");
    socket.connect(&address).expect("connected");
    let netlink = Netlink::over(socket);
    thread::scope(|scope| {
        let recorded = scope.spawn(|| record_and_refuse(&kernel));
        assert!(operation(&netlink).is_err_and(|error| error.is_denied()));
        recorded.join().expect("one request")
    })
}

fn record_and_refuse(kernel: &Socket) -> Request {
    let (datagram, client) = kernel.recv_from_full().expect("a request");
    let message = NetlinkBuffer::new_checked(&datagram[..]).expect("a whole message");
    let request = Request::new(message.message_type(), message.flags(), message.payload());
    // NLMSG_ERROR with the request's sequence number, -EPERM, and the request's header.
    let mut refusal = vec![36, 0, 0, 0, 2, 0, 0, 0];
    refusal.extend(message.sequence_number().to_ne_bytes());
    refusal.extend(0_u32.to_ne_bytes());
    refusal.extend((-libc::EPERM).to_ne_bytes());
    refusal.extend(&datagram[..16]);
    let client = SocketAddr::new(client.port_number(), 0);
    kernel.send_to(&refusal, &client, 0).expect("answered");
    request
}

/// What `operation` makes of an answer that consists of these messages: types and payloads.
fn answered<T: Send>(
    messages: &[(u16, &[u8])],
    operation: impl FnOnce(&Netlink) -> Result<T>,
) -> Result<T> {
    let mut kernel = Socket::new(NETLINK_USERSOCK).expect("a netlink socket");
    let address = kernel.bind_auto().expect("a port");
    let socket = Socket::new(NETLINK_USERSOCK).expect("a netlink socket");
    socket.connect(&address).expect("connected");
    let netlink = Netlink::over(socket);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (request, client) = kernel.recv_from_full().expect("a request");
            let mut answer = Vec::new();
            for (kind, payload) in messages {
                answer.extend((16 + payload.len() as u32).to_ne_bytes());
                answer.extend(kind.to_ne_bytes());
                answer.extend([0; 2]);
                answer.extend(&request[8..12]); // its sequence number
                answer.extend([0; 4]);
                answer.extend(*payload);
            }
            let client = SocketAddr::new(client.port_number(), 0);
            kernel.send_to(&answer, &client, 0).expect("answered");
        });
        operation(&netlink)
    })
}

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

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn here() -> Netns {
    Netns::current().expect("/proc")
}

fn link_message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
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

fn address_message(family: AddressFamily, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family;
    message.header.prefix_len = prefix;
    message.header.index = LINK;
    message
}

fn lifetimes(valid: u32, preferred: u32) -> AddressAttribute {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = valid;
    lifetimes.ifa_preferred = preferred;
    AddressAttribute::CacheInfo(lifetimes)
}

#[test]
fn an_ipv4_address_comes_with_its_broadcast_address_and_lifetimes() {
    let mut message = address_message(AddressFamily::Inet, 22);
    let address = ip("10.99.3.5");
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Broadcast([10, 99, 3, 255].into()),
        lifetimes(u32::MAX, u32::MAX),
    ];
    let new = NewAddress::new(net("10.99.3.5/22"));
    assert_eq!(
        sent(|netlink| netlink.add_address(LINK, &new)),
        request(RTM_NEWADDR, CREATE, &message)
    );
    assert_eq!(
        sent(|netlink| netlink.replace_address(LINK, &new)),
        request(RTM_NEWADDR, REPLACE, &message)
    );
}

#[test]
fn an_ipv4_address_with_a_prefix_of_31_or_32_bits_has_no_broadcast_address() {
    for prefix in [31, 32] {
        let mut message = address_message(AddressFamily::Inet, prefix);
        let address = ip("10.99.0.4");
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
            lifetimes(u32::MAX, u32::MAX),
        ];
        let new = NewAddress::new(IpNet::new(address, prefix).expect("a prefix"));
        assert_eq!(
            sent(|netlink| netlink.add_address(LINK, &new)),
            request(RTM_NEWADDR, CREATE, &message)
        );
    }
}

#[test]
fn an_ipv4_address_can_have_another_broadcast_address_than_its_prefix() {
    let mut message = address_message(AddressFamily::Inet, 24);
    let address = ip("10.99.3.5");
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Broadcast([10, 99, 255, 255].into()),
        lifetimes(u32::MAX, u32::MAX),
    ];
    let new = NewAddress {
        broadcast: Some([10, 99, 255, 255].into()),
        ..NewAddress::new(net("10.99.3.5/24"))
    };
    assert_eq!(
        sent(|netlink| netlink.replace_address(LINK, &new)),
        request(RTM_NEWADDR, REPLACE, &message)
    );
}

#[test]
fn an_address_can_have_a_scope_flags_lifetimes_a_metric_and_a_protocol() {
    let new = NewAddress {
        scope: Scope::LINK,
        valid: Some(Duration::from_millis(3_600_900)),
        preferred: Some(Duration::from_secs(1800)),
        nodad: true,
        metric: Some(77),
        protocol: Some(Protocol::DHCP),
        ..NewAddress::new(net("fd00::5/64"))
    };
    let mut message = address_message(AddressFamily::Inet6, 64);
    message.header.scope = AddressScope::Link;
    message.attributes = vec![
        AddressAttribute::Local(ip("fd00::5")),
        AddressAttribute::Address(ip("fd00::5")),
        AddressAttribute::RoutePriority(77),
        AddressAttribute::Protocol(16.into()),
        AddressAttribute::Flags(AddressFlags::Nodad),
        lifetimes(3600, 1800),
    ];
    assert_eq!(
        sent(|netlink| netlink.add_address(LINK, &new)),
        request(RTM_NEWADDR, CREATE, &message)
    );
}

#[test]
fn a_lifetime_is_at_least_a_second_and_the_preferred_one_no_longer_than_the_valid_one() {
    let new = NewAddress {
        valid: Some(Duration::ZERO),
        ..NewAddress::new(net("fd00::5/64"))
    };
    let mut message = address_message(AddressFamily::Inet6, 64);
    message.attributes = vec![
        AddressAttribute::Local(ip("fd00::5")),
        AddressAttribute::Address(ip("fd00::5")),
        lifetimes(1, 1),
    ];
    assert_eq!(
        sent(|netlink| netlink.add_address(LINK, &new)),
        request(RTM_NEWADDR, CREATE, &message)
    );
}

#[test]
fn an_address_is_deleted_by_its_value_and_prefix_length() {
    for (family, text, prefix) in [
        (AddressFamily::Inet, "10.99.3.5", 22),
        (AddressFamily::Inet6, "fd00::5", 64),
        // Without it, the kernel would delete another address.
        (AddressFamily::Inet, "224.0.0.5", 24),
    ] {
        let mut message = address_message(family, prefix);
        message.attributes = vec![
            AddressAttribute::Local(ip(text)),
            AddressAttribute::Address(ip(text)),
        ];
        let net = IpNet::new(ip(text), prefix).expect("a prefix");
        assert_eq!(
            sent(|netlink| netlink.delete_address(LINK, net)),
            request(RTM_DELADDR, SET, &message)
        );
    }
}

#[test]
fn addresses_are_asked_for_by_link_and_for_all_links() {
    let mut message = AddressMessage::default();
    assert_eq!(
        sent(Netlink::all_addresses),
        request(RTM_GETADDR, DUMP, &message)
    );
    message.header.index = LINK;
    assert_eq!(
        sent(|netlink| netlink.addresses(LINK)),
        request(RTM_GETADDR, DUMP, &message)
    );
}

fn route_message(family: AddressFamily, prefix: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = prefix;
    message
}

#[test]
fn a_route_on_the_link_goes_into_the_main_table() {
    let mut message = route_message(AddressFamily::Inet, 16);
    message.header.kind = RouteType::Unicast;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Link;
    message.attributes = vec![
        RouteAttribute::Destination(ip("10.1.0.0").into()),
        RouteAttribute::Oif(LINK),
        RouteAttribute::Table(254),
    ];
    let route = Route {
        dst: net("10.1.2.3/16"), // the bits beyond the prefix do not count
        ..Route::new(net("10.1.0.0/16"), LINK)
    };
    assert_eq!(
        sent(|netlink| netlink.add_route(&route)),
        request(RTM_NEWROUTE, CREATE, &message)
    );
    assert_eq!(
        sent(|netlink| netlink.prepend_route(&route)),
        request(RTM_NEWROUTE, PREPEND, &message)
    );
    assert_eq!(
        sent(|netlink| netlink.replace_route(&route)),
        request(RTM_NEWROUTE, REPLACE, &message)
    );
}

#[test]
fn a_route_can_have_a_router_a_metric_a_table_a_source_and_limits() {
    for (family, dst, prefix, gateway, source) in [
        (
            AddressFamily::Inet,
            "10.1.0.0",
            16,
            "10.99.0.1",
            "10.99.0.5",
        ),
        (AddressFamily::Inet6, "fd01::", 64, "fd00::1", "fd00::5"),
    ] {
        for table in [77, 100_000] {
            let dst = ip(dst);
            let route = Route {
                metric: 50,
                table,
                protocol: Protocol::DHCP,
                source: Some(ip(source)),
                mtu: Some(1400),
                advmss: Some(1300),
                onlink: true,
                ..Route::new(IpNet::new(dst, prefix).expect("a prefix"), LINK).via(ip(gateway))
            };
            let mut message = route_message(family, prefix);
            message.header.kind = RouteType::Unicast;
            message.header.protocol = RouteProtocol::Dhcp;
            message.header.flags = RouteFlags::Onlink;
            message.attributes = vec![
                RouteAttribute::Destination(dst.into()),
                RouteAttribute::Oif(LINK),
                RouteAttribute::Table(table),
                RouteAttribute::Priority(50),
                RouteAttribute::Gateway(ip(gateway).into()),
                RouteAttribute::PrefSource(ip(source).into()),
                RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400), RouteMetric::Advmss(1300)]),
            ];
            assert_eq!(
                sent(|netlink| netlink.add_route(&route)),
                request(RTM_NEWROUTE, CREATE, &message)
            );
        }
    }
}

#[test]
fn a_default_route_has_no_destination() {
    for (family, dst) in [
        (AddressFamily::Inet, "0.0.0.0/0"),
        (AddressFamily::Inet6, "::/0"),
    ] {
        let mut message = route_message(family, 0);
        message.header.kind = RouteType::Unicast;
        message.header.protocol = RouteProtocol::Boot;
        message.attributes = vec![RouteAttribute::Oif(LINK), RouteAttribute::Table(254)];
        let route = Route {
            scope: Scope::UNIVERSE,
            ..Route::new(net(dst), LINK)
        };
        assert_eq!(
            sent(|netlink| netlink.add_route(&route)),
            request(RTM_NEWROUTE, CREATE, &message)
        );
    }
}

#[test]
fn an_ipv6_router_of_an_ipv4_route_is_sent_with_its_family() {
    let mut message = route_message(AddressFamily::Inet, 16);
    message.header.kind = RouteType::Unicast;
    message.header.protocol = RouteProtocol::Boot;
    message.attributes = vec![
        RouteAttribute::Destination(ip("10.1.0.0").into()),
        RouteAttribute::Oif(LINK),
        RouteAttribute::Table(254),
        RouteAttribute::Via(RouteVia::Inet6([0xfd00, 0, 0, 0, 0, 0, 0, 1].into())),
    ];
    let route = Route::new(net("10.1.0.0/16"), LINK).via(ip("fd00::1"));
    assert_eq!(
        sent(|netlink| netlink.add_route(&route)),
        request(RTM_NEWROUTE, CREATE, &message)
    );
}

#[test]
fn an_ipv6_route_with_an_ipv4_router_is_refused_without_asking_the_kernel() {
    let netlink = Netlink::open().expect("a netlink socket");
    let route = Route::new(net("fd01::/64"), LINK).via(ip("10.99.0.1"));
    let error = netlink.add_route(&route).unwrap_err();
    assert!(error.is_invalid(), "{error}");
    assert!(error.to_string().contains("10.99.0.1 cannot be"), "{error}");
}

#[test]
fn a_route_is_deleted_whatever_its_protocol() {
    let mut message = route_message(AddressFamily::Inet, 16);
    message.header.scope = RouteScope::Universe;
    message.attributes = vec![
        RouteAttribute::Destination(ip("10.1.0.0").into()),
        RouteAttribute::Oif(LINK),
        RouteAttribute::Table(77),
        RouteAttribute::Priority(50),
        RouteAttribute::Gateway(ip("10.99.0.1").into()),
    ];
    let route = Route {
        metric: 50,
        table: 77,
        protocol: Protocol::DHCP,
        source: Some(ip("10.99.0.5")),
        mtu: Some(1400),
        onlink: true,
        ..Route::new(net("10.1.0.0/16"), LINK).via(ip("10.99.0.1"))
    };
    assert_eq!(
        sent(|netlink| netlink.delete_route(&route)),
        request(RTM_DELROUTE, SET, &message)
    );
}

#[test]
fn unicast_routes_are_asked_for_family_by_family_with_the_kernels_filter() {
    let mut message = route_message(AddressFamily::Inet, 0);
    message.header.kind = RouteType::Unicast;
    assert_eq!(
        sent(|netlink| netlink.routes(None)),
        request(RTM_GETROUTE, DUMP, &message)
    );
    message.header.protocol = RouteProtocol::Dhcp;
    assert_eq!(
        sent(|netlink| netlink.routes_with_protocol(Protocol::DHCP)),
        request(RTM_GETROUTE, DUMP, &message)
    );
    message.header.protocol = RouteProtocol::Unspec;
    message.attributes = vec![RouteAttribute::Oif(LINK)];
    assert_eq!(
        sent(|netlink| netlink.routes(Some(LINK))),
        request(RTM_GETROUTE, DUMP, &message)
    );
}

#[test]
fn a_route_is_looked_up_by_the_address_alone() {
    for (family, to, prefix) in [
        (AddressFamily::Inet, "192.0.2.7", 32),
        (AddressFamily::Inet6, "2001:db8::7", 128),
    ] {
        let mut message = route_message(family, prefix);
        message.attributes = vec![RouteAttribute::Destination(ip(to).into())];
        assert_eq!(
            sent(|netlink| netlink.route_get(ip(to))),
            request(RTM_GETROUTE, GET, &message)
        );
    }
}

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
