//! What a guarded container may send.
//!
//! Every field is found by its offset in the frame. The kernel's own notion of where the headers
//! are cannot be trusted here: the program that sends a frame through a packet socket also says
//! which protocol the kernel shall take it for, and with a VLAN's the IP header is looked for four
//! octets further on. Therefore only IPv4 headers without options are let through (IGMP needs one),
//! and no IPv6 extension headers but those that fragments and multicast listeners need.
//!
//! ADD creates the rules before there is an address, and inserts those for the addresses later:
//! that is cheaper than replacing the table. The time that the kernel takes for it grows with the
//! number of conditions, so those that several rules need are asked once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linknet::Mac;
use linknet::nft::{Chain, Hook, HookPoint, Match, Policy, Rule, Verdict};

/// The mark of the packet sockets that leasehold sends DHCP and ARP through. A guarded container's
/// own programs cannot set it. Nothing else may ask whether others use an address, nor send to a
/// DHCP server: the guard sees a
/// program's message before the kernel cuts it into segments (UDP_SEGMENT of udp(7)), and before
/// the program last changes it (splice(2)).
///
/// It has none of the bits that Kubernetes (0xc000), Cilium (0x0f00) and Calico (0xffff0000) look
/// for on the host, where the frame keeps its mark.
pub const SOCKET_MARK: u32 = 0x2043;

/// Offsets in a frame: Ethernet, then ARP (RFC 826).
const SENDER: u32 = 6;
const ETHERTYPE: u32 = 12;
const ARP_PROTOCOL: u32 = 16;
const ARP_TARGET_MAC: u32 = 32;
const ARP_TARGET_IP: u32 = 38;

/// Of IPv4 (RFC 791), and of UDP, ICMP and IGMP behind 20 octets of it.
const IPV4_VERSION_AND_LENGTH: u32 = 14;
const IPV4_TOTAL_LENGTH: u32 = 16;
const IPV4_FRAGMENT: u32 = 20;
const IPV4_PROTOCOL: u32 = 23;
const IPV4_SOURCE: u32 = 26;
const IPV4_DESTINATION: u32 = 30;
const IPV4_DATA: u32 = 34;
const IPV4_UDP_DESTINATION: u32 = 36;
/// Of IGMP behind a router alert option of four octets.
const IPV4_DATA_BEHIND_OPTION: u32 = 38;
/// That option (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];

/// Of a DHCP message behind IPv4 and UDP (RFC 2131 §2).
const DHCP_OPERATION: u32 = 42;
const DHCP_CIADDR: u32 = 54;
const DHCP_GIADDR: u32 = 66;
/// The least total length of IPv4 with a DHCP message up to the client's MAC in it.
const DHCP_MIN_LENGTH: u16 = 20 + 8 + 34;

/// Of IPv6 (RFC 8200), and of what follows it.
const IPV6_NEXT_HEADER: u32 = 20;
const IPV6_SOURCE: u32 = 22;
const IPV6_INTERFACE_ID: u32 = 30;
const IPV6_DESTINATION: u32 = 38;
const IPV6_DATA: u32 = 54;
/// The target of a neighbour discovery message (RFC 4861 §4.3), and its interface identifier.
const ND_TARGET: u32 = 62;
const ND_TARGET_INTERFACE_ID: u32 = 70;
/// What follows an extension header of eight octets.
const IPV6_DATA_BEHIND_HEADER: u32 = 62;
const IPV6_FRAGMENT: u32 = 56;

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;

/// With these, routers speak to routers: EIGRP and OSPF, PIM, VRRP.
const EIGRP: u8 = 88;
const OSPF: u8 = 89;
const PIM: u8 = 103;
const VRRP: u8 = 112;

/// With UDP to these groups, routers speak to routers (IANA's registries of multicast addresses):
/// HSRP, LDP (2), RIP (9) and others; HSRP and GLBP (102); Babel (111).
const ROUTERS: [(Ipv4Addr, Ipv4Addr); 3] = [
    (Ipv4Addr::new(224, 0, 0, 2), Ipv4Addr::new(224, 0, 0, 21)),
    (Ipv4Addr::new(224, 0, 0, 102), Ipv4Addr::new(224, 0, 0, 102)),
    (Ipv4Addr::new(224, 0, 0, 111), Ipv4Addr::new(224, 0, 0, 111)),
];

