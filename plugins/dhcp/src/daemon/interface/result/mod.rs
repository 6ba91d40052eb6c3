//! The CNI result that follows from a lease: address, routes, DNS.

use std::net::{IpAddr, Ipv4Addr};

use attachment::gateways::{is_forwarded, on_link_gateway, with_gateway_routes};
use attachment::set_valid_lifetime;
use cni::{CniResult, Dns, IpConfig, Route};
use dhcp4::{Instant, Lease, Options};
use ipnet::IpNet;
use linknet::Scope;

use crate::protocol::{LeaseParams, Suppress};

#[cfg(test)]
mod tests;

/// The result of an ADD that obtained `lease`.
pub(crate) fn result(lease: &Lease, params: &LeaseParams, now: Instant) -> CniResult {
    let routes = routes(lease, params);
    let gateway = routes
        .iter()
        .find(|route| is_default(&route.dst))
        .and_then(|route| route.gw);
    let mut ip = IpConfig {
        gateway: gateway.filter(|gateway| gateway.is_ipv4() && !gateway.is_unspecified()),
        ..IpConfig::new(lease.net().into())
    };
    set_valid_lifetime(&mut ip, lifetime(lease, now));
    let dns = if params.suppress.contains(&Suppress::Dns) {
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

/// For how many seconds the kernel may keep the address if the daemon does not renew it; `None`
/// means for ever.
///
/// The number is rounded up: a running daemon removes the address in time itself, and in the last
/// second of the lease it still needs the address to send from.
fn lifetime(lease: &Lease, now: Instant) -> Option<u32> {
    let remaining = lease.remaining(now)?;
    let whole = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
    Some(u32::try_from(whole).unwrap_or(u32::MAX - 1).max(1))
}

/// The routes of a lease, in an order in which each can be set: the server's, unless they are
/// suppressed or replaced, then those of the configuration. Each names a gateway. The unspecified
/// one stands for "on the link", since none at all would mean the default gateway; such a route also
/// has the scope that it has in the kernel.
fn routes(lease: &Lease, params: &LeaseParams) -> Vec<Route> {
    let is_replaced = |route: &Route| {
        params.routes.iter().any(|configured| {
            let table = configured.table.unwrap_or(linknet::Route::MAIN);
            configured.dst.trunc() == route.dst && table == linknet::Route::MAIN
        })
    };
    let from_server = used(lease, params).routes().into_iter().map(|route| Route {
        gw: Some(route.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED).into()),
        priority: params.priority,
        ..Route::new(route.dst.into())
    });
    let router = router(lease);
    let configured = params
        .routes
        .iter()
        .map(|route| with_defaults(route, lease, router, params.priority));
    let routes = from_server
        .filter(|route| !is_replaced(route))
        .chain(configured);
    let mut routes = with_gateway_routes([lease.net().into()], routes);
    for route in &mut routes {
        if route.gw == Some(Ipv4Addr::UNSPECIFIED.into()) {
            route.scope.get_or_insert(Scope::LINK.0);
        }
    }
    routes
}

/// The lease without the options that are suppressed.
fn used(lease: &Lease, params: &LeaseParams) -> Lease {
    let mut lease = lease.clone();
    let Options {
        routers,
        static_routes,
        classless_routes,
        ..
    } = &mut lease.options;
    if !classless_routes.is_empty() {
        // RFC 3442: they replace the others, even if all of them are suppressed.
        routers.clear();
        static_routes.clear();
    }
    if params.suppress.contains(&Suppress::Gateway) {
        routers.clear();
        static_routes.retain(|route| route.dst.prefix_len() > 0);
        classless_routes.retain(|route| route.dst.prefix_len() > 0);
    }
    if params.suppress.contains(&Suppress::Routes) {
        static_routes.retain(|route| route.dst.prefix_len() == 0);
        classless_routes.retain(|route| route.dst.prefix_len() == 0);
    }
    lease
}

/// The server's router, whether or not a default route uses it.
fn router(lease: &Lease) -> Option<Ipv4Addr> {
    let default = lease
        .routes()
        .into_iter()
        .find(|route| route.dst.prefix_len() == 0);
    default
        .and_then(|route| route.gateway)
        .or(lease.options.routers.first().copied())
}

/// A configured route, with the server's router and the network's metric where it names none. A
/// destination that no router forwards to is on the link.
fn with_defaults(
    configured: &Route,
    lease: &Lease,
    router: Option<Ipv4Addr>,
    priority: Option<u32>,
) -> Route {
    let dst = configured.dst.trunc();
    let is_forwarded = is_forwarded(&dst, [lease.net().into()]);
    let on_link = configured
        .scope
        .is_some_and(|scope| Scope(scope) >= Scope::LINK);
    let router = router
        .map(IpAddr::V4)
        .filter(|_| dst.addr().is_ipv4() && !on_link && is_forwarded);
    Route {
        dst,
        gw: configured.gw.or(router).or(Some(on_link_gateway(&dst))),
        priority: configured.priority.or(priority),
        ..configured.clone()
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
