//! `keepRoutes`: routes through another interface.

use std::net::IpAddr;

use attachment::{OwnerMark, PROTOCOL, Plan, keep_routes};

use cni::{Attachment, code};
use ipnet::IpNet;
use lab::anyhow::{anyhow, ensure};
use lab::{Lan, Result, Test, World, test};
use linknet::{Link, Netlink, Route};

use crate::container;

pub(crate) const TESTS: &[Test] = &[
    test!(a_destination_keeps_the_route_that_it_had),
    test!(each_attachment_keeps_routes_of_its_own),
    test!(only_other_interfaces_routes_of_the_main_table_are_kept),
];

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mark(ifname: &str) -> Result<OwnerMark> {
    Ok(OwnerMark::new(&Attachment::new("c1", "lan", ifname)?))
}

/// A container on the LAN, which has a cluster's network with a default route as well: a socket in
/// it, our interface, and the other one.
fn of_a_cluster() -> Result<(Netlink, Link, Link)> {
    let lan = Lan::new()?;
    let (container, ours) = container(&lan, "c1")?;
    container.add_bridge("cluster")?;
    container.set_up("cluster")?;
    container.add_address("cluster", net("10.42.0.5/24"))?;
    let cluster = container.link("cluster")?;
    let inside = container.netlink()?;
    let default = Route::new(net("0.0.0.0/0"), cluster.index).via(ip("10.42.0.1"));
    inside.add_route(&default)?;
    Ok((inside, ours, cluster))
}

/// Finds the routes to keep, and sets them.
fn keep(inside: &Netlink, ours: &Link, mark: &OwnerMark, dst: IpNet) -> Result<Vec<Route>> {
    let found = keep_routes::find(inside, &[dst], ours, mark);
    let kept = found.map_err(|error| anyhow!("{error:?}"))?;
    let plan = Plan {
        kept: kept.clone(),
        ..Plan::default()
    };
    let applied = plan.apply(inside, ours, |_| false);
    applied.map_err(|error| anyhow!("{error:?}"))?;
    Ok(kept)
}

/// What is missing of a route that is to be kept.
fn missing(inside: &Netlink, ours: &Link, dst: IpNet) -> Result<String> {
    let difference = keep_routes::difference(inside, ours, &[dst]);
    let difference = difference.map_err(|error| anyhow!("{error:?}"))?;
    Ok(difference.unwrap_or_default())
}

fn a_destination_keeps_the_route_that_it_had(_: &World) -> Result {
    let (inside, ours, cluster) = of_a_cluster()?;
    let services = net("10.43.0.0/16");
    let mark = mark("eth0")?;
    ensure!(missing(&inside, &ours, services)? == "the kept route to 10.43.0.0/16 is missing");
    let kept = keep(&inside, &ours, &mark, services)?;
    let expected = Route {
        metric: kept[0].metric,
        protocol: PROTOCOL,
        ..Route::new(services, cluster.index).via(ip("10.42.0.1"))
    };
    ensure!(
        kept == [expected.clone()] && expected.metric != 0,
        "{kept:?}"
    );
    ensure!(inside.routes(None)?.contains(&expected));
    ensure!(missing(&inside, &ours, services)?.is_empty());
    // It has a route of exactly that prefix.
    ensure!(keep(&inside, &ours, &mark, net("10.42.0.0/24"))?.is_empty());

    keep_routes::remove(&inside, &mark)?;
    ensure!(!inside.routes(None)?.contains(&expected));
    let unreachable = keep_routes::find(&inside, &[net("fd00:42::/56")], &ours, &mark);
    let code = unreachable.err().map(|error| error.code);
    ensure!(code == Some(code::INVALID_NETWORK_CONFIG));
    Ok(())
}

fn each_attachment_keeps_routes_of_its_own(_: &World) -> Result {
    let (inside, ours, _) = of_a_cluster()?;
    let services = net("10.43.0.0/16");
    let (first, second) = (mark("eth0")?, mark("eth1")?);
    let kept = keep(&inside, &ours, &first, services)?;
    let also_kept = keep(&inside, &ours, &second, services)?;
    ensure!(also_kept.len() == 1 && also_kept[0].metric != kept[0].metric);
    keep_routes::remove(&inside, &first)?;
    let left = inside.routes_with_protocol(PROTOCOL)?;
    ensure!(left == also_kept, "{left:?}");
    ensure!(missing(&inside, &ours, services)?.is_empty());
    Ok(())
}

fn only_other_interfaces_routes_of_the_main_table_are_kept(_: &World) -> Result {
    let (inside, ours, cluster) = of_a_cluster()?;
    let services = net("10.43.0.0/16");
    for route in [
        Route::new(services, ours.index),
        Route {
            table: 100,
            ..Route::new(services, cluster.index)
        },
    ] {
        inside.add_route(&route)?;
        ensure!(!missing(&inside, &ours, services)?.is_empty(), "{route:?}");
    }
    let kept = keep(&inside, &ours, &mark("eth0")?, services)?;
    ensure!(kept[0].gateway == Some(ip("10.42.0.1")), "{kept:?}");
    Ok(())
}