/// Of IPv6, `ff02::`: the same up to b, PIM (d), VRRP (12), HSRP and GLBP (66), Babel (1:6). SSDP
/// has c.
const ROUTERS6: [(Ipv6Addr, Ipv6Addr); 5] = [
    (link_local_group(0, 2), link_local_group(0, 0xb)),
    (link_local_group(0, 0xd), link_local_group(0, 0xd)),
    (link_local_group(0, 0x12), link_local_group(0, 0x12)),
    (link_local_group(0, 0x66), link_local_group(0, 0x66)),
    (link_local_group(1, 6), link_local_group(1, 6)),
];

const fn link_local_group(high: u16, low: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, high, low)
}

/// The ports of RIP and RIPng.
const RIP: u16 = 520;
const RIPNG: [u8; 2] = 521_u16.to_be_bytes();

/// Whom the container speaks as.
pub(super) struct Own<'a> {
    pub(super) mac: Mac,
    pub(super) addresses: &'a [IpAddr],
}

impl Own<'_> {
    /// The chains for what is sent on this device.
    pub(super) fn chains(&self, device: &str) -> Vec<Chain> {
        let mut chains = self.without_addresses(device);
        for addition in self.of_addresses() {
            for chain in chains
                .iter_mut()
                .filter(|chain| chain.name == addition.name)
            {
                chain.rules.splice(..0, addition.rules.iter().cloned());
            }
        }
        chains
    }

    /// The chains as they are without any address.
    fn without_addresses(&self, device: &str) -> Vec<Chain> {
        let hook = Hook {
            point: HookPoint::Egress {
                device: device.to_owned(),
            },
            priority: 0,
            policy: Policy::Drop,
        };
        let outgoing = Chain {
            hook: Some(hook),
            ..chain("outgoing", self.outgoing())
        };
        vec![
            outgoing,
            chain("own-arp", vec![self.inquiry()]),
            chain("ipv4-source", ipv4_source()),
            chain("ipv4-own", ipv4()),
            chain("dhcp-client", vec![self.dhcp_client()]),
            chain("dhcp-address", vec![dhcp_address(Ipv4Addr::UNSPECIFIED)]),
            chain("ipv6-source", self.ipv6_source()),
            chain("ipv6-own", ipv6()),
            chain("ipv6-data", ipv6_data()),
            chain("ipv6-unspecified", ipv6_unspecified()),
            chain("ipv6-listener", ipv6_listener()),
            chain("own-target", self.own_target()),
        ]
    }

    /// The rules for the addresses, which come first in their chains.
    pub(super) fn of_addresses(&self) -> Vec<Chain> {
        let mut chains = [
            "own-arp",
            "ipv4-source",
            "dhcp-address",
            "ipv6-source",
            "own-target",
        ]
        .map(|name| chain(name, Vec::new()));
        let [arp, ipv4_source, dhcp_addresses, ipv6_source, own_target] = &mut chains;
        for address in self.addresses {
            match *address {
                IpAddr::V4(own) => {
                    arp.rules.extend(self.arp(own));
                    let from = Match::frame(IPV4_SOURCE, &own.octets());
                    let rule = goto("ipv4-own", format!("from {own}")).when(from);
                    ipv4_source.rules.push(rule);
                    dhcp_addresses.rules.push(dhcp_address(own));
                }
                IpAddr::V6(own) => {
                    let from = Match::frame(IPV6_SOURCE, &own.octets());
                    let rule = goto("ipv6-own", format!("from {own}")).when(from);
                    ipv6_source.rules.push(rule);
                    let target = Match::frame(ND_TARGET, &own.octets());
                    own_target
                        .rules
                        .push(accept(format!("ND for {own}")).when(target));
                }
            }
        }
        chains.into()
    }

    /// The interface identifier that the kernel makes of the MAC (RFC 4291 appendix A), for
    /// link-local addresses and for those that follow from a router's advertisement.
    fn interface_id(&self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.mac.octets();
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    fn outgoing(&self) -> Vec<Rule> {
        let others_mac = Match::frame(SENDER, &self.mac.octets()).negated();
        let jump = |chain: &str, comment| Rule::new(Verdict::Jump(chain.to_owned()), comment);
        vec![
            Rule::new(Verdict::Drop, "the MAC of another")
                .when(others_mac)
                .counted(),
            jump("ipv4-source", "IPv4").when(Match::frame(ETHERTYPE, &[0x08, 0x00])),
            jump("ipv6-source", "IPv6").when(Match::frame(ETHERTYPE, &[0x86, 0xdd])),
            jump("own-arp", "ARP for Ethernet").when(Match::frame(ETHERTYPE, &[0x08, 0x06, 0, 1])),
            Rule::new(Verdict::Drop, "not the container's own").counted(),
        ]
    }

    /// ARP for an own address: requests and replies from it, and probes for it.
    fn arp(&self, own: Ipv4Addr) -> [Rule; 2] {
        // For IPv4, and the sender's addresses behind that.
        let packet = |operation, sender: Ipv4Addr| {
            let types = [8, 0, 6, 4, 0, operation];
            let packet = [&types[..], &self.mac.octets(), &sender.octets()].concat();
            Match::frame(ARP_PROTOCOL, &packet)
        };
        // A request is 1, a reply is 2. Nobody knows what 0 and 3 are.
        let mut either = [0xff; 16];
        either[5] = 0xfc;
        [
            accept(format!("ARP from {own}")).when(packet(0, own).masked(&either)),
            accept(format!("ARP probe for {own}"))
                .when(packet(1, Ipv4Addr::UNSPECIFIED))
                .when(Match::frame(ARP_TARGET_IP, &own.octets())),
        ]
    }

    /// leasehold's own question who has an address, which names the container's MAC where a probe
    /// names none ([`linknet::ArpSocket::inquire`]).
    fn inquiry(&self) -> Rule {
        let from_nobody = [&[8, 0, 6, 4, 0, 1], &self.mac.octets()[..], &[0; 4]].concat();
        accept("leasehold's ARP questions")
            .when(Match::mark(SOCKET_MARK))
            .when(Match::frame(ARP_PROTOCOL, &from_nobody))
            .when(Match::frame(ARP_TARGET_MAC, &self.mac.octets()))
    }

    /// The message of leasehold's client to a server: about the container's own MAC, and not as a
    /// relay. A container with CAP_NET_RAW can set the mark too; then what is looked at must be
    /// what the server reads, and so no fragment and no padding.
    fn dhcp_client(&self) -> Rule {
        let request_by_ethernet = Match::frame(DHCP_OPERATION, &[1, 1, 6]);
        let relay_and_mac = [&[0; 4][..], &self.mac.octets()].concat();
        let long_enough = Match::frame(IPV4_TOTAL_LENGTH, &DHCP_MIN_LENGTH.to_be_bytes());
        goto("dhcp-address", "leasehold's DHCP client")
            .when(Match::mark(SOCKET_MARK))
            .when(long_enough.up_to(&[0xff, 0xff]))
            .when(is_whole())
            .when(Match::frame(IPV4_DATA, &[0, 68, 0, 67]))
            .when(request_by_ethernet)
            .when(Match::frame(DHCP_GIADDR, &relay_and_mac))
    }

    fn ipv6_source(&self) -> Vec<Rule> {
        let derived = Match::frame(IPV6_INTERFACE_ID, &self.interface_id());
        let nobody = Match::frame(IPV6_SOURCE, &[0; 16]);
        vec![
            goto("ipv6-own", "from an address derived from the MAC").when(derived),
            goto("ipv6-unspecified", "without an address").when(nobody),
        ]
    }

    /// Neighbour discovery for an own address.
    fn own_target(&self) -> Vec<Rule> {
        let derived = Match::frame(ND_TARGET_INTERFACE_ID, &self.interface_id());
        vec![accept("ND for an address derived from the MAC").when(derived)]
    }
}

