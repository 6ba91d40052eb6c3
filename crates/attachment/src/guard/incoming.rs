//! What may reach a guarded container that has a list of it (`allow`).
//!
//! Replies must come in, and the hooks of a link do not know connections. So these rules are in the
//! IP stack, behind connection tracking: they are for what the container's programs receive through
//! it, not for packet sockets, through which the daemon receives DHCP.

use ipnet::IpNet;
use linknet::nft::{Chain, Hook, HookPoint, Match, Policy, Rule, Verdict};

use super::key::{Allow, Transport};

/// The name of the chain.
pub(super) const CHAIN: &str = "incoming";

/// Behind connection tracking (`NF_IP_PRI_CONNTRACK`, -200), before destinations are rewritten
/// (`NF_IP_PRI_NAT_DST`, -100).
const PRIORITY: i32 = -150;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Offsets of the source in the IP header.
const IPV4_SOURCE: u32 = 12;
const IPV6_SOURCE: u32 = 8;
/// Offset of the destination in the headers of TCP and UDP.
const DESTINATION_PORT: u32 = 2;

/// The chain for what comes in on the link with this index.
pub(super) fn chain(link: u32, allowed: &[Allow]) -> Chain {
    let always = [
        accept("other interfaces").when(Match::incoming_link(link).negated()),
        accept("replies").when(Match::known_connection()),
        of("ping", IPV4, ICMP).when(types(8, 8)),
        of("ping", IPV6, ICMPV6).when(types(128, 128)),
        of("multicast listeners, routers and neighbours", IPV6, ICMPV6).when(types(130, 137)),
        of("multicast listeners", IPV6, ICMPV6).when(types(143, 143)),
        of("IGMP", IPV4, IGMP),
        of("DHCP replies", IPV4, UDP).when(ports(67, 68)),
        of("DHCPv6 replies", IPV6, UDP).when(ports(547, 546)),
    ];
    let rest = Rule::new(Verdict::Drop, "not in the list").counted();
    let hook = Hook {
        point: HookPoint::Prerouting,
        priority: PRIORITY,
        policy: Policy::Accept,
    };
    let allowed = allowed.iter().map(allow);
    Chain {
        name: CHAIN.to_owned(),
        hook: Some(hook),
        rules: always.into_iter().chain(allowed).chain([rest]).collect(),
    }
}

/// The rule for an entry of the list.
fn allow(entry: &Allow) -> Rule {
    let rule = accept(entry.to_string());
    match entry {
        Allow::Ports(transport, ports) => {
            let protocol = match transport {
                Transport::Tcp => TCP,
                Transport::Udp => UDP,
            };
            let [first, last] = [ports.start(), ports.end()].map(|port| port.to_be_bytes());
            let destination = Match::transport(DESTINATION_PORT, &first).up_to(&last);
            rule.when(Match::protocol(protocol)).when(destination)
        }
        Allow::From(IpNet::V4(net)) => {
            let source = Match::network(IPV4_SOURCE, &net.network().octets());
            let source = source.masked(&net.netmask().octets());
            rule.when(Match::ip_version(IPV4)).when(source)
        }
        Allow::From(IpNet::V6(net)) => {
            let source = Match::network(IPV6_SOURCE, &net.network().octets());
            let source = source.masked(&net.netmask().octets());
            rule.when(Match::ip_version(IPV6)).when(source)
        }
    }
}

/// A rule for a protocol of one version of IP.
fn of(comment: &str, version: u8, protocol: u8) -> Rule {
    let rule = accept(comment.to_owned());
    rule.when(Match::ip_version(version))
        .when(Match::protocol(protocol))
}

/// Messages of these types, of ICMP and its kind.
fn types(first: u8, last: u8) -> Match {
    Match::transport(0, &[first]).up_to(&[last])
}

/// Datagrams from one port to the other.
fn ports(source: u16, destination: u16) -> Match {
    let [source, destination] = [source, destination].map(u16::to_be_bytes);
    Match::transport(0, &[source, destination].concat())
}

fn accept(comment: impl Into<String>) -> Rule {
    Rule::new(Verdict::Accept, comment)
}
