//! `keepRoutes`: destinations that keep their existing route when the interface brings a default
//! route, such as a cluster's pods and services behind another interface.
//!
//! Each gets a route that copies the one that the container used for it until then. It overrides
//! the new default route. If the network brings a route to the same destination, or to a part of
//! it, that one overrides the kept route in turn.
//!
//! These routes lead through another plugin's interface, so the result, which reports the routes of
//! our interface, does not list them. They are recognised by their protocol and by their metric,
//! which is the attachment's own: several attachments may keep the same destination, and end in any
//! order.

use std::cmp::Reverse;

use cni::{Error, code};
use ipnet::IpNet;
use linknet::{Link, Netlink, Route, or_absent};
use sha2::{Digest, Sha256};

use crate::error::KernelError;
use crate::ownership::{OwnerMark, PROTOCOL};

/// The routes that keep the present paths to these destinations. A destination needs none if the
/// container has a route of exactly that prefix, other than one that is kept for another
/// attachment.
///
/// # Errors
/// 7 for a destination that no route leads to; 111 if the kernel cannot be asked.
pub fn find(
    inside: &Netlink,
    keep: &[IpNet],
    link: &Link,
    mark: &OwnerMark,
) -> Result<Vec<Route>, Error> {
    if keep.is_empty() {
        return Ok(Vec::new());
    }
    let others = through_others(inside, link)?;
    let mut routes = Vec::new();
    for &dst in keep {
        let existing = route_of_all(&others, dst).ok_or_else(|| unreachable(dst))?;
        if existing.dst != dst || existing.protocol == PROTOCOL {
            routes.push(Route {
                dst,
                metric: metric(mark),
                protocol: PROTOCOL,
                ..existing.clone()
            });
        }
    }
    Ok(routes)
}

/// Removes the routes that an attachment keeps.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(inside: &Netlink, mark: &OwnerMark) -> linknet::Result<()> {
    let metric = metric(mark);
    for route in inside.routes_with_protocol(PROTOCOL)? {
        if route.metric != metric {
            continue;
        }
        or_absent(inside.delete_route(&route))?;
    }
    Ok(())
}

/// CHECK: the first of these destinations without a route of its own through another interface.
///
/// # Errors
/// 111 if the kernel cannot be asked.
pub fn difference(inside: &Netlink, link: &Link, keep: &[IpNet]) -> Result<Option<String>, Error> {
    if keep.is_empty() {
        return Ok(None);
    }
    let others = through_others(inside, link)?;
    let missing = keep
        .iter()
        .find(|dst| !others.iter().any(|route| route.dst == **dst));
    Ok(missing.map(|dst| format!("the kept route to {dst} is missing")))
}

/// The routes of the main table through interfaces other than ours.
fn through_others(inside: &Netlink, link: &Link) -> Result<Vec<Route>, Error> {
    let mut routes = inside.routes_in_table(Route::MAIN).or_kernel_error()?;
    routes.retain(|route| route.index != link.index);
    Ok(routes)
}

/// The route that a whole destination uses, ignoring routes to parts of it. The kernel's route to
/// one address of the destination can be a different one: a cluster's first addresses belong to the
/// pods of its first node, which are on the link there.
fn route_of_all(routes: &[Route], dst: IpNet) -> Option<&Route> {
    let covering = routes.iter().rev().filter(|route| route.dst.contains(&dst));
    // The first of equals, which is the last that `max_by_key` sees.
    covering.max_by_key(|route| (route.dst.prefix_len(), Reverse(route.metric)))
}

fn unreachable(dst: IpNet) -> Error {
    let what = format!(
        "invalid network configuration: keepRoutes: the container has no route to {dst} yet"
    );
    Error::new(code::INVALID_NETWORK_CONFIG, what)
        .details("attach the network that provides it first")
}

/// The metric of an attachment's kept routes. It must never change, so that DEL finds the routes
/// that another version made. It is never 0, the default metric.
fn metric(mark: &OwnerMark) -> u32 {
    let digest: [u8; 32] = Sha256::digest(format!("leasehold keep {}", mark.alias)).into();
    let [a, b, c, d, ..] = digest;
    u32::from_be_bytes([a, b, c, d]).max(1)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use cni::Attachment;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn via(dst: &str, gateway: &str) -> Route {
        Route::new(net(dst), 2).via(gateway.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_route_to_a_part_of_the_destination_is_not_its_route() {
        // The first node of a cluster.
        let routes = [
            via("0.0.0.0/0", "10.42.0.1"),
            Route::new(net("10.42.0.0/24"), 2),
            via("::/0", "fe80::1"),
        ];
        assert_eq!(route_of_all(&routes, net("10.42.0.0/16")), Some(&routes[0]));
        assert_eq!(
            route_of_all(&routes, net("10.42.0.128/25")),
            Some(&routes[1])
        );
        assert_eq!(route_of_all(&routes, net("fd00:42::/56")), Some(&routes[2]));
        assert_eq!(route_of_all(&routes[1..2], net("10.42.0.0/16")), None);
    }

    #[test]
    fn of_several_routes_the_most_specific_with_the_lowest_metric_is_kept() {
        let routes = [
            Route {
                metric: 100,
                ..via("0.0.0.0/0", "10.0.0.3")
            },
            via("0.0.0.0/0", "10.0.0.1"),
            via("0.0.0.0/0", "10.0.0.2"),
            via("10.0.0.0/8", "10.0.0.4"),
        ];
        assert_eq!(
            route_of_all(&routes, net("192.0.2.0/24")),
            Some(&routes[1]),
            "the first of equals"
        );
        assert_eq!(route_of_all(&routes, net("10.42.0.0/16")), Some(&routes[3]));
    }

    #[test]
    fn each_attachment_has_a_metric_of_its_own_that_never_changes() {
        let metric = |ifname, network| {
            let attachment = Attachment::new("c1", network, ifname).unwrap();
            metric(&OwnerMark::new(&attachment))
        };
        assert_eq!(metric("net1", "lan"), METRIC);
        assert_ne!(metric("net1", "lan"), metric("net2", "lan"));
        assert_ne!(metric("net1", "lan"), metric("net1", "wan"));
    }

    /// Of net1 of c1 in lan: an upgrade between ADD and DEL must find it.
    const METRIC: u32 = 1_639_757_715;
}
