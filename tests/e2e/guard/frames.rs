//! One frame after the other, from a packet socket in the container: what is the container's own
//! goes out, and nothing else does.

use std::net::{Ipv4Addr, Ipv6Addr};

use lab::anyhow::ensure;
use lab::frames::{FrameSocket, Macs, arp, ethernet, ipv4, ipv6, udp};
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Attachment, Lan, Network, Node, Result, Test, World, test};

use attachment::guard::SOCKET_MARK;

use super::{Ends, OTHER, OTHER6, OWN, OWN6, derived, guarded};

pub(super) const TESTS: &[Test] = &[
    test!(what_is_the_containers_own_goes_out).needs(&[packages::GO_PLUGINS]),
    test!(what_is_not_its_own_goes_out_of_an_unguarded_container_only)
        .needs(&[packages::GO_PLUGINS]),
    test!(only_leaseholds_own_messages_go_to_a_dhcp_server).needs(&[packages::GO_PLUGINS]),
    test!(the_protocol_that_a_socket_names_does_not_deceive_the_guard)
        .needs(&[packages::GO_PLUGINS]),
];

const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const NOBODY6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A multicast group of the LAN.
const fn group(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(224, 0, 0, number)
}

const fn group6(high: u16, low: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, high, low)
}

pub(super) type Frames = Vec<(&'static str, Vec<u8>)>;

/// A DHCP client's message.
pub(super) fn dhcp(ciaddr: Ipv4Addr, giaddr: Ipv4Addr, chaddr: [u8; 6]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    message.extend(ciaddr.octets());
    message.extend([0; 8]);
    message.extend(giaddr.octets());
    message.extend(chaddr);
    message.resize(300, 0);
    message
}

/// An ICMPv6 message with a target, as neighbour discovery has it.
fn icmpv6(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

/// An ICMPv6 message behind a hop-by-hop header with a router alert.
fn alerted(kind: u8) -> Vec<u8> {
    [&[58, 0, 5, 2, 0, 0, 1, 0][..], &icmpv6(kind, NOBODY6)].concat()
}

/// A fragment of IPv6, at this offset in units of eight octets.
fn fragment(next: u8, offset: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (offset << 3 | 1).to_be_bytes();
    [&[next, 0, high, low, 0, 0, 0, 1][..], payload].concat()
}

/// UDP's header, and something behind it.
fn datagram(from: u16, to: u16) -> Vec<u8> {
    let [from, to] = [from, to].map(u16::to_be_bytes);
    [&from[..], &to, &[0, 16, 0, 0], &[0; 8]].concat()
}

/// An IPv4 frame of this total length, with these flags and this offset.
fn cut(mut frame: Vec<u8>, total_length: u16, fragment: u16) -> Vec<u8> {
    frame[16..18].copy_from_slice(&total_length.to_be_bytes());
    at_offset(frame, fragment)
}

/// An IPv4 frame with a router alert option, from the one without.
fn with_option(mut frame: Vec<u8>) -> Vec<u8> {
    frame[14] = 0x46;
    frame.splice(34..34, [0x94, 4, 0, 0]);
    frame
}

/// An IPv4 frame as a fragment at this offset in units of eight octets.
fn at_offset(mut frame: Vec<u8>, offset: u16) -> Vec<u8> {
    frame[20..22].copy_from_slice(&offset.to_be_bytes());
    frame
}

/// Frames that a container may send.
pub(super) fn own(macs: Macs) -> Frames {
    let link_local = derived(0xfe80, macs.from);
    let advertised = derived(0x2001, macs.from);
    let all6 = [OWN6, ALL_NODES];
    vec![
        ("ARP request", arp(macs, 1, OWN, OTHER)),
        ("ARP reply", arp(macs, 2, OWN, OTHER)),
        ("ARP probe", arp(macs, 1, NOBODY, OWN)),
        ("ARP announcement", arp(macs, 1, OWN, OWN)),
        ("UDP", udp(macs, [OWN, OTHER], [5353, 5353], b"x")),
        ("mDNS", udp(macs, [OWN, group(251)], [5353, 5353], b"x")),
        ("LLMNR", udp(macs, [OWN, group(252)], [5000, 5355], b"x")),
        (
            "to all hosts",
            udp(macs, [OWN, group(1)], [5000, 5000], b"x"),
        ),
        ("PTP", udp(macs, [OWN, group(107)], [319, 319], b"x")),
        (
            "SSDP",
            udp(
                macs,
                [OWN, Ipv4Addr::new(239, 255, 255, 250)],
                [5000, 1900],
                b"x",
            ),
        ),
        (
            "from a RIP port",
            udp(macs, [OWN, OTHER], [520, 5000], b"x"),
        ),
        ("TCP", ipv4(macs, [OWN, OTHER], 6, &[0; 20])),
        (
            "ping",
            ipv4(macs, [OWN, OTHER], 1, &[8, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "destination unreachable",
            ipv4(macs, [OWN, OTHER], 1, &[3; 8]),
        ),
        (
            "IGMP report",
            with_option(ipv4(macs, [OWN, group(22)], 2, &[0x22, 0, 0, 0])),
        ),
        (
            "IGMP report, version 2",
            with_option(ipv4(macs, [OWN, group(251)], 2, &[0x16, 0, 0, 0])),
        ),
        (
            "IGMP leave",
            with_option(ipv4(macs, [OWN, group(2)], 2, &[0x17, 0, 0, 0])),
        ),
        (
            "IGMP report, version 1",
            with_option(ipv4(macs, [OWN, group(251)], 2, &[0x12, 0, 0, 0])),
        ),
        (
            "a later fragment whose octets look like a server's ports",
            at_offset(udp(macs, [OWN, OTHER], [67, 68], b"x"), 10),
        ),
        ("UDP over IPv6", ipv6(macs, all6, 17, &datagram(5353, 5353))),
        (
            "mDNS over IPv6",
            ipv6(macs, [OWN6, group6(0, 0xfb)], 17, &datagram(5353, 5353)),
        ),
        (
            "LLMNR over IPv6",
            ipv6(macs, [OWN6, group6(1, 3)], 17, &datagram(5000, 5355)),
        ),
        (
            "SSDP over IPv6",
            ipv6(macs, [OWN6, group6(0, 0xc)], 17, &datagram(5000, 1900)),
        ),
        (
            "to DHCPv6 servers",
            ipv6(macs, [OWN6, group6(1, 2)], 17, &datagram(546, 547)),
        ),
        ("TCP over IPv6", ipv6(macs, all6, 6, &[0; 20])),
        (
            "from the link-local address",
            ipv6(macs, [link_local, ALL_NODES], 17, &datagram(1, 2)),
        ),
        (
            "from an autoconfigured one",
            ipv6(macs, [advertised, ALL_NODES], 17, &datagram(1, 2)),
        ),
        (
            "neighbour solicitation",
            ipv6(macs, all6, 58, &icmpv6(135, OTHER6)),
        ),
        (
            "neighbour advertisement",
            ipv6(macs, all6, 58, &icmpv6(136, OWN6)),
        ),
        (
            "that of the link-local address",
            ipv6(macs, all6, 58, &icmpv6(136, link_local)),
        ),
        (
            "address detection",
            ipv6(macs, [NOBODY6, ALL_NODES], 58, &icmpv6(135, OWN6)),
        ),
        (
            "that of a derived one",
            ipv6(macs, [NOBODY6, ALL_NODES], 58, &icmpv6(135, link_local)),
        ),
        (
            "router solicitation",
            ipv6(macs, [NOBODY6, ALL_NODES], 58, &icmpv6(133, NOBODY6)),
        ),
        (
            "listener report",
            ipv6(macs, [link_local, ALL_NODES], 0, &alerted(143)),
        ),
        ("listener report, v1", ipv6(macs, all6, 0, &alerted(131))),
        (
            "listener report without an address",
            ipv6(macs, [NOBODY6, ALL_NODES], 0, &alerted(143)),
        ),
        (
            "ping over IPv6",
            ipv6(macs, all6, 58, &icmpv6(128, NOBODY6)),
        ),
        (
            "fragment of UDP",
            ipv6(macs, all6, 44, &fragment(17, 0, &datagram(1, 2))),
        ),
        (
            "fragment of a ping",
            ipv6(macs, all6, 44, &fragment(58, 0, &icmpv6(128, NOBODY6))),
        ),
        (
            "later fragment",
            ipv6(macs, all6, 44, &fragment(17, 9, &datagram(547, 546))),
        ),
    ]
}

/// Frames of a DHCP client, which only leasehold may send.
pub(super) fn dhcp_client(macs: Macs) -> Frames {
    let to_server = [68, 67];
    vec![
        (
            "DISCOVER",
            udp(
                macs,
                [NOBODY, ALL],
                to_server,
                &dhcp(NOBODY, NOBODY, macs.from),
            ),
        ),
        (
            "renewal",
            udp(macs, [OWN, OTHER], to_server, &dhcp(OWN, NOBODY, macs.from)),
        ),
    ]
}

/// Frames that it may not send.
pub(super) fn others(macs: Macs) -> Frames {
    let thief = Macs {
        from: [2, 0, 0, 0, 0, 0x66],
        ..macs
    };
    let all6 = [OWN6, ALL_NODES];
    let to_server = [68, 67];
    let own_message = dhcp(NOBODY, NOBODY, macs.from);
    let client = udp(macs, [OWN, OTHER], to_server, &dhcp(OWN, NOBODY, macs.from));
    let ip_over_802_3 = ethernet(macs, 40, &udp(macs, [OWN, OTHER], [1, 2], b"x")[14..]);
    let vlan = [
        &[0, 7, 8, 0][..],
        &udp(macs, [OWN, OTHER], [1, 2], b"x")[14..],
    ]
    .concat();
    let mut lying_arp = arp(macs, 2, OWN, OTHER);
    lying_arp[27] ^= 1;
    vec![
        ("another MAC", udp(thief, [OWN, OTHER], [1, 2], b"x")),
        (
            "ARP with another MAC in the frame",
            arp(thief, 1, OWN, OTHER),
        ),
        ("ARP with another MAC in the packet", lying_arp),
        ("ARP reply for another's address", arp(macs, 2, OTHER, OWN)),
        (
            "ARP request from another's address",
            arp(macs, 1, OTHER, OWN),
        ),
        ("ARP reply from nobody", arp(macs, 2, NOBODY, OWN)),
        (
            "ARP probe for another's address",
            arp(macs, 1, NOBODY, OTHER),
        ),
        ("ARP of another operation", arp(macs, 8, OWN, OTHER)),
        ("ARP for another kind of address", {
            let mut frame = arp(macs, 2, OWN, OTHER);
            frame[14] = 9;
            frame
        }),
        ("VLAN tag", ethernet(macs, 0x8100, &vlan)),
        ("service tag", ethernet(macs, 0x88a8, &vlan)),
        ("802.1X", ethernet(macs, 0x888e, &[0; 46])),
        ("802.3, as spanning tree has it", ip_over_802_3),
        ("LLDP", ethernet(macs, 0x88cc, &[0; 46])),
        (
            "IPv4 from another's address",
            udp(macs, [OTHER, OWN], [1, 2], b"x"),
        ),
        ("IPv4 from nobody", udp(macs, [NOBODY, ALL], [1, 2], b"x")),
        (
            "TCP from nobody",
            ipv4(macs, [NOBODY, ALL], 6, &datagram(68, 67)),
        ),
        (
            "DHCP server's OFFER",
            udp(macs, [OWN, ALL], [67, 68], &own_message),
        ),
        (
            "from a server's port",
            udp(macs, [OWN, ALL], [67, 5000], b"x"),
        ),
        (
            "to a client's port",
            udp(macs, [OWN, ALL], [5000, 68], b"x"),
        ),
        (
            "DHCP relay",
            udp(macs, [OWN, OTHER], to_server, &dhcp(NOBODY, OWN, macs.from)),
        ),
        (
            "DHCP for another MAC",
            udp(
                macs,
                [NOBODY, ALL],
                to_server,
                &dhcp(NOBODY, NOBODY, thief.from),
            ),
        ),
        (
            "RELEASE of another's address",
            udp(
                macs,
                [OWN, OTHER],
                to_server,
                &dhcp(OTHER, NOBODY, macs.from),
            ),
        ),
        (
            "to a server from another port",
            udp(macs, [OWN, OTHER], [5000, 67], &own_message),
        ),
        ("a server's message to a server", {
            let mut reply = own_message.clone();
            reply[0] = 2;
            udp(macs, [OWN, ALL], to_server, &reply)
        }),
        (
            "ICMP redirect",
            ipv4(macs, [OWN, OTHER], 1, &[5, 1, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "ICMP router advertisement",
            ipv4(macs, [OWN, ALL], 1, &[9, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "the first fragment of a DHCP client's message, and padding",
            cut(client.clone(), 28, 0x2000),
        ),
        (
            "a DHCP client's message behind the end of the packet",
            cut(client.clone(), 61, 0),
        ),
        (
            "a DHCP client's message that goes on in a fragment",
            at_offset(client, 0x2000),
        ),
        ("HSRP", udp(macs, [OWN, group(2)], [1985, 1985], b"x")),
        (
            "HSRP, version 2",
            udp(macs, [OWN, group(102)], [1985, 1985], b"x"),
        ),
        ("GLBP", udp(macs, [OWN, group(102)], [3222, 3222], b"x")),
        ("LDP", udp(macs, [OWN, group(2)], [646, 646], b"x")),
        ("Babel", udp(macs, [OWN, group(111)], [6696, 6696], b"x")),
        ("RIP", udp(macs, [OWN, group(9)], [520, 520], b"x")),
        ("to a PIM router", udp(macs, [OWN, group(13)], [1, 2], b"x")),
        (
            "to a VRRP router",
            udp(macs, [OWN, group(18)], [1, 2], b"x"),
        ),
        ("RIP to all", udp(macs, [OWN, ALL], [520, 520], b"x")),
        ("RIP to one", udp(macs, [OWN, OTHER], [5000, 520], b"x")),
        ("RIPng to one", udp(macs, [OWN, OTHER], [5000, 521], b"x")),
        (
            "RIP's first fragment",
            at_offset(udp(macs, [OWN, group(9)], [520, 520], &[0; 8]), 0x2000),
        ),
        ("DVMRP", with_option(ipv4(macs, [OWN, ALL], 2, &[0x13; 8]))),
        (
            "PIM, version 1",
            with_option(ipv4(macs, [OWN, ALL], 2, &[0x14; 8])),
        ),
        (
            "multicast traceroute",
            with_option(ipv4(macs, [OWN, ALL], 2, &[0x1f; 8])),
        ),
        (
            "multicast router advertisement",
            with_option(ipv4(macs, [OWN, ALL], 2, &[0x30; 8])),
        ),
        ("IGMP report with another option", {
            let mut frame = with_option(ipv4(macs, [OWN, ALL], 2, &[0x22; 8]));
            frame[34] = 0x44;
            frame
        }),
        (
            "a fragment of an IGMP report",
            at_offset(with_option(ipv4(macs, [OWN, ALL], 2, &[0x22; 8])), 0x2000),
        ),
        ("IGMP query", ipv4(macs, [OWN, ALL], 2, &[0x11, 0, 0, 0])),
        (
            "IGMP query with a router alert",
            with_option(ipv4(macs, [OWN, ALL], 2, &[0x11, 0, 0, 0])),
        ),
        (
            "a server's port behind an option",
            with_option(udp(macs, [OWN, ALL], [67, 68], b"x")),
        ),
        ("EIGRP", ipv4(macs, [OWN, ALL], 88, &[0; 8])),
        ("OSPF", ipv4(macs, [OWN, ALL], 89, &[0; 8])),
        ("PIM", ipv4(macs, [OWN, ALL], 103, &[0; 8])),
        ("VRRP", ipv4(macs, [OWN, ALL], 112, &[0; 8])),
        (
            "IPv6 from another's address",
            ipv6(macs, [OTHER6, ALL_NODES], 17, &datagram(1, 2)),
        ),
        (
            "IPv6 from nobody",
            ipv6(macs, [NOBODY6, ALL_NODES], 17, &datagram(1, 2)),
        ),
        (
            "router advertisement",
            ipv6(
                macs,
                [derived(0xfe80, macs.from), ALL_NODES],
                58,
                &icmpv6(134, NOBODY6),
            ),
        ),
        ("redirect", ipv6(macs, all6, 58, &icmpv6(137, OTHER6))),
        (
            "router renumbering",
            ipv6(macs, all6, 58, &icmpv6(138, OTHER6)),
        ),
        (
            "listener query",
            ipv6(macs, all6, 58, &icmpv6(130, NOBODY6)),
        ),
        (
            "listener query with a router alert",
            ipv6(macs, all6, 0, &alerted(130)),
        ),
        (
            "advertisement of another's address",
            ipv6(macs, all6, 58, &icmpv6(136, OTHER6)),
        ),
        (
            "detection of another's address",
            ipv6(macs, [NOBODY6, ALL_NODES], 58, &icmpv6(135, OTHER6)),
        ),
        (
            "advertisement from nobody",
            ipv6(macs, [NOBODY6, ALL_NODES], 58, &icmpv6(136, OWN6)),
        ),
        (
            "DHCPv6 server's ADVERTISE",
            ipv6(macs, all6, 17, &datagram(547, 546)),
        ),
        (
            "from a DHCPv6 server's port",
            ipv6(macs, all6, 17, &datagram(547, 5000)),
        ),
        (
            "to a DHCPv6 client's port",
            ipv6(macs, all6, 17, &datagram(5000, 546)),
        ),
        (
            "HSRP over IPv6",
            ipv6(macs, [OWN6, group6(0, 0x66)], 17, &datagram(2029, 2029)),
        ),
        (
            "Babel over IPv6",
            ipv6(macs, [OWN6, group6(1, 6)], 17, &datagram(6696, 6696)),
        ),
        (
            "RIPng",
            ipv6(macs, [OWN6, group6(0, 9)], 17, &datagram(521, 521)),
        ),
        ("RIPng to all", ipv6(macs, all6, 17, &datagram(521, 521))),
        (
            "RIPng's first fragment",
            ipv6(
                macs,
                [OWN6, group6(0, 9)],
                44,
                &fragment(17, 0, &datagram(5000, 5000)),
            ),
        ),
        (
            "to all routers over IPv6",
            ipv6(macs, [OWN6, group6(0, 2)], 17, &datagram(1, 2)),
        ),
        (
            "to PIM routers over IPv6",
            ipv6(macs, [OWN6, group6(0, 0xd)], 17, &datagram(1, 2)),
        ),
        (
            "to VRRP routers over IPv6",
            ipv6(macs, [OWN6, group6(0, 0x12)], 17, &datagram(1, 2)),
        ),
        (
            "router advertisement behind options",
            ipv6(macs, all6, 0, &alerted(134)),
        ),
        (
            "the same behind destination options",
            ipv6(macs, all6, 60, &alerted(134)),
        ),
        (
            "the same behind a routing header",
            ipv6(macs, all6, 43, &alerted(134)),
        ),
        (
            "the same in a fragment",
            ipv6(macs, all6, 44, &fragment(58, 0, &icmpv6(134, NOBODY6))),
        ),
        (
            "options in a fragment",
            ipv6(macs, all6, 44, &fragment(60, 0, &alerted(134))),
        ),
        (
            "from a DHCPv6 server's port in a fragment",
            ipv6(macs, all6, 44, &fragment(17, 0, &datagram(547, 1))),
        ),
        (
            "to a DHCPv6 client's port in a fragment",
            ipv6(macs, all6, 44, &fragment(17, 0, &datagram(1, 546))),
        ),
        ("OSPF over IPv6", ipv6(macs, all6, 89, &[0; 8])),
        ("VRRP over IPv6", ipv6(macs, all6, 112, &[0; 8])),
    ]
}

/// Sends each frame from the container, through the queue and past it, and checks what becomes of
/// it.
fn ensure_sent(ends: &Ends, frames: &Frames, expected: bool) -> Result {
    for past_the_queue in [false, true] {
        ends.inside.bypass_queue(past_the_queue)?;
        for (what, frame) in frames {
            let sent = ends.inside.send(frame, 0)?;
            let queue = if past_the_queue {
                ", past the queue"
            } else {
                ""
            };
            ensure!(sent == expected, "{what}{queue}: let through: {sent}");
        }
    }
    Ok(())
}

fn what_is_the_containers_own_goes_out(_: &World) -> Result {
    let ends = Ends::new(json!(true))?;
    ensure_sent(&ends, &own(ends.to_all()), true)
}

fn what_is_not_its_own_goes_out_of_an_unguarded_container_only(_: &World) -> Result {
    let mut ends = Ends::new(json!(true))?;
    ensure_sent(&ends, &others(ends.to_all()), false)?;
    ends.inside.mark(SOCKET_MARK)?;
    ensure_sent(&ends, &others(ends.to_all()), false)?;
    ends.inside = FrameSocket::open(&unguarded(&ends.lan)?, "eth0")?;
    ensure_sent(&ends, &others(ends.to_all()), true)
}

fn only_leaseholds_own_messages_go_to_a_dhcp_server(_: &World) -> Result {
    let ends = Ends::new(json!(true))?;
    for (mark, expected) in [(0, false), (SOCKET_MARK, true), (SOCKET_MARK + 1, false)] {
        ends.inside.mark(mark)?;
        ensure_sent(&ends, &dhcp_client(ends.to_all()), expected)?;
    }
    Ok(())
}

/// A container beside the other one, without a guard.
fn unguarded(lan: &Lan) -> Result<Node> {
    let container = lan.container("c2")?;
    let conflist = guarded(json!(false), &["10.99.0.51/24"]);
    Network::new(&lan.host, conflist).add(&Attachment::new(&container))?;
    Ok(container)
}

fn the_protocol_that_a_socket_names_does_not_deceive_the_guard(_: &World) -> Result {
    let ends = Ends::new(json!(true))?;
    let macs = ends.to_all();
    // With a VLAN's protocol, the kernel looks for the IP header four octets further on, and finds
    // one there that is the container's own.
    let theirs = ipv4(macs, [OTHER, OWN], 253, &[]);
    let ours = ipv4(macs, [OWN, OTHER], 253, &[0; 40]);
    let both = [&theirs[..18], &ours[14..]].concat();
    for protocol in [0x8100, 0x0800, 0x0806, 0x86dd, 0x88a8, 3, 0] {
        ends.inside.bypass_queue(false)?;
        ensure!(ends.inside.send(&ours, protocol)?, "ours as {protocol:#x}");
        for past_the_queue in [false, true] {
            ends.inside.bypass_queue(past_the_queue)?;
            ensure!(
                !ends.inside.send(&both, protocol)?,
                "theirs as {protocol:#x}"
            );
        }
    }
    Ok(())
}