/// A client's message for this address, or for none.
fn dhcp_address(client: Ipv4Addr) -> Rule {
    let with_address = Match::frame(DHCP_CIADDR, &client.octets());
    accept(format!("a DHCP client with the address {client}")).when(with_address)
}

fn ipv4_source() -> Vec<Rule> {
    // Before it has an address, a client can only broadcast.
    let nobody_to_all = Match::frame(IPV4_SOURCE, &[0, 0, 0, 0, 255, 255, 255, 255]);
    let client = goto("dhcp-client", "a DHCP client without an address")
        .when(nobody_to_all)
        .when(Match::frame(IPV4_VERSION_AND_LENGTH, &[0x45]))
        .when(Match::frame(IPV4_PROTOCOL, &[UDP]));
    vec![client]
}

/// IPv4 from an own address.
fn ipv4() -> Vec<Rule> {
    let protocol = |number| Match::frame(IPV4_PROTOCOL, &[number]);
    let at = |offset, value: &[u8]| Match::frame(offset, value);
    let port = |offset, port: u16| Match::frame(offset, &port.to_be_bytes());
    let igmp = accept("IGMP, but only reports and leaves")
        .when(at(IPV4_VERSION_AND_LENGTH, &[0x46]))
        .when(protocol(IGMP))
        .when(is_whole())
        .when(at(IPV4_DATA, &ROUTER_ALERT));
    let igmp = hosts_igmp_types().into_iter().fold(igmp, Rule::when);
    let options = Rule::new(Verdict::Drop, "with options")
        .when(at(IPV4_VERSION_AND_LENGTH, &[0x45]).negated())
        .counted();
    let later = at(IPV4_FRAGMENT, &[0, 0]).masked(&[0x1f, 0xff]).negated();
    let to_server = goto("dhcp-client", "to a DHCP server")
        .when(protocol(UDP))
        .when(port(IPV4_UDP_DESTINATION, 67));
    let udp = accept("UDP, but not as a DHCP server or a router")
        .when(protocol(UDP))
        .when(port(IPV4_DATA, 67).negated())
        .when(port(IPV4_UDP_DESTINATION, 68).negated())
        .when(port(IPV4_UDP_DESTINATION, RIP).up_to(&RIPNG).negated());
    let to_no_router = |rule: Rule, (first, last): (Ipv4Addr, Ipv4Addr)| {
        let group = at(IPV4_DESTINATION, &first.octets()).up_to(&last.octets());
        rule.when(group.negated())
    };
    let udp = ROUTERS.into_iter().fold(udp, to_no_router);
    let icmp = accept("ICMP, but no redirect and no router advertisement")
        .when(protocol(ICMP))
        .when(at(IPV4_DATA, &[5]).negated())
        .when(at(IPV4_DATA, &[9]).negated());
    let others = [
        (ICMP, IGMP),
        (UDP, UDP),
        (EIGRP, OSPF),
        (PIM, PIM),
        (VRRP, VRRP),
    ];
    let rest = accept("the rest, but no EIGRP, OSPF, PIM and VRRP");
    let except = |rule: Rule, (first, last)| rule.when(protocol(first).up_to(&[last]).negated());
    vec![
        igmp,
        options,
        accept("a fragment after the first").when(later),
        to_server,
        udp,
        icmp,
        others.into_iter().fold(rest, except),
    ]
}

