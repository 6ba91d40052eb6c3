//! What addresses, routes and rules have in common.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::AddressFamily;

/// How far away a destination is, or how far an address is valid (`rtm_scope` and `ifa_scope` of
/// rtnetlink(7)). A larger number is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scope(pub u8);

impl Scope {
    /// Anywhere: ordinary addresses, and routes through a gateway.
    pub const UNIVERSE: Scope = Scope(0);
    /// On the link: link-local addresses, and routes without a gateway.
    pub const LINK: Scope = Scope(253);
}

/// Who configured an address, a route or a rule (`rtm_protocol` of rtnetlink(7), `IFA_PROTO`,
/// `FRA_PROTOCOL`). The kernel stores the number and gives it no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Protocol(pub u8);

impl Protocol {
    /// The kernel itself: a route that came with an address.
    pub const KERNEL: Protocol = Protocol(2);
    /// The machine's boot configuration, which is also ip-route(8)'s default.
    pub const BOOT: Protocol = Protocol(3);
    /// A DHCP client.
    pub const DHCP: Protocol = Protocol(16);
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// `0.0.0.0` or `::`, for which a message has no attribute.
pub(super) fn unspecified(family: AddressFamily) -> IpAddr {
    match family {
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}
