//! Addresses and routes, as IPAM asks for them.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Node, Process, Result, Test, World, network, test, until};
use linknet::{Dad, Route, RouteKind, Scope, sysctl};

use super::{addresses, given, knows_no_other_mac, plug};
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(metric_table_scope_mtu_and_advmss_reach_the_kernel),
    test!(a_32_bit_address_reaches_the_lan_through_a_gateway_outside_it),
    test!(both_addresses_of_a_31_bit_prefix_are_usable),
    test!(a_route_without_a_gateway_is_on_the_link),
    test!(a_refused_destination_is_not_reached_and_stays_so_until_del),
    test!(a_refused_destination_that_the_container_has_another_route_to_is_an_error),
    test!(a_leased_address_is_set_for_as_long_as_the_lease),
    test!(duplicate_addresses_and_routes_are_installed_once_and_conflicting_ones_refused),
    test!(a_second_default_route_is_preferred_as_with_the_go_plugin).needs(&[packages::GO_PLUGINS]),
    test!(both_families_work_when_add_returns).needs(&[packages::GO_PLUGINS]),
    test!(ipv6_is_enabled_where_it_is_disabled).needs(&[packages::GO_PLUGINS]),
    test!(an_ipv6_address_that_is_given_up_in_time_is_configured)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(an_ipv6_address_in_use_is_refused).needs(&[packages::GO_PLUGINS]),
    test!(add_does_not_wait_for_ever_to_find_out_whether_an_ipv6_address_is_free)
        .needs(&[packages::GO_PLUGINS]),
    test!(ipv6_over_too_small_an_mtu_is_refused_with_the_reason).needs(&[packages::GO_PLUGINS]),
    test!(neighbours_learn_a_changed_mac).needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(a_result_of_an_earlier_plugin_is_passed_on).needs(&[packages::GO_PLUGINS]),
];

/// A network in which IPAM gives this result.
fn giving<'a>(world: &World, lan: &'a Lan, result: Value) -> Result<Network<'a>> {
    given(world, lan, conflist(json!({})), &result)
}

/// The container's routes to this destination.
fn routes(container: &Node, dst: &str) -> Result<Vec<Route>> {
    let dst: ipnet::IpNet = dst.parse()?;
    Ok(container
        .routes()?
        .into_iter()
        .filter(|route| route.dst == dst)
        .collect())
}

fn the_only(container: &Node, dst: &str) -> Result<Route> {
    let routes = routes(container, dst)?;
    ensure!(routes.len() == 1, "routes to {dst}: {routes:?}");
    routes.into_iter().next().context("one")
}

fn metric_table_scope_mtu_and_advmss_reach_the_kernel(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let mut newest = conflist(json!({}));
    newest["cniVersion"] = json!("1.1.0");
    let network = given(
        world,
        &lan,
        newest,
        &json!({
            "ips": [{ "address": "10.99.0.60/24", "gateway": "10.99.0.1" }],
            "routes": [
                { "dst": "10.1.0.0/16", "priority": 50, "mtu": 1400, "advmss": 1300 },
                { "dst": "10.2.0.0/16", "gw": "10.99.0.2", "table": 1000 },
                { "dst": "10.3.0.0/16", "scope": 253 },
                { "dst": "10.4.7.7/16", "gw": "10.99.0.3" },
            ],
        }),
    )?;
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure!(
        result["routes"][0]["mtu"] == 1400 && result["routes"][1]["table"] == 1000,
        "{result}"
    );
    let one = the_only(&container, "10.1.0.0/16")?;
    ensure!(
        (one.metric, one.mtu, one.advmss) == (50, Some(1400), Some(1300)),
        "{one:?}"
    );
    ensure!(one.gateway == Some(Lan::ADDRESS.into()), "{one:?}");
    let two = the_only(&container, "10.2.0.0/16")?;
    ensure!(
        two.table == 1000 && two.gateway == Some("10.99.0.2".parse()?),
        "{two:?}"
    );
    let three = the_only(&container, "10.3.0.0/16")?;
    ensure!(
        three.scope == Scope::LINK && three.gateway.is_none(),
        "{three:?}"
    );
    the_only(&container, "10.4.0.0/16")?;
    network.check(&attachment)?;

    // CHECK looks for the destination, in the table; a later plugin may have replaced the gateway.
    let netlink = container.netlink()?;
    netlink.delete_route(&two)?;
    let replaced = Route {
        gateway: Some("10.99.0.9".parse()?),
        ..two
    };
    netlink.add_route(&replaced)?;
    network.check(&attachment)?;
    netlink.delete_route(&replaced)?;
    let error = network::cni_error(network.check(&attachment));
    ensure!(
        error.code == 110
            && error
                .msg
                .contains("10.2.0.0/16 via 10.99.0.2 in table 1000"),
        "{error:?}"
    );
    Ok(())
}

