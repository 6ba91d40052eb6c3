//! `keepRoutes`: destinations that a new default route leaves alone.

use std::net::IpAddr;

use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Network, Node, Result, Test, World, network, test};
use linknet::Route;

use super::{Lans, at, first, second};
use crate::macvlan::given;
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(kept_destinations_keep_their_route_and_all_else_takes_the_new_one)
        .needs(&[packages::GO_PLUGINS]),
    test!(an_on_link_prefix_within_a_kept_one_stays_on_the_link).needs(&[packages::GO_PLUGINS]),
    test!(several_networks_may_keep_the_same_route_and_end_in_any_order)
        .needs(&[packages::GO_PLUGINS]),
    test!(an_existing_route_is_used_and_left_in_place).needs(&[packages::GO_PLUGINS]),
    test!(check_fails_without_the_kept_routes).needs(&[packages::GO_PLUGINS]),
    test!(gc_removes_kept_routes).needs(&[packages::GO_PLUGINS]),
    test!(a_destination_without_a_route_is_refused).needs(&[packages::GO_PLUGINS]),
    test!(a_failed_add_leaves_no_route).needs(&[packages::GO_PLUGINS]),
    test!(an_invalid_destination_is_refused),
];

/// An address of each family with default routes, in 10.LAN.0.0/24.
fn ipam(lan: u8, number: u8) -> Value {
    json!({
        "type": "static",
        "addresses": [
            { "address": format!("10.{lan}.0.{number}/24"), "gateway": format!("10.{lan}.0.1") },
            { "address": format!("fd{lan}::{number}/64"), "gateway": format!("fd{lan}::1") },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    })
}

/// A container that has its first interface, at the first LAN.
fn container(lans: &Lans) -> Result<Node> {
    let container = lans.lan.container("c1")?;
    Network::new(&lans.lan.host, first(json!({ "ipam": ipam(99, 60) })))
        .add(&at(&container, "eth0"))?;
    Ok(container)
}

/// The second LAN, whose default route is to leave these alone.
fn keeping<'a>(lans: &'a Lans, number: u8, keep: &[&str]) -> Network<'a> {
    Network::new(
        &lans.lan.host,
        second(json!({ "ipam": ipam(98, number), "keepRoutes": keep })),
    )
}

/// The routes that leasehold made.
fn kept(container: &Node) -> Result<Vec<Route>> {
    let mut routes = container.routes()?;
    routes.retain(|route| route.protocol == attachment::PROTOCOL);
    Ok(routes)
}

/// Fails unless this is the router that packets take to there.
fn ensure_via(container: &Node, to: &str, gateway: &str) -> Result {
    let way = container
        .netlink()?
        .route_get(to.parse()?)?
        .with_context(|| format!("a way to {to}"))?;
    ensure!(way.gateway == Some(gateway.parse()?), "{to}: {way:?}");
    Ok(())
}

fn kept_destinations_keep_their_route_and_all_else_takes_the_new_one(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let before = container.routes()?;
    let network = keeping(
        &lans,
        60,
        &["192.0.2.0/24", "10.43.0.10", "2001:db8:1::/64"],
    );
    let attachment = at(&container, "net1");
    let result = network.add(&attachment)?;
    ensure!(
        !result.to_string().contains("192.0.2.0"),
        "it is another interface's: {result}"
    );
    for (to, gateway) in [
        ("192.0.2.2", "10.99.0.1"),
        ("10.43.0.10", "10.99.0.1"),
        ("2001:db8:1::2", "fd99::1"),
        ("10.43.0.11", "10.98.0.1"),
        ("198.51.100.2", "10.98.0.1"),
        // Of two IPv6 default routes of the same metric the kernel may take either.
    ] {
        ensure_via(&container, to, gateway)?;
    }
    for to in [
        "192.0.2.2",
        "2001:db8:1::2",
        "198.51.100.2",
        "2001:db8:2::2",
    ] {
        container.ping(to.parse()?, SOON)?;
    }
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure!(container.routes()? == before, "{:?}", container.routes()?);
    Ok(())
}

/// The node has 10.99.0.0/24 of the cluster's 10.96.0.0/12, whose first address is nobody's.
fn an_on_link_prefix_within_a_kept_one_stays_on_the_link(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    keeping(&lans, 60, &["10.99.0.0/16", "10.99.0.128/25"]).add(&at(&container, "net1"))?;
    ensure_via(&container, "10.99.7.7", "10.99.0.1")?;
    let beside = container
        .netlink()?
        .route_get("10.99.0.200".parse()?)?
        .context("a way")?;
    ensure!(beside.gateway.is_none(), "{beside:?}");
    Ok(())
}

