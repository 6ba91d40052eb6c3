//! From a lease to what CNI calls a result: addresses, routes, DNS.

use std::net::{IpAddr, Ipv4Addr};

use cni::{CniResult, Dns, IpConfig, Reach, Route};
use dhcp4::{Instant, Lease, Options};
use ipnet::IpNet;
use linknet::Scope;

use crate::protocol::{StaticRoute, Suppress, Terms};

#[cfg(test)]
mod tests;

/// The result of an ADD that won `lease`.
pub(crate) fn result(lease: &Lease, terms: &Terms, now: Instant) -> CniResult {
    let routes = routes(lease, terms);
    let gateway = routes
        .iter()
        .find(|route| is_default(&route.dst))
        .and_then(|route| route.gw);
    let ip = IpConfig {
        gateway: gateway.filter(|gateway| gateway.is_ipv4() && !gateway.is_unspecified()),
        valid_lifetime: lifetime(lease, now),
        ..IpConfig::new(lease.net().into())
    };
    let dns = if terms.suppress.contains(&Suppress::Dns) {
        Dns::default()
    } else {
        dns(&lease.options)
    };
    CniResult {
        ips: vec![ip],
        routes,
        dns,
        ..CniResult::default()
    }
}

/// For how many seconds the kernel may keep the address when nobody refreshes it; `None`: for ever.
///
/// Rounded up: while a daemon lives it takes the address away on time itself, and in the last
/// second of a lease it still needs the address to ask for more from.
pub(crate) fn lifetime(lease: &Lease, now: Instant) -> Option<u32> {
    let remaining = lease.remaining(now)?;
    let whole = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
    Some(u32::try_from(whole).unwrap_or(u32::MAX - 1).max(1))
}

/// The routes of a lease under its terms, in an order in which they can be set: the server's, as
/// far as they are not suppressed or replaced, and those of the configuration. Each says where it
/// leads, the unspecified gateway standing for the link itself (an absent one would mean the
/// default gateway).
pub(crate) fn routes(lease: &Lease, terms: &Terms) -> Vec<Route> {
    let replaced = |dst: IpNet| {
        terms
            .routes
            .iter()
            .any(|own| own.dst.trunc() == dst && own.is_in_main_table())
    };
    let told = used(lease, terms).routes().into_iter().map(|route| Route {
        gw: Some(route.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED).into()),
        priority: terms.priority,
        ..Route::new(route.dst.into())
    });
    let mut routes: Vec<Route> = told.filter(|route| !replaced(route.dst)).collect();
    let mut reach = Reach::of([lease.net().into()]);
    routes
        .iter()
        .filter(|route| is_on_link(route))
        .for_each(|route| reach.add(route.dst, route.table));
    let router = router(lease);
    for own in &terms.routes {
        let route = own.with_defaults(router, terms.priority);
        match route.gw.filter(|_| !is_on_link(&route)) {
            None => reach.add(route.dst, route.table),
            Some(gateway) if reach.covers(gateway, route.table) => {}
            Some(gateway) => {
                let dst = IpNet::from(gateway);
                reach.add(dst, route.table);
                routes.push(Route {
                    gw: Some(unspecified(&dst)),
                    priority: route.priority,
                    table: route.table,
                    ..Route::new(dst)
                });
            }
        }
        routes.push(route);
    }
    routes
}

/// The lease without what is suppressed.
fn used(lease: &Lease, terms: &Terms) -> Lease {
    let mut lease = lease.clone();
    let Options {
        routers,
        static_routes,
        classless_routes,
        ..
    } = &mut lease.options;
    if !classless_routes.is_empty() {
        // RFC 3442: they stand alone, also when none of them is used.
        routers.clear();
        static_routes.clear();
    }
    if terms.suppress.contains(&Suppress::Gateway) {
        routers.clear();
        static_routes.retain(|route| route.dst.prefix_len() > 0);
        classless_routes.retain(|route| route.dst.prefix_len() > 0);
    }
    if terms.suppress.contains(&Suppress::Routes) {
        static_routes.retain(|route| route.dst.prefix_len() == 0);
        classless_routes.retain(|route| route.dst.prefix_len() == 0);
    }
    lease
}

/// The server's router, be it used for a default route or not.
fn router(lease: &Lease) -> Option<Ipv4Addr> {
    let default = lease
        .routes()
        .into_iter()
        .find(|route| route.dst.prefix_len() == 0);
    default
        .and_then(|route| route.gateway)
        .or(lease.options.routers.first().copied())
}

/// Whether it leads there without a router.
fn is_on_link(route: &Route) -> bool {
    route.gw.is_none_or(|gateway| gateway.is_unspecified())
}

impl StaticRoute {
    fn is_in_main_table(&self) -> bool {
        self.table.is_none_or(|table| table == linknet::Route::MAIN)
    }

    /// The route with what the configuration leaves open.
    fn with_defaults(&self, router: Option<Ipv4Addr>, priority: Option<u32>) -> Route {
        let dst = self.dst.trunc();
        let on_link = self.scope.is_some_and(|scope| Scope(scope) >= Scope::LINK);
        let router = router
            .map(IpAddr::V4)
            .filter(|_| dst.addr().is_ipv4() && !on_link);
        Route {
            gw: Some(self.gw.or(router).unwrap_or(unspecified(&dst))),
            mtu: self.mtu,
            advmss: self.advmss,
            priority: self.priority.or(priority),
            table: self.table,
            scope: self.scope,
            ..Route::new(dst)
        }
    }
}

/// What stands for "on the link" in CNI.
fn unspecified(dst: &IpNet) -> IpAddr {
    match dst {
        IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpNet::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn is_default(dst: &IpNet) -> bool {
    dst.prefix_len() == 0 && dst.addr().is_ipv4()
}

/// Resolver configuration as the server gave it: options 6, 15 and 119.
fn dns(options: &Options) -> Dns {
    Dns {
        nameservers: options.dns.iter().map(Ipv4Addr::to_string).collect(),
        domain: options.domain.clone().unwrap_or_default(),
        search: options.search.clone(),
        ..Dns::default()
    }
}
