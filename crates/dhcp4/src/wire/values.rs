//! What the options of an ACK say.

use std::net::Ipv4Addr;

use dhcproto::v4::DhcpOption;

use super::raw_options::{RawOptions, decode_value};
use crate::address::{classful_net, is_host};
use crate::hostname::domain_name;
use crate::options::{Options, Route, code};

/// The most names that are taken from a search list.
const MAX_SEARCH_NAMES: usize = 64;
/// The smallest usable interface MTU: what every host must accept (RFC 791). A smaller one would
/// break DHCP itself.
const MIN_MTU: u16 = 576;

/// Interprets all options, except for those that make up the lease itself.
pub(super) fn interpret(options: RawOptions) -> Options {
    let (domain, search) = domains(&options);
    Options {
        routers: addresses(&options, code::ROUTERS),
        static_routes: static_routes(&options),
        classless_routes: classless_routes(&options),
        dns: addresses(&options, code::DNS),
        domain,
        search,
        mtu: match options.decode(code::MTU) {
            Some(DhcpOption::InterfaceMtu(mtu)) if mtu >= MIN_MTU => Some(mtu),
            _ => None,
        },
        broadcast: match options.decode(code::BROADCAST) {
            Some(DhcpOption::BroadcastAddr(address)) if !address.is_unspecified() => Some(address),
            _ => None,
        },
        raw: options.into_vec().into(),
    }
}

/// A list of hosts' addresses.
pub(super) fn addresses(options: &RawOptions, code: u8) -> Vec<Ipv4Addr> {
    match options.decode(code) {
        Some(DhcpOption::Router(mut list) | DhcpOption::DomainNameServer(mut list)) => {
            list.retain(|&address| is_host(address));
            list
        }
        _ => Vec::new(),
    }
}

fn static_routes(options: &RawOptions) -> Vec<Route> {
    match options.decode(code::STATIC_ROUTES) {
        Some(DhcpOption::StaticRoutingTable(pairs)) => pairs
            .into_iter()
            // RFC 2132 section 5.8 forbids the default route here.
            .filter(|(dst, gateway)| !dst.is_unspecified() && is_host(*gateway))
            .map(|(dst, gateway)| Route {
                dst: classful_net(dst),
                gateway: Some(gateway),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn classless_routes(options: &RawOptions) -> Vec<Route> {
    [code::CLASSLESS_ROUTES, code::CLASSLESS_ROUTES_MS]
        .into_iter()
        .find_map(|code| {
            let data = options.value(code)?;
            match decode_value(code::CLASSLESS_ROUTES, data)? {
                DhcpOption::ClasslessStaticRoute(routes) => Some(routes),
                _ => None,
            }
        })
        .unwrap_or_default()
        .into_iter()
        // A route that the kernel would refuse must not cost the host its other routes or lease.
        .filter(|(_, gateway)| gateway.is_unspecified() || is_host(*gateway))
        .map(|(dst, gateway)| Route {
            dst: dst.trunc(),
            gateway: (!gateway.is_unspecified()).then_some(gateway),
        })
        .collect()
}

/// Options 15 and 119. Without option 119, several words in option 15 are the search list: routers
/// that cannot send option 119 are configured this way.
fn domains(options: &RawOptions) -> (Option<String>, Vec<String>) {
    let text = match options.decode(code::DOMAIN_NAME) {
        Some(DhcpOption::DomainName(text)) => text,
        _ => String::new(),
    };
    let words: Vec<String> = text
        .split_ascii_whitespace()
        .filter_map(domain_name)
        .collect();
    let search = match options.decode(code::DOMAIN_SEARCH) {
        Some(DhcpOption::DomainSearch(names)) => names
            .iter()
            .filter_map(|name| domain_name(&name.to_ascii()))
            .take(MAX_SEARCH_NAMES)
            .collect(),
        _ if words.len() > 1 => words.clone(),
        _ => Vec::new(),
    };
    (words.into_iter().next(), search)
}
