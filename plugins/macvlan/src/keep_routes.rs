//! `keepRoutes`: destinations that go on going where they went before the interface brought its
//! default route, such as a cluster's pods and services behind another interface.
//!
//! Each is given a route of its own that says what the container's routes said until then. It is
//! about the default route: a network's route that names the destination, or a part of it, still
//! goes before.
//!
//! They lead through another plugin's interface, so the result does not list them: to whoever reads
//! it, its routes are those of ours. What tells them is their protocol, and the metric, which is
//! the attachment's: several attachments may keep the same destination, and end in any order.

use std::cmp::Reverse;
use std::net::IpAddr;

use cni::{Error, Request, code};
use ipnet::IpNet;
use linknet::{Link, Netlink, Protocol, Route};
use serde::de::{self, Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::addresses::refused;
use crate::check::differs;
use crate::config::Config;
use crate::make::asking;
use crate::mark::Mark;

/// A destination, as it stands in the configuration: a prefix, or one address.
pub(crate) struct Prefix(IpNet);

impl From<Prefix> for IpNet {
    fn from(prefix: Prefix) -> IpNet {
        prefix.0
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Prefix, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed: Option<IpNet> = text
            .parse()
            .ok()
            .or_else(|| text.parse().ok().map(IpAddr::into));
        match parsed.map(|prefix| prefix.trunc()) {
            None => Err(de::Error::custom(format_args!(
                "{text:?} is no prefix, such as 10.42.0.0/16"
            ))),
            Some(all) if all.prefix_len() == 0 => Err(de::Error::custom(format_args!(
                "{text} is every destination; it stays where it is if the network's gateway is not used \
                 (with dhcp: suppress)"
            ))),
            Some(prefix) => Ok(Prefix(prefix)),
        }
    }
}

/// Refuses the key where it can have no effect.
///
/// # Errors
/// 7.
pub(crate) fn fits(config: &Config, request: &Request) -> Result<(), Error> {
    if config.keep_routes.is_empty() || request.config.ipam_type().is_some() {
        return Ok(());
    }
    let what = "invalid network configuration: keepRoutes: without ipam no route comes that anything is to be kept from";
    Err(Error::new(code::INVALID_NETWORK_CONFIG, what))
}

/// The routes that keep these destinations where they go now. None is needed where somebody has
/// made one already.
///
/// # Errors
/// 7 for a destination that leads nowhere.
pub(crate) fn find(
    inside: &Netlink,
    keep: &[IpNet],
    link: &Link,
    mark: &Mark,
) -> Result<Vec<Route>, Error> {
    if keep.is_empty() {
        return Ok(Vec::new());
    }
    let there = elsewhere(inside, link)?;
    let mut routes = Vec::new();
    for &dst in keep {
        let way = way(&there, dst).ok_or_else(|| nowhere(dst, link))?;
        if way.dst != dst || way.protocol == Protocol::LEASEHOLD {
            routes.push(Route {
                dst,
                metric: metric(mark),
                protocol: Protocol::LEASEHOLD,
                ..way.clone()
            });
        }
    }
    Ok(routes)
}

/// Makes these routes. One that a killed ADD has left gives way.
///
/// # Errors
/// 7 for what the kernel refuses.
pub(crate) fn pin(inside: &Netlink, routes: &[Route]) -> Result<(), Error> {
    routes
        .iter()
        .try_for_each(|route| inside.replace_route(route).map_err(|error| refused(&error)))
}

/// Removes those that an attachment has made.
///
/// # Errors
/// Whatever the kernel refused.
pub(crate) fn remove(inside: &Netlink, mark: &Mark) -> linknet::Result<()> {
    let metric = metric(mark);
    for route in inside.routes_of(Protocol::LEASEHOLD)? {
        if route.metric != metric {
            continue;
        }
        match inside.delete_route(&route) {
            Err(error) if !error.is_absent() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// CHECK: each destination must have a route of its own through another interface.
///
/// # Errors
/// 110.
pub(crate) fn check(inside: &Netlink, link: &Link, keep: &[IpNet]) -> Result<(), Error> {
    if keep.is_empty() {
        return Ok(());
    }
    let there = elsewhere(inside, link)?;
    match keep
        .iter()
        .find(|dst| !there.iter().any(|route| route.dst == **dst))
    {
        None => Ok(()),
        Some(dst) => Err(differs(
            &link.name,
            format!("the route that keeps {dst} where it was is missing"),
        )),
    }
}

/// The routes that everybody's packets are looked up in, through other interfaces than ours.
fn elsewhere(inside: &Netlink, link: &Link) -> Result<Vec<Route>, Error> {
    let mut routes = inside.routes(None).map_err(|error| asking(&error))?;
    routes.retain(|route| route.table == Route::MAIN && route.index != link.index);
    Ok(routes)
}

/// The route that all of a destination takes, but for what others say of parts of it. The kernel is
/// not asked for the way to an address in it: the first node's pods are on the link, and theirs are
/// the first addresses of the cluster's.
fn way(there: &[Route], dst: IpNet) -> Option<&Route> {
    let all = there.iter().rev().filter(|route| route.dst.contains(&dst));
    // Of equals the first, which `max_by_key` takes for the last.
    all.max_by_key(|route| (route.dst.prefix_len(), Reverse(route.metric)))
}

fn nowhere(dst: IpNet, link: &Link) -> Error {
    let what = format!(
        "invalid network configuration: keepRoutes: {dst} leads nowhere in the container before {} comes",
        link.name
    );
    Error::new(code::INVALID_NETWORK_CONFIG, what)
        .details("the attachment whose network leads there must come first")
}

/// The same for ever, so that DEL finds what another version has made; never 0, which is
/// everybody's.
fn metric(mark: &Mark) -> u32 {
    let digest: [u8; 32] = Sha256::digest(format!("leasehold keep {}", mark.alias)).into();
    let [a, b, c, d, ..] = digest;
    u32::from_be_bytes([a, b, c, d]).max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn prefix(value: Value) -> Result<IpNet, String> {
        serde_json::from_value::<Prefix>(value)
            .map(IpNet::from)
            .map_err(|error| error.to_string())
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn via(dst: &str, gateway: &str) -> Route {
        Route::new(net(dst), 2).via(gateway.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_destination_is_a_prefix_or_an_address_but_not_everything() {
        for (text, expected) in [
            ("10.42.0.0/16", "10.42.0.0/16"),
            ("10.42.7.7/16", "10.42.0.0/16"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00:42::/56", "fd00:42::/56"),
        ] {
            assert_eq!(prefix(json!(text)), Ok(net(expected)), "{text}");
        }
        for (value, word) in [
            (json!("10.42.0.0/33"), "no prefix"),
            (json!("pods"), "no prefix"),
            (json!(7), "expected a string"),
            (json!("0.0.0.0/0"), "every destination"),
            (json!("::/0"), "every destination"),
        ] {
            let refused = prefix(value.clone()).unwrap_err();
            assert!(refused.contains(word), "{value}: {refused}");
        }
    }

    #[test]
    fn the_way_of_a_prefix_is_that_of_all_of_it() {
        // The first node of a cluster.
        let there = [
            via("0.0.0.0/0", "10.42.0.1"),
            Route::new(net("10.42.0.0/24"), 2),
            via("::/0", "fe80::1"),
        ];
        assert_eq!(way(&there, net("10.42.0.0/16")), Some(&there[0]));
        assert_eq!(way(&there, net("10.42.0.128/25")), Some(&there[1]));
        assert_eq!(way(&there, net("fd00:42::/56")), Some(&there[2]));
        assert_eq!(way(&there[1..2], net("10.42.0.0/16")), None);
    }

    #[test]
    fn of_several_ways_the_one_that_is_used_counts() {
        let there = [
            Route {
                metric: 100,
                ..via("0.0.0.0/0", "10.0.0.3")
            },
            via("0.0.0.0/0", "10.0.0.1"),
            via("0.0.0.0/0", "10.0.0.2"),
            via("10.0.0.0/8", "10.0.0.4"),
        ];
        assert_eq!(
            way(&there, net("192.0.2.0/24")),
            Some(&there[1]),
            "of equals the first"
        );
        assert_eq!(way(&there, net("10.42.0.0/16")), Some(&there[3]));
    }

    #[test]
    fn each_attachment_has_a_metric_of_its_own_for_ever() {
        let metric = |ifname, network| metric(&Mark::new(ifname, "c1", network));
        assert_eq!(metric("net1", "lan"), METRIC);
        assert_ne!(metric("net1", "lan"), metric("net2", "lan"));
        assert_ne!(metric("net1", "lan"), metric("net1", "wan"));
    }

    /// Of net1 of c1 in lan: an upgrade between ADD and DEL must find it.
    const METRIC: u32 = 1_639_757_715;
}
