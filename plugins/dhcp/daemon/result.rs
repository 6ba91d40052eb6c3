//! From a lease to what CNI calls a result: addresses, routes, DNS.

use std::net::{IpAddr, Ipv4Addr};

use cni::{CniResult, Dns, IpConfig, Route};
use dhcp4::Lease;

use crate::protocol::Terms;

/// The result of an ADD that won `lease`.
pub(crate) fn result(lease: &Lease, terms: &Terms) -> CniResult {
    let gateway = lease.options.routers.first().copied();
    CniResult {
        ips: vec![IpConfig { gateway: gateway.map(IpAddr::V4), ..IpConfig::new(lease.net().into()) }],
        routes: routes(lease, terms),
        dns: dns(lease),
        ..CniResult::default()
    }
}

/// The routes of a lease under its terms, in an order in which they can be set.
pub(crate) fn routes(lease: &Lease, terms: &Terms) -> Vec<Route> {
    let route = |route: dhcp4::Route| Route {
        // CNI knows no other way to say "on the link itself" than the unspecified gateway, which an absent one
        // is not: that means the default gateway.
        gw: Some(route.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED).into()),
        priority: terms.priority,
        ..Route::new(route.dst.into())
    };
    lease.routes().into_iter().map(route).collect()
}

/// Resolver configuration as the server gave it: options 6, 15 and 119.
fn dns(lease: &Lease) -> Dns {
    let options = &lease.options;
    Dns {
        nameservers: options.dns.iter().map(Ipv4Addr::to_string).collect(),
        domain: options.domain.clone().unwrap_or_default(),
        search: options.search.clone(),
        ..Dns::default()
    }
}