/// What hosts send of IGMP: reports of version 1 (0x12), 2 (0x16) and 3 (0x22), and that they leave
/// (0x17). Between these are DVMRP, PIM and the tracing of multicast routes; queries (0x11) and the
/// discovery of multicast routers (from 0x30) are outside (IANA's registry of IGMP types).
fn hosts_igmp_types() -> [Match; 3] {
    let types = |first, last| Match::frame(IPV4_DATA_BEHIND_OPTION, &[first]).up_to(&[last]);
    [
        types(0x12, 0x22),
        types(0x13, 0x15).negated(),
        types(0x18, 0x21).negated(),
    ]
}

/// No part of a datagram, be it the first or a later one.
fn is_whole() -> Match {
    const MORE_FRAGMENTS_AND_OFFSET: [u8; 2] = [0x3f, 0xff];
    Match::frame(IPV4_FRAGMENT, &[0, 0]).masked(&MORE_FRAGMENTS_AND_OFFSET)
}

/// IPv6 from an own address. Of ICMPv6, what only routers send is left out: listener queries (130),
/// advertisements (134), redirects (137) and renumbering (138).
fn ipv6() -> Vec<Rule> {
    let next = |number| Match::frame(IPV6_NEXT_HEADER, &[number]);
    let icmp_type = |number| Match::frame(IPV6_DATA, &[number]);
    let to_no_router = |rule: Rule, (first, last): (Ipv6Addr, Ipv6Addr)| {
        let group = Match::frame(IPV6_DESTINATION, &first.octets()).up_to(&last.octets());
        rule.when(group.negated())
    };
    let data = goto("ipv6-data", "to others than routers");
    vec![
        accept("TCP").when(next(TCP)),
        accept("ICMPv6 errors, pings and solicitations")
            .when(next(ICMPV6))
            .when(icmp_type(1).up_to(&[135]))
            .when(icmp_type(130).up_to(&[132]).negated())
            .when(icmp_type(134).negated()),
        goto("own-target", "neighbour advertisement")
            .when(next(ICMPV6))
            .when(icmp_type(136)),
        goto("ipv6-listener", "hop-by-hop options").when(next(HOP_BY_HOP)),
        ROUTERS6.into_iter().fold(data, to_no_router),
    ]
}

