//! Routes.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use libc::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::Parseable;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteType, RouteVia,
};

use super::ip::{Protocol, Scope, family, unspecified};
use super::socket::{Change, Netlink};
use crate::error::{Error, Result};

/// A route: an existing one, or one to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What becomes of packets along it.
    pub kind: RouteKind,
    /// Its destination; prefix length 0 is the default route.
    pub dst: IpNet,
    /// The router; `None` if the destination is on the link itself. An IPv4 destination may have an
    /// IPv6 router (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// The index of the link that it goes through; 0 for one to be added that refuses packets.
    pub index: u32,
    /// Its priority among routes to one destination: the lowest metric is used. IPv6 turns 0 into
    /// 1024.
    pub metric: u32,
    /// The routing table that it is in.
    pub table: u32,
    /// How far away the destination is (IPv4 only).
    pub scope: Scope,
    /// Who configured it.
    pub protocol: Protocol,
    /// The source address that the host prefers for packets along it.
    pub source: Option<IpAddr>,
    /// The largest packet to send along it, in octets.
    pub mtu: Option<u32>,
    /// The maximum segment size that TCP advertises along it, in octets.
    pub advmss: Option<u32>,
    /// Whether the gateway counts as reachable on the link although no prefix of the link covers
    /// it.
    pub onlink: bool,
}

/// What becomes of packets to a route's destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// They are sent through a link.
    #[default]
    Unicast,
    /// They are dropped.
    Blackhole,
    /// They are dropped, and the sender is told that the host is unreachable.
    Unreachable,
    /// They are dropped, and the sender is told that this is prohibited.
    Prohibit,
}

impl RouteKind {
    /// The kind of a route in the kernel; `None` for one that neither sends nor refuses packets.
    fn of(kind: RouteType) -> Option<RouteKind> {
        match kind {
            RouteType::Unicast => Some(RouteKind::Unicast),
            RouteType::BlackHole => Some(RouteKind::Blackhole),
            RouteType::Unreachable => Some(RouteKind::Unreachable),
            RouteType::Prohibit => Some(RouteKind::Prohibit),
            _ => None,
        }
    }

    fn of_kernel(self) -> RouteType {
        match self {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouteKind::Unicast => "unicast",
            RouteKind::Blackhole => "blackhole",
            RouteKind::Unreachable => "unreachable",
            RouteKind::Prohibit => "prohibit",
        })
    }
}

impl Route {
    /// The main table, which the kernel uses unless a rule says otherwise.
    pub const MAIN: u32 = 254;