fn a_32_bit_address_reaches_the_lan_through_a_gateway_outside_it(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = giving(
        world,
        &lan,
        json!({
            "ips": [{ "address": "10.99.0.60/32", "gateway": "10.99.0.1" }],
            "routes": [{ "dst": "0.0.0.0/0" }],
        }),
    )?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(the_only(&container, "0.0.0.0/0")?.gateway == Some(Lan::ADDRESS.into()));
    network.check(&attachment)
}

fn both_addresses_of_a_31_bit_prefix_are_usable(world: &World) -> Result {
    let lan = Lan::new()?;
    lan.lan
        .add_address(Lan::SERVER_LINK, "10.97.0.0/31".parse()?)?;
    let container = lan.container("c1")?;
    let network = giving(
        world,
        &lan,
        json!({
            "ips": [{ "address": "10.97.0.1/31", "gateway": "10.97.0.0" }],
            "routes": [{ "dst": "0.0.0.0/0" }],
        }),
    )?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    container.ping("10.97.0.0".parse()?, SOON)?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)
}

fn a_route_without_a_gateway_is_on_the_link(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = giving(
        world,
        &lan,
        json!({ "ips": [{ "address": "10.97.0.5/24" }], "routes": [{ "dst": "10.99.0.0/24" }] }),
    )?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let route = the_only(&container, "10.99.0.0/24")?;
    ensure!(route.gateway.is_none(), "{route:?}");
    network.check(&attachment)
}

/// What our IPAM plugin tells us alone; the runtime does not hear of it.
/// A result with a default route.
fn with_default_route() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "ips": [{ "address": "10.99.0.50/24", "gateway": "10.99.0.1" }],
        "routes": [{ "dst": "0.0.0.0/0" }],
    })
}

fn a_refused_destination_is_not_reached_and_stays_so_until_del(world: &World) -> Result {
    let lan = Lan::new()?;
    lan.lan.add_address("lo", "192.0.2.7/32".parse()?)?;
    lan.lan.add_address("lo", "198.51.100.7/32".parse()?)?;
    let container = lan.container("c1")?;
    let own = Route::refusing(
        "203.0.113.0/24".parse::<ipnet::IpNet>()?,
        RouteKind::Blackhole,
    );
    container.netlink()?.add_route(&own)?;
    let refused = json!([
        { "dst": "192.0.2.0/24", "type": "prohibit" },
        { "dst": "203.0.113.0/24" },
    ]);
    let network = given(
        world,
        &lan,
        conflist(json!({ "refusedRoutes": refused })),
        &with_default_route(),
    )?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    network.check(&attachment)?;
    container.ping("198.51.100.7".parse()?, SOON)?;
    let is_answered = container.is_answered("192.0.2.7".parse()?, Duration::from_millis(200))?;
    ensure!(!is_answered, "it was to be refused");

    container.output(&["ip", "route", "del", "prohibit", "192.0.2.0/24"])?;
    let error = network::cni_error(network.check(&attachment));
    ensure!(error.code == 110, "{error:?}");
    let words = "the prohibit route to 192.0.2.0/24 is missing";
    ensure!(error.msg.contains(words), "{error:?}");

    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    let (_, left) = container.netlink()?.routes_and_refused()?;
    let left: Vec<_> = left
        .iter()
        .filter(|route| route.dst.addr().is_ipv4())
        .collect();
    ensure!(left.len() == 1 && left[0].dst == own.dst, "{left:?}");
    Ok(())
}

fn a_refused_destination_that_the_container_has_another_route_to_is_an_error(
    world: &World,
) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let loopback = container.link("lo")?.index;
    let there = Route::new("192.0.2.0/24".parse::<ipnet::IpNet>()?, loopback);
    container.netlink()?.add_route(&there)?;
    let refused = json!([{ "dst": "198.51.100.0/24" }, { "dst": "192.0.2.0/24" }]);
    let network = given(
        world,
        &lan,
        conflist(json!({ "refusedRoutes": refused })),
        &with_default_route(),
    )?;
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(error.code == 7, "{error:?}");
    ensure!(
        error.msg.contains("add route blackhole 192.0.2.0/24"),
        "{error:?}"
    );
    ensure_nothing_left(&container)?;
    let (unicast, left) = container.netlink()?.routes_and_refused()?;
    ensure!(
        unicast.iter().any(|route| route.is_same(&there)),
        "{unicast:?}"
    );
    let left: Vec<_> = left
        .iter()
        .filter(|route| route.dst.addr().is_ipv4())
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn a_leased_address_is_set_for_as_long_as_the_lease(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let ips = json!([
        { "address": "10.99.0.60/24", "leasehold/validLifetime": 600 },
        { "address": "10.99.0.61/24" },
    ]);
    let result =
        giving(world, &lan, json!({ "ips": ips }))?.add(&network::Attachment::new(&container))?;
    ensure!(!result.to_string().contains("validLifetime"), "{result}");
    let there = container.addresses("eth0")?;
    let valid = |net: &str| {
        there
            .iter()
            .find(|address| address.net.to_string() == net)
            .and_then(|it| it.valid)
    };
    ensure!(
        valid("10.99.0.60/24").is_some_and(|valid| (590..=600).contains(&valid.as_secs())),
        "{there:?}"
    );
    ensure!(valid("10.99.0.61/24").is_none(), "{there:?}");
    Ok(())
}

