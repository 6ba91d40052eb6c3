//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use libc::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteScope, RouteType, RouteVia,
};

use super::{Change, Netlink, Protocol, Scope, family};
use crate::Result;

/// A unicast route through a link, as it is or as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; prefix length 0 is the default route.
    pub dst: IpNet,
    /// The router; `None` if the destination is on the link itself. It may be an IPv6 router for an
    /// IPv4 destination (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// The link that it goes through.
    pub index: u32,
    /// The lower, the sooner it is used. IPv6 makes 1024 of 0.
    pub metric: u32,
    /// The table that it is in.
    pub table: u32,
    /// How far the destination is (IPv4 only).
    pub scope: Scope,
    /// Who made it.
    pub protocol: Protocol,
    /// The source address that it makes the host prefer.
    pub source: Option<IpAddr>,
    /// The largest packet that is sent along it.
    pub mtu: Option<u32>,
    /// The largest segment that TCP announces along it.
    pub advmss: Option<u32>,
    /// Whether the gateway is taken to be on the link though no prefix of ours says so.
    pub onlink: bool,
}

impl Route {
    /// The main table, where routes are looked for unless a rule says otherwise.
    pub const MAIN: u32 = 254;

    /// A route to something on the link, in the main table, with all else left to the kernel. Bits
    /// of the destination beyond its prefix do not count.
    pub fn new(dst: impl Into<IpNet>, index: u32) -> Route {
        let dst = dst.into().trunc();
        Route {
            dst,
            gateway: None,
            index,
            metric: 0,
            table: Route::MAIN,
            scope: if dst.addr().is_ipv4() {
                Scope::LINK
            } else {
                Scope::UNIVERSE
            },
            protocol: Protocol::BOOT,
            source: None,
            mtu: None,
            advmss: None,
            onlink: false,
        }
    }

    /// The same through a router.
    #[must_use]
    pub fn via(self, gateway: impl Into<IpAddr>) -> Route {
        Route {
            gateway: Some(gateway.into()),
            scope: Scope::UNIVERSE,
            ..self
        }
    }

    /// Whether the two lead the same packets the same way. Who made them does not matter, nor
    /// does what the kernel ignores or makes of it.
    pub fn is_same(&self, other: &Route) -> bool {
        self.normal() == other.normal()
    }

    fn normal(&self) -> Route {
        let v6 = self.dst.addr().is_ipv6();
        Route {
            dst: self.dst.trunc(),
            metric: if v6 && self.metric == 0 {
                IPV6_METRIC
            } else {
                self.metric
            },
            scope: if v6 { Scope::UNIVERSE } else { self.scope },
            protocol: Protocol::default(),
            ..self.clone()
        }
    }
}

/// `IP6_RT_PRIO_USER` of net/ip6_route.h.
const IPV6_METRIC: u32 = 1024;

impl Netlink {
    /// The unicast routes of both families in all tables; through one link only, if given. A route
    /// over several hops is listed once for each.
    ///
    /// # Errors
    /// `is_absent` if there is no such link.
    pub fn routes(&self, index: Option<u32>) -> Result<Vec<Route>> {
        let mut routes =
            self.matching(|message| message.attributes.extend(index.map(RouteAttribute::Oif)))?;
        routes.retain(|route| index.is_none_or(|index| route.index == index));
        Ok(routes)
    }

    /// Those that somebody has made: the kernel looks through all of them, but tells these alone.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn routes_with_protocol(&self, protocol: Protocol) -> Result<Vec<Route>> {
        let mut routes = self.matching(|message| message.header.protocol = protocol.0.into())?;
        routes.retain(|route| route.protocol == protocol);
        Ok(routes)
    }

    /// The routes that are as `filter` describes. A kernel that does not check strictly does not
    /// filter.
    fn matching(&self, filter: impl Fn(&mut RouteMessage)) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.kind = RouteType::Unicast;
            filter(&mut message);
            let found: Vec<RouteMessage> =
                self.dump(&|| "list routes".to_owned(), RTM_GETROUTE, &message)?;
            // A kernel without IPv6 answers for all families.
            routes.extend(
                found
                    .iter()
                    .filter(|found| found.header.address_family == family)
                    .filter(|found| found.header.kind == RouteType::Unicast)
                    .filter(|found| !found.header.flags.contains(RouteFlags::Cloned))
                    .flat_map(read),
            );
        }
        Ok(routes)
    }

    /// The way that a packet to `to` would take: the route to that address alone, as it is looked
    /// up in all tables. `None` if there is no way, or none that leaves the host.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn route_get(&self, to: IpAddr) -> Result<Option<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(to);
        message.header.destination_prefix_length = IpNet::from(to).prefix_len();
        message
            .attributes
            .push(RouteAttribute::Destination(to.into()));
        match self.get::<RouteMessage>(
            &|| format!("look up the way to {to}"),
            RTM_GETROUTE,
            &message,
        ) {
            Ok(Some(found)) if found.header.kind == RouteType::Unicast => Ok(read(&found).pop()),
            Ok(_) => Ok(None),
            Err(error) if error.is_unreachable() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a route.
    ///
    /// # Errors
    /// `is_exists` if there is one to that destination of that metric in that table, be it another
    /// way; see [`Route::is_same`]. A gateway that is not within reach is refused unless the route
    /// is `onlink`.
    pub fn add_route(&self, route: &Route) -> Result<()> {
        let what = || format!("add route {}", text(route));
        self.change(&what, RTM_NEWROUTE, Change::Create, &message(route))
    }

    /// Makes a route beside whatever leads to that destination already, as iproute2's `prepend`
    /// does: of IPv4 routes of the same metric in the same table the newest is used, of IPv6 ones
    /// each in turn.
    ///
    /// # Errors
    /// `is_exists` if there is one already that leads there in the same way, and otherwise as for
    /// [`Netlink::add_route`].
    pub fn prepend_route(&self, route: &Route) -> Result<()> {
        let what = || format!("add route {}", text(route));
        self.change(&what, RTM_NEWROUTE, Change::Prepend, &message(route))
    }

    /// Makes a route, in place of the one to that destination of that metric in that table, if
    /// there is one.
    ///
    /// # Errors
    /// As for [`Netlink::add_route`], but for `is_exists`.
    pub fn replace_route(&self, route: &Route) -> Result<()> {
        let what = || format!("set route {}", text(route));
        self.change(&what, RTM_NEWROUTE, Change::Replace, &message(route))
    }

    /// Deletes a route: the one to that destination with that gateway, link, metric and table.
    ///
    /// # Errors
    /// `is_absent` if there is none.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        let mut message = message_for(route);
        message.header.scope = RouteScope::NoWhere; // any, to the kernel
        let what = || format!("delete route {}", text(route));
        self.change(&what, RTM_DELROUTE, Change::Existing, &message)
    }
}