    /// A route to a destination on the link, in the main table, with the kernel's defaults for
    /// everything else. Bits of `dst` beyond the prefix are dropped.
    pub fn new(dst: impl Into<IpNet>, index: u32) -> Route {
        let dst = dst.into().trunc();
        Route {
            kind: RouteKind::Unicast,
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

    /// A route that refuses packets to a destination, in the main table.
    pub fn refusing(dst: impl Into<IpNet>, kind: RouteKind) -> Route {
        Route {
            kind,
            scope: Scope::UNIVERSE,
            ..Route::new(dst, 0)
        }
    }

    /// This route, through a router.
    #[must_use]
    pub fn via(self, gateway: impl Into<IpAddr>) -> Route {
        Route {
            gateway: Some(gateway.into()),
            scope: Scope::UNIVERSE,
            ..self
        }
    }

    /// Whether two routes send the same packets the same way. Who configured them does not count,
    /// nor do differences that the kernel ignores.
    pub fn is_same(&self, other: &Route) -> bool {
        self.normalized() == other.normalized()
    }

    /// Whether the kernel uses only one of two routes: they have the same destination, metric and
    /// table, and [`Netlink::replace_route`] sets one in place of the other.
    pub fn competes_with(&self, other: &Route) -> bool {
        let place = |route: Route| (route.dst, route.metric, route.table);
        place(self.normalized()) == place(other.normalized())
    }

    fn normalized(&self) -> Route {
        let v6 = self.dst.addr().is_ipv6();
        Route {
            dst: self.dst.trunc(),
            metric: if v6 && self.metric == 0 {
                IPV6_DEFAULT_METRIC
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
const IPV6_DEFAULT_METRIC: u32 = 1024;

impl Netlink {
    /// The unicast routes of both families in all tables, or those through one link. A route over
    /// several hops is listed once per hop.
    ///
    /// # Errors
    /// `is_absent` if there is no such link.
    pub fn routes(&self, index: Option<u32>) -> Result<Vec<Route>> {
        let mut routes = self.dump_routes(|message| {
            message.header.kind = RouteType::Unicast;
            message.attributes.extend(index.map(RouteAttribute::Oif));
        })?;
        routes.retain(|route| index.is_none_or(|index| route.index == index));
        Ok(routes)
    }

    /// The unicast routes in one table, of both families. The kernel filters them, so this is cheap
    /// even if there are many in other tables. A table without routes need not exist.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn routes_in_table(&self, table: u32) -> Result<Vec<Route>> {
        let mut routes = self.dump_routes(|message| {
            message.header.kind = RouteType::Unicast;
            message.attributes.push(RouteAttribute::Table(table));
        })?;
        routes.retain(|route| route.table == table);
        Ok(routes)
    }

    /// The unicast routes with one protocol, of both families in all tables. The kernel filters
    /// them, so this is cheap even if there are many others.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn routes_with_protocol(&self, protocol: Protocol) -> Result<Vec<Route>> {
        let mut routes = self.dump_routes(|message| {
            message.header.kind = RouteType::Unicast;
            message.header.protocol = protocol.0.into();
        })?;
        routes.retain(|route| route.protocol == protocol);
        Ok(routes)
    }

    /// All unicast routes, as [`Netlink::routes`] lists them, and the routes that refuse packets:
    /// blackhole, unreachable and prohibit. Those lead through no link that matters.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn routes_and_refused(&self) -> Result<(Vec<Route>, Vec<Route>)> {
        let found = self.dump_messages(|_| {})?;
        let has_kind = |found: &&RouteMessage| RouteKind::of(found.header.kind).is_some();
        let routes = found.iter().filter(has_kind).flat_map(read);
        Ok(routes.partition(|route| route.kind == RouteKind::Unicast))
    }

    /// The unicast routes that match `filter`. A kernel without strict checking returns others too.
    fn dump_routes(&self, filter: impl Fn(&mut RouteMessage)) -> Result<Vec<Route>> {
        let found = self.dump_messages(filter)?;
        let unicast = found
            .iter()
            .filter(|found| found.header.kind == RouteType::Unicast);
        Ok(unicast.flat_map(read).collect())
    }

    /// The routes that match `filter`, of any kind.
    fn dump_messages(&self, filter: impl Fn(&mut RouteMessage)) -> Result<Vec<RouteMessage>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            // By hand: what the builder sets beforehand would filter.
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            filter(&mut message);
            let what = || "list routes".to_owned();
            let found = match self.dump(&what, RTM_GETROUTE, &message, RouteMessage::parse) {
                // The table does not exist for this family.
                Err(error) if error.errno() == Some(libc::ENOENT) => continue,
                found => found?,
            };
            // A kernel without IPv6 answers a request for it with all families.
            routes.extend(
                found
                    .into_iter()
                    .filter(|found| found.header.address_family == family)
                    .filter(|found| !found.header.flags.contains(RouteFlags::Cloned)),
            );
        }
        Ok(routes)
    }

    /// The route that a packet to `to` would take: a route to that single address, as the kernel
    /// finds it through rules and tables. `None` if there is no route, or if it does not leave the
    /// host.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn route_get(&self, to: IpAddr) -> Result<Option<Route>> {
        // By hand: a kernel that checks strictly refuses what the builder sets beforehand.
        let mut message = RouteMessage::default();
        message.header.address_family = family(to);
        message.header.destination_prefix_length = IpNet::from(to).prefix_len();
        message.attributes = vec![RouteAttribute::Destination(to.into())];
        let what = || format!("look up the route to {to}");
        match self.get(&what, RTM_GETROUTE, &message, RouteMessage::parse) {
            Ok(Some(found)) if found.header.kind == RouteType::Unicast => Ok(read(&found).pop()),
            Ok(_) => Ok(None),
            Err(error) if error.is_unreachable() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a route.
    ///
    /// # Errors
    /// `is_exists` if the table has a route to that destination with that metric, even another way;
    /// see [`Route::is_same`]. The kernel refuses a gateway that it cannot reach, unless the route
    /// is `onlink`.
    pub fn add_route(&self, route: &Route) -> Result<()> {
        self.new_route("add", Change::Create, route)
    }

    /// Adds a route ahead of any others to that destination, like `ip route prepend`. Of IPv4
    /// routes with one metric in one table the kernel uses the newest; over IPv6 routes it spreads
    /// its packets.
    ///
    /// # Errors
    /// `is_exists` if there is a route that leads there the same way, and otherwise as
    /// [`Netlink::add_route`].
    pub fn prepend_route(&self, route: &Route) -> Result<()> {
        self.new_route("add", Change::Prepend, route)
    }

    /// Adds a route, in place of the one to that destination with that metric in that table if
    /// there is one.
    ///
    /// # Errors
    /// As [`Netlink::add_route`], apart from `is_exists`.
    pub fn replace_route(&self, route: &Route) -> Result<()> {
        self.new_route("set", Change::Replace, route)
    }

    fn new_route(&self, verb: &str, change: Change, route: &Route) -> Result<()> {
        let what = || format!("{verb} route {}", text(route));
        let message = new_message(route).map_err(|problem| invalid(what(), &problem))?;
        self.change(&what, RTM_NEWROUTE, change, &message)
    }

    /// Deletes the route to that destination with that gateway, link, metric, table and scope,
    /// no matter which program configured it. Without a gateway, the scope tells an IPv4 route on
    /// the link from one through a router. IPv6 has no scopes, and may delete either.
    ///
    /// # Errors
    /// `is_absent` if there is none.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        let what = || format!("delete route {}", text(route));
        let message = builder(route)
            .map_err(|problem| invalid(what(), &problem))?
            .scope(route.scope.0.into())
            // The kernel takes each of these as "any".
            .kind(RouteType::Unspec)
            .protocol(RouteProtocol::Unspec)
            .build();
        self.change(&what, RTM_DELROUTE, Change::Existing, &message)
    }
}

fn text(route: &Route) -> String {
    if route.kind != RouteKind::Unicast {
        return format!("{} {}", route.kind, route.dst);
    }
    match route.gateway {
        Some(gateway) => format!("{} via {gateway} on link {}", route.dst, route.index),
        None => format!("{} on link {}", route.dst, route.index),
    }
}

/// The error for a route whose addresses are of conflicting families, which has no message.
fn invalid(what: String, problem: &str) -> Error {
    Error::refusal(what, libc::EINVAL, Some(problem))
}

/// The request to add a route.
fn new_message(route: &Route) -> Result<RouteMessage, String> {
    let mut builder = builder(route)?
        .kind(route.kind.of_kernel())
        .protocol(route.protocol.0.into())
        .scope(route.scope.0.into());
    if route.onlink {
        builder = builder.onlink();
    }
    if let Some(source) = route.source {
        builder = builder
            .pref_source(source)
            .map_err(|error| error.to_string())?;
    }
    let mut message = builder.build();
    // The builder has no method for metrics.
    let metrics: Vec<_> = (route.mtu.map(RouteMetric::Mtu).into_iter())
        .chain(route.advmss.map(RouteMetric::Advmss))
        .collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    Ok(message)
}

/// What distinguishes a route from others.
fn builder(route: &Route) -> Result<RouteMessageBuilder<IpAddr>, String> {
    let dst = route.dst.trunc();
    let mut builder = RouteMessageBuilder::<IpAddr>::new();
    if route.index != 0 {
        builder = builder.output_interface(route.index);
    }
    let message = builder.get_mut();
    // The builder takes the family from the destination, and a default route has none.
    message.header.address_family = family(dst.addr());
    // The attribute holds every table, the header only those below 256.
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.attributes.push(RouteAttribute::Table(route.table));
    if dst.prefix_len() > 0 {
        builder = builder
            .destination_prefix(dst.addr(), dst.prefix_len())
            .map_err(|error| error.to_string())?;
    }
    if route.metric != 0 {
        builder = builder.priority(route.metric);
    }
    match route.gateway {
        Some(gateway) => builder
            .gateway(gateway)
            .map_err(|_| format!("{gateway} cannot be the gateway of an IPv6 route")),
        None => Ok(builder),
    }
}

/// The routes that a message describes: one, or one per hop.
fn read(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    let mut dst = unspecified(header.address_family);
    let mut hops: &[RouteNextHop] = &[];
    let mut route = Route::new(IpNet::from(dst), 0);
    route.kind = RouteKind::of(header.kind).unwrap_or_default();
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
            RouteAttribute::MultiPath(next_hops) => hops = next_hops,
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

/// The part of a multipath route that goes over one hop.
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