fn duplicate_addresses_and_routes_are_installed_once_and_conflicting_ones_refused(
    world: &World,
) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let ip = json!({ "address": "10.99.0.60/24", "gateway": "10.99.0.1" });
    let route = json!({ "dst": "10.1.0.0/16", "mtu": 1400 });
    let network = giving(
        world,
        &lan,
        json!({ "ips": [ip, ip], "routes": [route, route] }),
    )?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    ensure!(container.ipv4("eth0")?.len() == 1);
    the_only(&container, "10.1.0.0/16")?;
    network.del(&attachment)?;

    // One IPv6 address in two prefixes is two different things, of which the kernel has one.
    let ips = json!([{ "address": "fd99::60/64" }, { "address": "fd99::60/128" }]);
    let network = giving(world, &lan, json!({ "ips": ips }))?;
    let error = network::cni_error(network.add(&attachment));
    ensure!(
        error.code == 7 && error.msg.contains("fd99::60/128"),
        "{error:?}"
    );
    ensure_nothing_left(&container)
}

fn a_second_default_route_is_preferred_as_with_the_go_plugin(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    plug(&lan, &container, "first0")?;
    container.add_address("first0", "10.98.0.2/24".parse()?)?;
    let everywhere: ipnet::IpNet = "0.0.0.0/0".parse()?;
    let gateway: IpAddr = "10.98.0.1".parse()?;
    let first = Route::new(everywhere, container.link("first0")?.index).via(gateway);
    container.netlink()?.add_route(&first)?;

    let ipam = json!({
        "type": "static",
        "addresses": [{ "address": "10.99.0.60/24", "gateway": "10.99.0.1" }],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let gateways: Vec<_> = routes(&container, "0.0.0.0/0")?
        .iter()
        .filter_map(|route| route.gateway)
        .collect();
    ensure!(
        gateways == [IpAddr::from(Lan::ADDRESS), gateway],
        "{gateways:?}"
    );
    network.del(&attachment)?;
    ensure!(
        the_only(&container, "0.0.0.0/0")?.is_same(&first),
        "the first has its place again"
    );
    Ok(())
}

fn both_families_work_when_add_returns(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    let keys = json!({ "ipam": addresses(&["10.99.0.60/24", "fd99::60/64", "fd99::61/64"]) });
    Network::new(&lan.host, conflist(keys)).add(&network::Attachment::new(&container))?;
    let tentative: Vec<_> = container
        .addresses("eth0")?
        .into_iter()
        .filter(|address| address.dad != Dad::Done && address.net.to_string().starts_with("fd99"))
        .collect();
    ensure!(tentative.is_empty(), "{tentative:?}");
    container.ping(Lan::ADDRESS.into(), SOON)?;
    container.ping(Lan::ADDRESS6.into(), SOON)?;
    Ok(())
}

fn ipv6_is_enabled_where_it_is_disabled(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    for name in ["all", "default", "lo"] {
        container.run(|| sysctl::set(&["ipv6", "conf", name, "disable_ipv6"], "1"))??;
    }
    let keys = json!({ "ipam": addresses(&["fd99::60/64"]) });
    Network::new(&lan.host, conflist(keys)).add(&network::Attachment::new(&container))?;
    container.ping(Lan::ADDRESS6.into(), SOON)?;
    Ok(())
}

/// As that of an earlier container whose namespace the kernel is still tearing down.
fn an_ipv6_address_that_is_given_up_in_time_is_configured(world: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    let address = Lan::ADDRESS6.to_string();
    let keys = json!({ "ipam": addresses(&["10.99.0.60/24", &format!("{address}/64")]) });
    let network = Network::new(&lan.host, conflist(keys));
    let mut monitor = Command::new("ip");
    monitor.args(["monitor", "address"]);
    let monitor = Process::spawn(world, &container, "monitor", monitor)?;
    let attachment = network::Attachment::new(&container);
    let add = network
        .prepare("ADD", 0, &attachment, None)?
        .start(&lan.host)?;
    until("the address is found to be in use", SOON, || {
        monitor.log().contains("dadfailed")
    })?;
    let holder = lan.lan.netlink()?;
    let mut addresses = holder.all_addresses()?.into_iter();
    let held = addresses.find(|held| held.net.addr() == IpAddr::from(Lan::ADDRESS6));
    let held = held.context("the LAN has it")?;
    holder.delete_address(held.index, held.net)?;
    add.finish()?.success()?;
    let addresses = container.addresses("eth0")?;
    let ours = addresses
        .iter()
        .find(|ours| ours.net.addr() == held.net.addr());
    ensure!(
        ours.is_some_and(|ours| ours.dad == Dad::Done),
        "{addresses:?}"
    );
    Ok(())
}

fn an_ipv6_address_in_use_is_refused(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    let keys = json!({ "ipam": addresses(&["10.99.0.60/24", &format!("{}/64", Lan::ADDRESS6)]) });
    let network = Network::new(&lan.host, conflist(keys));
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(
        error.code == 113 && error.msg.contains(&Lan::ADDRESS6.to_string()),
        "{error:?}"
    );
    ensure_nothing_left(&container)
}

fn add_does_not_wait_for_ever_to_find_out_whether_an_ipv6_address_is_free(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let container = lan.container("c1")?;
    // The kernel asks once in a second.
    let times = ["ipv6", "conf", "default", "dad_transmits"];
    container.run(|| sysctl::set(&times, "60"))??;
    let keys = json!({ "ipam": addresses(&["fd99::60/64"]) });
    let network = Network::new(&lan.host, conflist(keys));
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(
        error.code == 11
            && error
                .msg
                .contains("within 10 s whether fd99::60/64 is free"),
        "{error:?}"
    );
    ensure_nothing_left(&container)
}

fn ipv6_over_too_small_an_mtu_is_refused_with_the_reason(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let keys = json!({ "mtu": 1200, "ipam": addresses(&["fd99::60/64"]) });
    let network = Network::new(&lan.host, conflist(keys));
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(
        error.code == 7 && error.msg.contains("IPv6 needs 1280"),
        "{error:?}"
    );
    ensure_nothing_left(&container)
}

fn neighbours_learn_a_changed_mac(_: &World) -> Result {
    let lan = Lan::new()?;
    for (name, mac) in [("c1", "02:00:00:00:00:01"), ("c2", "02:00:00:00:00:02")] {
        let container = lan.container(name)?;
        let keys = json!({ "mac": mac, "ipam": addresses(&["10.99.0.60/24"]) });
        let network = Network::new(&lan.host, conflist(keys));
        let attachment = network::Attachment::new(&container);
        network.add(&attachment)?;
        // Without a packet to the address, only an announcement changes what the LAN's side knows.
        until("no neighbour entry has another MAC", SOON, || {
            knows_no_other_mac(&lan.lan, "10.99.0.60", mac)
        })?;
        lan.lan.ping("10.99.0.60".parse()?, SOON)?;
        network.del(&attachment)?;
    }
    Ok(())
}

/// Spec §4 "ADD": a plugin given a `prevResult` passes it on.
fn a_result_of_an_earlier_plugin_is_passed_on(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let keys = json!({ "ipam": addresses(&["10.99.0.60/24"]) });
    let network = Network::new(&lan.host, conflist(keys));
    let attachment = network::Attachment::new(&container);
    let earlier = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "tap0", "mac": "02:00:00:00:00:99", "sandbox": container.path() }],
        "ips": [{ "interface": 0, "address": "192.0.2.5/24" }],
        "routes": [{ "dst": "198.51.100.0/24" }],
        "dns": { "nameservers": ["192.0.2.53"] },
        "example.com/extra": { "kept": true },
    });
    let add = network.prepare("ADD", 0, &attachment, Some(&earlier))?;
    let result = add.run(&lan.host)?.success()?;
    ensure!(
        result["interfaces"][0] == earlier["interfaces"][0],
        "{result}"
    );
    ensure!(result["interfaces"][1]["name"] == "eth0", "{result}");
    ensure!(
        result["ips"][0] == earlier["ips"][0] && result["ips"][1]["interface"] == 1,
        "{result}"
    );
    for key in ["dns", "routes", "example.com/extra"] {
        ensure!(result[key] == earlier[key], "{key}: {result}");
    }
    Ok(())
}