fn text(route: &Route) -> String {
    match route.gateway {
        Some(gateway) => format!("{} via {gateway} on link {}", route.dst, route.index),
        None => format!("{} on link {}", route.dst, route.index),
    }
}

fn message(route: &Route) -> RouteMessage {
    let mut message = message_for(route);
    message.header.kind = RouteType::Unicast;
    message.header.protocol = route.protocol.0.into();
    message.header.scope = route.scope.0.into();
    message.header.flags.set(RouteFlags::Onlink, route.onlink);
    let attributes = &mut message.attributes;
    attributes.extend(
        route
            .source
            .map(|source| RouteAttribute::PrefSource(source.into())),
    );
    let mtu = route.mtu.map(RouteMetric::Mtu);
    let metrics: Vec<_> = mtu
        .into_iter()
        .chain(route.advmss.map(RouteMetric::Advmss))
        .collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// What tells a route from others.
fn message_for(route: &Route) -> RouteMessage {
    let dst = route.dst.trunc();
    let mut message = RouteMessage::default();
    message.header.address_family = family(dst.addr());
    message.header.destination_prefix_length = dst.prefix_len();
    let attributes = &mut message.attributes;
    if dst.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(dst.addr().into()));
    }
    attributes.push(RouteAttribute::Oif(route.index));
    attributes.push(RouteAttribute::Table(route.table));
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    attributes.extend(route.gateway.map(|gateway| {
        match gateway.is_ipv4() == dst.addr().is_ipv4() {
            true => RouteAttribute::Gateway(gateway.into()),
            false => RouteAttribute::Via(gateway.into()),
        }
    }));
    message
}

/// The routes that a message describes: one, or one for each hop.
fn read(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut dst = any;
    let mut hops: &[RouteNextHop] = &[];
    let mut route = Route::new(IpNet::from(any), 0);
    route.table = header.table.into();
    route.scope = Scope(header.scope.into());
    route.protocol = Protocol(header.protocol.into());
    route.onlink = header.flags.contains(RouteFlags::Onlink);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(address).unwrap_or(dst),
            RouteAttribute::Oif(index) => route.index = *index,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Metrics(metrics) => read_metrics(&mut route, metrics),
            RouteAttribute::MultiPath(several) => hops = several,
            other => read_gateway(&mut route, other),
        }
    }
    let Ok(dst) = IpNet::new(dst, header.destination_prefix_length) else {
        return Vec::new();
    };
    route.dst = dst;
    if hops.is_empty() {
        vec![route]
    } else {
        hops.iter().map(|hop| through(&route, hop)).collect()
    }
}

/// The part of a route that goes over one of its hops.
fn through(route: &Route, hop: &RouteNextHop) -> Route {
    let mut part = route.clone();
    part.index = hop.interface_index;
    part.onlink = hop.flags.contains(RouteNextHopFlags::Onlink);
    hop.attributes
        .iter()
        .for_each(|attribute| read_gateway(&mut part, attribute));
    part
}

fn read_gateway(route: &mut Route, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Gateway(address) => route.gateway = ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => route.gateway = Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => route.gateway = Some((*address).into()),
        _ => {}
    }
}

fn read_metrics(route: &mut Route, metrics: &[RouteMetric]) {
    for metric in metrics {
        match metric {
            RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
            RouteMetric::Advmss(advmss) => route.advmss = Some(*advmss),
            _ => {}
        }
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