fn several_networks_may_keep_the_same_route_and_end_in_any_order(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let before = container.routes()?;
    let networks = [(60, "net1"), (61, "net2")]
        .map(|(number, name)| (keeping(&lans, number, &["192.0.2.0/24"]), name));
    for order in [[0, 1], [1, 0]] {
        for (network, name) in &networks {
            network.add(&at(&container, name))?;
        }
        ensure!(kept(&container)?.len() == 2, "{:?}", kept(&container)?);
        for (left, which) in [1, 0].into_iter().zip(order) {
            let (network, name) = &networks[which];
            network.del(&at(&container, name))?;
            ensure!(kept(&container)?.len() == left, "{:?}", kept(&container)?);
            ensure_via(&container, "192.0.2.2", "10.99.0.1")?;
        }
        ensure!(container.routes()? == before, "{:?}", container.routes()?);
    }
    Ok(())
}

fn an_existing_route_is_used_and_left_in_place(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let dst: ipnet::IpNet = "192.0.2.0/24".parse()?;
    let gateway: IpAddr = "10.99.0.1".parse()?;
    let theirs = Route::new(dst, container.link("eth0")?.index).via(gateway);
    container.netlink()?.add_route(&theirs)?;
    let network = keeping(&lans, 60, &["192.0.2.0/24"]);
    let attachment = at(&container, "net1");
    network.add(&attachment)?;
    ensure!(kept(&container)?.is_empty(), "{:?}", kept(&container)?);
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure!(
        container
            .routes()?
            .iter()
            .any(|route| route.is_same(&theirs))
    );
    Ok(())
}

fn check_fails_without_the_kept_routes(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let network = keeping(&lans, 60, &["192.0.2.0/24"]);
    let attachment = at(&container, "net1");
    network.add(&attachment)?;
    for route in kept(&container)? {
        container.netlink()?.delete_route(&route)?;
    }
    let error = network::cni_error(network.check(&attachment));
    ensure!(
        error.code == 110 && error.msg.contains("192.0.2.0/24"),
        "{error:?}"
    );
    network
        .del(&attachment)
        .context("that it is gone is no obstacle")
}

fn gc_removes_kept_routes(world: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let mut conflist = second(json!({ "keepRoutes": ["192.0.2.0/24"] }));
    conflist["cniVersion"] = json!("1.1.0");
    let [stays, goes] = [at(&container, "net1"), at(&container, "net2")];
    let gives = |number: u8| json!({ "ips": [{ "address": format!("10.98.0.{number}/24") }] });
    given(world, &lans.lan, conflist.clone(), &gives(60))?.add(&stays)?;
    let remaining = kept(&container)?;
    let network = given(world, &lans.lan, conflist, &gives(61))?;
    network.add(&goes)?;
    ensure!(kept(&container)?.len() == 2, "{:?}", kept(&container)?);
    network.gc(&[&stays])?;
    ensure!(kept(&container)? == remaining, "{:?}", kept(&container)?);
    Ok(())
}

fn a_destination_without_a_route_is_refused(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = lans.lan.container("c1")?;
    let network = keeping(&lans, 60, &["10.42.0.0/16"]);
    let error = network::cni_error(network.add(&at(&container, "net1")));
    ensure!(error.code == 7, "{error:?}");
    for words in [
        "keepRoutes: the container has no route to 10.42.0.0/16 yet",
        "attach the network that provides it first",
    ] {
        ensure!(format!("{error:?}").contains(words), "{words}: {error:?}");
    }
    ensure_nothing_left(&container)
}

fn a_failed_add_leaves_no_route(world: &World) -> Result {
    let lans = Lans::new()?;
    let container = container(&lans)?;
    let before = container.routes()?;
    // A duplicate address is detected last.
    let taken = json!({ "ips": [{ "address": "10.98.0.60/24" }, { "address": "fd98::1/64" }] });
    let network = given(
        world,
        &lans.lan,
        second(json!({ "keepRoutes": ["192.0.2.0/24"] })),
        &taken,
    )?;
    let error = network::cni_error(network.add(&at(&container, "net1")));
    ensure!(error.code == 113, "{error:?}");
    ensure!(container.routes()? == before, "{:?}", container.routes()?);
    Ok(())
}

fn an_invalid_destination_is_refused(_: &World) -> Result {
    let lans = Lans::new()?;
    let container = lans.lan.container("c1")?;
    for (value, at_fault) in [
        (json!(["10.42.0.0/16", "pods"]), "keepRoutes[1]"),
        (json!(["10.42.0.0/33"]), "keepRoutes[0]"),
        (json!(["0.0.0.0/0"]), "keepRoutes[0]"),
        (json!("10.42.0.0/16"), "keepRoutes"),
    ] {
        let keys = json!({ "ipam": ipam(98, 60), "keepRoutes": value });
        let error = network::cni_error(
            Network::new(&lans.lan.host, second(keys)).add(&at(&container, "net1")),
        );
        ensure!(
            error.code == 7 && error.msg.contains(at_fault),
            "{value}: {error:?}"
        );
    }
    // It is of no use where no route comes.
    let keys = json!({ "keepRoutes": ["10.42.0.0/16"] });
    let error =
        network::cni_error(Network::new(&lans.lan.host, second(keys)).add(&at(&container, "net1")));
    ensure!(
        error.code == 7 && error.msg.contains("keepRoutes"),
        "{error:?}"
    );
    ensure_nothing_left(&container)
}
