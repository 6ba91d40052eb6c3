//! CHECK: is the interface as ADD reported it, and does IPAM agree?

use cni::delegate::Ipam;
use cni::{CniResult, Error, Interface, Request, code};
use linknet::{Link, Netlink, Route};

use crate::config::Config;
use crate::{configure, container, parent};

/// Our own error code for an attachment that is not as `prevResult` says.
pub(crate) const DIFFERS: u32 = 110;

/// Compares what is there with `prevResult` and the configuration, then asks IPAM.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let config = Config::read(request)?;
    let previous = request.config.prev_result.as_ref().ok_or_else(|| {
        Error::new(code::INVALID_NETWORK_CONFIG, "invalid network configuration: prevResult is missing")
    })?;
    let netns = container::open(request)?;
    let inside = Netlink::open_in(&netns).map_err(asking)?;
    let Some(link) = inside.link(&request.ifname).map_err(asking)? else {
        return Err(differs(&request.ifname, "it does not exist in the container"));
    };
    check_link(&link, ours(previous, request)?, &config)?;
    if !config.link_in_container {
        check_parent(&link, &config)?;
    }
    check_addresses(&inside, &link, previous)?;
    check_routes(&inside, &link, previous)?;
    Ipam::find(request)?.map_or(Ok(()), |ipam| ipam.check())
}

/// The entry of `prevResult` that is about our interface.
fn ours<'a>(previous: &'a CniResult, request: &Request) -> Result<&'a Interface, Error> {
    let sandbox = container::path(request).display().to_string();
    previous
        .interfaces
        .iter()
        .find(|interface| interface.name == request.ifname && interface.sandbox == sandbox)
        .ok_or_else(|| differs(&request.ifname, format!("prevResult does not list it in {sandbox}")))
}

fn check_link(link: &Link, expected: &Interface, config: &Config) -> Result<(), Error> {
    let Some(macvlan) = link.macvlan.as_ref() else {
        let kind = link.kind.as_deref().unwrap_or("physical device");
        return Err(differs(&link.name, format!("it is a {kind}, not a macvlan")));
    };
    if macvlan.mode != Some(config.mode) {
        let mode = macvlan.mode.map_or("unknown".to_owned(), |mode| mode.to_string());
        return Err(differs(&link.name, format!("its mode is {mode}, not {}", config.mode)));
    }
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !expected.mac.is_empty() && !expected.mac.eq_ignore_ascii_case(&mac) {
        return Err(differs(&link.name, format!("its MAC is {mac}, not {}", expected.mac)));
    }
    if let Some(mtu) = expected.mtu.or(config.mtu).filter(|mtu| *mtu != link.mtu) {
        return Err(differs(&link.name, format!("its MTU is {}, not {mtu}", link.mtu)));
    }
    if !link.up {
        return Err(differs(&link.name, "it is down"));
    }
    Ok(())
}

/// The parent is known by its index in the host's netns; nothing else can be said of it from inside.
fn check_parent(link: &Link, config: &Config) -> Result<(), Error> {
    let outside = Netlink::open().map_err(asking)?;
    let parent = parent::find(&outside, config.master.as_ref())?;
    match link.parent {
        Some(index) if index != parent.index => Err(differs(
            &link.name,
            format!("it sits on the host's link {index}, not on {} ({})", parent.name, parent.index),
        )),
        _ => Ok(()),
    }
}

fn check_addresses(inside: &Netlink, link: &Link, previous: &CniResult) -> Result<(), Error> {
    let there = inside.addresses(link.index).map_err(asking)?;
    let ours = |ip: &&cni::IpConfig| match ip.interface {
        Some(index) => previous.interfaces.get(index).is_some_and(|interface| interface.name == link.name),
        None => true,
    };
    for ip in previous.ips.iter().filter(ours) {
        if !there.iter().any(|address| address.net == ip.address) {
            return Err(differs(&link.name, format!("address {} is missing", ip.address)));
        }
    }
    Ok(())
}

/// Every route of the result must be in the container, through whichever interface: a later plugin of the chain
/// may have moved it.
fn check_routes(inside: &Netlink, link: &Link, previous: &CniResult) -> Result<(), Error> {
    let there = inside.routes(None).map_err(asking)?;
    for route in configure::routes(link, previous) {
        let same = |found: &Route| {
            found.dst == route.dst && found.gateway == route.gateway && found.table == route.table
        };
        if !there.iter().any(same) {
            let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            return Err(differs(
                &link.name,
                format!("route {}{via} (table {}) is missing", route.dst, route.table),
            ));
        }
    }
    Ok(())
}

fn differs(ifname: &str, how: impl std::fmt::Display) -> Error {
    Error::new(DIFFERS, format!("{ifname} is not as it was made: {how}"))
}

fn asking(error: linknet::Error) -> Error {
    Error::new(code::IO_FAILURE, error.to_string())
}
