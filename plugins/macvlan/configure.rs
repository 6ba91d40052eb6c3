//! Addresses and routes of a CNI result, on the container's interface.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{CniResult, Error, code};
use ipnet::IpNet;
use linknet::{Dad, Link, Netlink, Netns, NewAddress, Route, Scope};

use crate::config::Config;

/// How long IPv6 may take to find out that nobody else has the address: one second is usual (RFC 4862 §5.4).
const DAD: Duration = Duration::from_secs(10);

/// Sets addresses and routes, waits until the addresses can be used, and tells the neighbours.
///
/// # Errors
/// 7 for what the kernel refuses, naming the address or route.
pub(crate) fn configure(
    inside: &Netlink,
    netns: &Netns,
    link: &Link,
    result: &CniResult,
) -> Result<(), Error> {
    let has_v6 = result.ips.iter().any(|ip| ip.address.addr().is_ipv6());
    if has_v6 {
        enable_ipv6(netns, link)?;
    }
    for ip in &result.ips {
        match inside.add_address(link.index, &NewAddress::new(ip.address)) {
            Err(error) if !error.is_exists() => return Err(refused(&error)),
            // The same address on an interface that we have just made: IPAM listed it twice.
            _ => {}
        }
    }
    for route in routes(link, result) {
        add_route(inside, &route)?;
    }
    if has_v6 {
        wait_for_dad(inside, link)?;
    }
    if let Err(error) = linknet::announce(netns, link.index) {
        // Without it neighbours that knew the address elsewhere learn of it later, that is all.
        eprintln!("macvlan: {} could not be announced: {error}", link.name);
    }
    Ok(())
}

/// The routes of a result as the kernel wants them, in an order in which each can be set.
///
/// A route without a gateway goes through its family's (the first address that names one), as the Go plugins have
/// it; through the unspecified address, or where there is no gateway at all, it is on the link. A gateway that no
/// prefix of ours covers gets a route of its own first (so a /32 address works, and the gateway itself is reached).
pub(crate) fn routes(link: &Link, result: &CniResult) -> Vec<Route> {
    let mut on_link: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    let mut routes: Vec<Route> = Vec::new();
    for route in &result.routes {
        let v6 = route.dst.addr().is_ipv6();
        let default =
            || result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv6() == v6);
        let gateway = route.gw.or_else(default).filter(|gateway| !gateway.is_unspecified());
        let shape = Route {
            metric: route.priority.unwrap_or(0),
            table: route.table.unwrap_or(Route::MAIN),
            mtu: route.mtu,
            advmss: route.advmss,
            ..Route::new(route.dst, link.index)
        };
        match gateway {
            None => on_link.push(shape.dst),
            // IPv6 gateways are link-local as a rule, and those are always on the link.
            Some(gateway) if !covers(&on_link, gateway) && !is_link_local(gateway) => {
                on_link.push(gateway.into());
                routes.push(Route { dst: gateway.into(), mtu: None, advmss: None, ..shape.clone() });
            }
            Some(_) => {}
        }
        let mut route_to = match gateway {
            Some(gateway) => shape.via(gateway),
            None => shape,
        };
        if let Some(scope) = route.scope.filter(|_| gateway.is_none() || route.scope != Some(Scope::LINK.0)) {
            route_to.scope = Scope(scope);
        }
        routes.push(route_to);
    }
    routes
}

/// Refuses an MTU that the parent cannot carry, before the kernel silently cuts it down.
pub(crate) fn check_mtu(config: &Config, parent: &Link) -> Result<(), Error> {
    match config.mtu {
        Some(mtu) if mtu > parent.mtu => Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!(
                "invalid network configuration: mtu: {mtu} is more than the {} of {}",
                parent.mtu, parent.name
            ),
        )
        .details(format!("leave mtu out to get that of {}", parent.name))),
        _ => Ok(()),
    }
}

/// What the kernel's refusal to make the interface means here.
pub(crate) fn diagnose(error: &linknet::Error, config: &Config, parent: &Link, ifname: &str) -> Error {
    let what = format!("macvlan {ifname} on {} could not be made", parent.name);
    if error.is_exists() {
        return Error::new(
            code::INVALID_ENVIRONMENT,
            format!("CNI_IFNAME: {ifname} exists in the container already"),
        )
        .details(error.to_string());
    }
    if error.is_address_in_use() {
        let mac = config.mac.map(|mac| mac.to_string()).unwrap_or_default();
        return Error::new(
            code::TRY_AGAIN_LATER,
            format!("{what}: another macvlan of {} has MAC {mac}", parent.name),
        )
        .details(format!("the container that had it may still be on its way out; {error}"));
    }
    if error.is_busy() {
        let why = match parent.port_kind.as_deref() {
            Some(kind) => format!("{} is a port of a {kind}: use the {kind} itself as master", parent.name),
            None => format!("{} is used in a way that leaves no room for a macvlan", parent.name),
        };
        return Error::new(code::INVALID_NETWORK_CONFIG, format!("{what}: {why}")).details(error.to_string());
    }
    Error::new(code::INVALID_NETWORK_CONFIG, what).details(error.to_string())
}

fn covers(prefixes: &[IpNet], gateway: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(&gateway))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Adds a route. One that is there already is no error when it leads the same packets the same way.
fn add_route(inside: &Netlink, route: &Route) -> Result<(), Error> {
    let error = match inside.add_route(route) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let same = |there: &Route| there.is_same(&Route { source: there.source, ..route.clone() });
    if error.is_exists()
        && inside.routes(Some(route.index)).map_err(|error| refused(&error))?.iter().any(same)
    {
        return Ok(());
    }
    Err(refused(&error))
}

/// Containers are often made with IPv6 off; an address of that family was asked for.
fn enable_ipv6(netns: &Netns, link: &Link) -> Result<(), Error> {
    let set = || linknet::sysctl::set(&["ipv6", "conf", &link.name, "disable_ipv6"], "0");
    match netns.run(set) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(refused(&error)),
        Err(error) => Err(Error::new(code::IO_FAILURE, format!("entering the container failed: {error}"))),
    }
}

/// Waits until every IPv6 address of the interface can be used.
fn wait_for_dad(inside: &Netlink, link: &Link) -> Result<(), Error> {
    let deadline = Instant::now() + DAD;
    loop {
        let addresses = inside.addresses(link.index).map_err(|error| refused(&error))?;
        if let Some(taken) = addresses.iter().find(|address| address.dad == Dad::Failed) {
            return Err(Error::new(
                code::INVALID_NETWORK_CONFIG,
                format!("address {} of {} is in use by somebody else on the link", taken.net, link.name),
            ));
        }
        if addresses.iter().all(|address| address.dad == Dad::Done) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                code::TRY_AGAIN_LATER,
                format!(
                    "duplicate address detection on {} did not end within {} s",
                    link.name,
                    DAD.as_secs()
                ),
            ));
        }
        sleep(Duration::from_millis(10));
    }
}

fn refused(error: &linknet::Error) -> Error {
    Error::new(code::INVALID_NETWORK_CONFIG, format!("the kernel refused to {error}"))
}