/// UDP, and fragments. Neighbour discovery is in none (RFC 6980).
fn ipv6_data() -> Vec<Rule> {
    let next = |number| Match::frame(IPV6_NEXT_HEADER, &[number]);
    let behind_fragment = |number| Match::frame(IPV6_DATA, &[number]);
    let later = Match::frame(IPV6_FRAGMENT, &[0, 0])
        .masked(&[0xff, 0xf8])
        .negated();
    let echo = Match::frame(IPV6_DATA_BEHIND_HEADER, &[128]).up_to(&[129]);
    vec![
        udp_but_no_server("UDP, but not as a DHCPv6 server", IPV6_DATA).when(next(UDP)),
        accept("a fragment after the first")
            .when(next(FRAGMENT))
            .when(later),
        udp_but_no_server("the first fragment of UDP", IPV6_DATA_BEHIND_HEADER)
            .when(next(FRAGMENT))
            .when(behind_fragment(UDP)),
        accept("the first fragment of a ping")
            .when(next(FRAGMENT))
            .when(behind_fragment(ICMPV6))
            .when(echo),
    ]
}

/// UDP whose header is at this offset in the frame, but not as a DHCPv6 server, and no RIPng.
fn udp_but_no_server(comment: &str, header: u32) -> Rule {
    let port = |offset, port: u16| Match::frame(header + offset, &port.to_be_bytes());
    accept(comment)
        .when(port(0, 547).negated())
        .when(port(2, 546).negated())
        .when(port(2, RIP).up_to(&RIPNG).negated())
}

/// IPv6 before there is an address: duplicate address detection for an own one (RFC 4862 §5.4), and
/// a host that asks for routers.
fn ipv6_unspecified() -> Vec<Rule> {
    let is_icmp = || Match::frame(IPV6_NEXT_HEADER, &[ICMPV6]);
    let of_type = |number| Match::frame(IPV6_DATA, &[number]);
    let options = Match::frame(IPV6_NEXT_HEADER, &[HOP_BY_HOP]);
    vec![
        goto("own-target", "duplicate address detection")
            .when(is_icmp())
            .when(of_type(135)),
        accept("router solicitation")
            .when(is_icmp())
            .when(of_type(133)),
        goto("ipv6-listener", "hop-by-hop options").when(options),
    ]
}

/// Reports of multicast listeners, which have a router alert option of eight octets (RFC 3810 §5).
fn ipv6_listener() -> Vec<Rule> {
    let icmp_behind_eight_octets = Match::frame(IPV6_DATA, &[ICMPV6, 0]);
    let types = |first, last| Match::frame(IPV6_DATA_BEHIND_HEADER, &[first]).up_to(&[last]);
    // 131 and 132 are of version 1, 143 is of version 2.
    vec![
        accept("listener report")
            .when(icmp_behind_eight_octets)
            .when(types(131, 143))
            .when(types(133, 142).negated()),
    ]
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        hook: None,
        rules,
    }
}

fn accept(comment: impl Into<String>) -> Rule {
    Rule::new(Verdict::Accept, comment)
}

fn goto(chain: &str, comment: impl Into<String>) -> Rule {
    Rule::new(Verdict::Goto(chain.to_owned()), comment)
}
