//! `hostAccess`: the host reaches its own containers, by a macvlan of its own on their parent
//! ([`linknet::Shims`]).
//!
//! The result does not list that macvlan: it is not the attachment's, and the runtime must not take
//! it for one of the interfaces that end with it. The routes through it are told by their tag, so
//! that DEL finds those of a container that is gone, at an address that nobody remembers.

mod check;
mod gc;

use std::net::IpAddr;

use cni::{CniResult, Error, Request, code};
use ipnet::IpNet;
use linknet::{HostRoute, Link, Lock, MacvlanMode, Netlink, Reached, Shims, Tag};
use serde::Deserialize;

use crate::addresses::refused;
use crate::config::Config;
use crate::diagnosis::also;
use crate::make::Workshop;
use crate::{codes, container, source_routing};

pub(crate) use check::check;
pub(crate) use gc::gc;

/// Refuses what the key does not go with.
///
/// # Errors
/// 7, saying why.
pub(crate) fn fits(config: &Config, request: &Request) -> Result<(), Error> {
    if !config.host_access {
        return Ok(());
    }
    let why = if config.mode != MacvlanMode::Bridge {
        format!("is for mode bridge, and the mode is {}", config.mode)
    } else if config.link_in_container {
        "and linkInContainer exclude each other: the host is not on a parent that is in the container"
            .to_owned()
    } else if request.config.ipam_type().is_none() {
        "needs ipam: without an address there is nothing to reach".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(
        code::INVALID_NETWORK_CONFIG,
        format!("invalid network configuration: hostAccess {why}"),
    ))
}

/// ADD: makes host and container reach each other at every address of the result.
///
/// # Errors
/// 7 for what the kernel refuses. What was made by then is for [`undo`].
pub(crate) fn join(
    request: &Request,
    workshop: &Workshop<'_>,
    link: &Link,
    result: &CniResult,
) -> Result<(), Error> {
    if !workshop.config.host_access {
        return Ok(());
    }
    let prefixes: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    let parent = link
        .parent
        .ok_or_else(|| failed(&format_args!("{} has no parent", link.name)))?;
    let shims = shims()?;
    let tag = tag(request);
    let addresses: Vec<IpAddr> = prefixes.iter().map(IpNet::addr).collect();
    let reached = shims
        .join(parent, tag, &addresses)
        .map_err(|error| refused(&error))?;
    // Of an ADD of this attachment that was killed.
    let is_left = |route: &HostRoute| route.tag == tag && !addresses.contains(&route.to);
    if shims
        .routes()
        .map_err(|error| refused(&error))?
        .iter()
        .any(is_left)
    {
        shims.part(is_left).map_err(|error| refused(&error))?;
    }
    for reached in reached.iter().filter(|reached| reached.from.is_none()) {
        eprintln!(
            "macvlan: hostAccess: the host has no address of its own to reach {} from: it can be reached once the host \
             has one, and the network is garbage-collected",
            reached.to
        );
    }
    show_the_way_back(workshop.inside, workshop.config, link, &prefixes, &reached)
        .map_err(|error| refused(&error))?;
    if addresses.iter().any(IpAddr::is_ipv4) && !answers_for_the_parent() {
        eprintln!(
            "macvlan: hostAccess: net.ipv4.conf.all.arp_ignore keeps this host from telling containers where its own \
             addresses are: they can answer it, but not begin"
        );
    }
    Ok(())
}

/// Whether the host answers on one link for an address that it has on another, as hosts do unless
/// told otherwise: kube-proxy does so, in mode IPVS with `strictARP`.
fn answers_for_the_parent() -> bool {
    // Under all other values it does (`arp_ignore` of the kernel's networking/ip-sysctl).
    let ignored = linknet::sysctl::get(&["ipv4", "conf", "all", "arp_ignore"]);
    !ignored.is_ok_and(|value| ["1", "2", "8"].contains(&value.as_str()))
}

/// Makes the routes that the container needs to answer, where `prefixes` are on its link.
fn show_the_way_back(
    inside: &Netlink,
    config: &Config,
    link: &Link,
    prefixes: &[IpNet],
    reached: &[Reached],
) -> linknet::Result<()> {
    let routes = reached
        .iter()
        .filter_map(|reached| reached.way_back(link.index, prefixes));
    routes
        .flat_map(|route| source_routing::everywhere(route, config, link))
        .try_for_each(|route| inside.replace_route(&route))
}

/// After an ADD that failed: what [`join`] has made goes again.
pub(crate) fn undo(request: &Request, config: &Config, error: Error) -> Error {
    if !config.host_access {
        return error;
    }
    match remove(request) {
        Ok(()) => error,
        Err(second) => also(
            error,
            &format!("taking the host's way to the container away failed too: {second}"),
        ),
    }
}

/// DEL: the host's routes to the container go, whatever else of it is gone already.
///
/// # Errors
/// 111 for what the kernel refuses.
pub(crate) fn part(request: &Request) -> Result<(), Error> {
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Key {
        host_access: bool,
    }
    // A value that ADD refuses has made nothing.
    let key: Key = cni::go::decode(&request.config.raw).unwrap_or_default();
    if key.host_access {
        remove(request)
    } else {
        Ok(())
    }
}

fn remove(request: &Request) -> Result<(), Error> {
    let tag = tag(request);
    let removed = shims()?.part_soon(|route| route.tag == tag);
    removed.map(drop).map_err(|error| failed(&error))
}

fn tag(request: &Request) -> Tag {
    Tag::new(&request.config.name, &request.container_id, &request.ifname)
}

/// Those of the plugin's own netns, which is the parents'.
fn shims() -> Result<Shims, Error> {
    let netns = container::own()?;
    Lock::take()
        .and_then(|lock| Shims::of(&netns, lock))
        .map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::new(codes::KERNEL, format!("hostAccess: {error}"))
}
