//! CHECK, STATUS and GC.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::plugin::Call;
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{DhcpServer, Lan, Network, Node, Result, Test, World, network, test};
use linknet::{NewMacvlan, Route};

use super::{given, plug, script};
use crate::scenario::{Scenario, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(of_many_adds_at_once_exactly_one_succeeds),
    test!(check_finds_every_difference),
    test!(check_accepts_what_later_plugins_may_change),
    test!(check_asks_ipam),
    test!(check_of_a_container_that_is_gone_does_not_say_that_no_del_is_needed),
    test!(status_succeeds_when_add_would),
    test!(status_reports_what_would_make_add_fail),
    test!(status_asks_ipam),
    test!(gc_removes_only_attachments_that_are_not_valid),
    test!(gc_without_a_list_removes_nothing),
    test!(gc_is_forwarded_to_ipam_whatever_else_fails),
    test!(gc_does_not_fail_for_an_ipam_plugin_without_gc).needs(&[packages::GO_PLUGINS]),
    test!(gc_reports_a_namespace_that_it_cannot_search),
];

fn newest(keys: Value) -> Value {
    let mut conflist = conflist(keys);
    conflist["cniVersion"] = json!("1.1.0");
    conflist
}

/// Each difference is made in a container of its own, and CHECK names it.
fn check_finds_every_difference(world: &World) -> Result {
    let lan = Lan::new()?;
    let second = plug(&lan, &lan.host, "eth2")?;
    // Where it is the configured parent, eth2 is meant.
    let host = lan.host.netlink()?;
    host.add_macvlan(
        &NewMacvlan::new("own", second.index),
        lan.host.netns(),
        &host,
    )?;
    let result = json!({
        "ips": [{ "address": "10.99.0.60/24", "gateway": "10.99.0.1" }],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let keys = json!({ "mac": "02:00:00:00:00:17", "mtu": 1450 });
    let mut missed = Vec::new();
    for difference in [
        "gone", "kind", "mode", "parent", "macvlan", "MAC", "down", "address", "route",
    ] {
        let container = lan.container(difference)?;
        let (mut configured, mut changed) = (keys.clone(), keys.clone());
        match difference {
            "macvlan" => configured["master"] = json!("own"),
            "mode" => changed["mode"] = json!("vepa"),
            "parent" => changed["master"] = json!("eth2"),
            _ => {}
        }
        let network = given(world, &lan, conflist(configured), &result)?;
        let attachment = network::Attachment::new(&container);
        let made = given(world, &lan, conflist(changed), &result)?.add(&attachment)?;
        let check = || {
            network
                .prepare("CHECK", 0, &attachment, Some(&made))?
                .run(&lan.host)
        };

        let netlink = container.netlink()?;
        let index = container.link("eth0")?.index;
        let words = match difference {
            "gone" => {
                netlink.delete_link(index)?;
                "does not exist"
            }
            "kind" => {
                netlink.delete_link(index)?;
                plug(&lan, &container, "eth0")?;
                "it is a veth, not a macvlan"
            }
            "mode" => "its mode is vepa, not bridge",
            "parent" => "its parent is eth2, not master \"eth1\"",
            "macvlan" => "its parent is eth1, not master \"own\"",
            "MAC" => {
                netlink.set_mac(index, "02:00:00:00:00:18".parse()?)?;
                "its MAC is 02:00:00:00:00:18, not 02:00:00:00:00:17"
            }
            "down" => {
                container.set_down("eth0")?;
                "it is down"
            }
            "address" => {
                let net: IpNet = "10.99.0.60/24".parse()?;
                netlink.delete_address(index, net)?;
                "address 10.99.0.60/24 is missing"
            }
            "route" => {
                netlink.delete_route(&default_route(&container)?)?;
                "route 0.0.0.0/0 via 10.99.0.1 is missing"
            }
            _ => unreachable!("a difference without a deed"),
        };
        let outcome = check()?;
        if outcome.status.success() {
            missed.push(difference);
        } else if !lab::suite::other_plugins() {
            let error = outcome.error()?;
            ensure!(
                error.code == 110 && error.msg.contains(words),
                "{difference}: {error:?}"
            );
        }
        network.del(&attachment)?;
        container.remove()?;
    }
    ensure!(missed.is_empty(), "CHECK passes in spite of: {missed:?}");
    Ok(())
}

/// In every version, and with routes that only some versions can report as they were asked for.
fn check_accepts_what_later_plugins_may_change(world: &World) -> Result {
    let lan = Lan::new()?;
    let result = json!({
        "ips": [{ "address": "10.99.0.60/24", "gateway": "10.99.0.1" }],
        "routes": [
            { "dst": "0.0.0.0/0" },
            { "dst": "10.98.0.0/16", "scope": 253 },
            { "dst": "10.97.0.0/16", "gw": "10.99.0.2", "table": 0 },
            { "dst": "10.96.0.0/16", "gw": "192.0.2.1" },
        ],
    });
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let container = lan.container(&format!("c{version}"))?;
        let mut conflist = conflist(json!({ "mtu": 1450 }));
        conflist["cniVersion"] = json!(version);
        let network = given(world, &lan, conflist, &result)?;
        let attachment = network::Attachment::new(&container);
        let mut reported = network.add(&attachment)?;
        let check = |reported: &Value| {
            let call = network.prepare("CHECK", 0, &attachment, Some(reported))?;
            let checked = call.run(&lan.host)?.success();
            checked.with_context(|| format!("CHECK under {version}"))
        };
        check(&reported)?;

        let netlink = container.netlink()?;
        netlink.set_mtu(container.link("eth0")?.index, 1300)?;
        let default = default_route(&container)?;
        netlink.delete_route(&default)?;
        netlink.add_route(&Route {
            gateway: Some(IpAddr::from([10, 99, 0, 9])),
            ..default
        })?;
        check(&reported)?;

        // A second network's default route, through a gateway that only its interface reaches.
        plug(&lan, &container, "net1")?;
        let index = container.link("net1")?.index;
        let (gateway, dst): (IpAddr, &str) = ("198.51.100.1".parse()?, "203.0.113.0/24");
        let to_gateway = Route::new(gateway, index);
        netlink.add_route(&to_gateway)?;
        netlink.add_route(&Route::new(dst.parse::<IpNet>()?, index).via(gateway))?;
        netlink.delete_route(&to_gateway)?;
        let routes = reported["routes"].as_array_mut().context("routes")?;
        routes.push(json!({ "dst": dst, "gw": gateway }));
        check(&reported)?;
        network.del(&attachment)?;
        container.remove()?;
    }
    Ok(())
}

fn default_route(container: &Node) -> Result<Route> {
    let routes = container.routes()?;
    let default = routes.into_iter().find(|route| route.dst.prefix_len() == 0);
    default.context("no default route")
}

/// An IPAM plugin that notes its verbs, and fails with 123 for all but ADD and DEL.
fn grumbler<'a>(world: &World, lan: &'a Lan, version: &str) -> Result<(Network<'a>, PathBuf)> {
    let calls = world.dir().join("calls");
    let body = format!(
        "echo $CNI_COMMAND >>{}\ncat >/dev/null\ncase $CNI_COMMAND in\n\
         ADD) echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.99.0.60/24\"}}]}}';;\nDEL) ;;\n\
         *) echo '{{\"cniVersion\":\"1.1.0\",\"code\":123,\"msg\":\"grumble\"}}'; exit 1;;\nesac\n",
        calls.display()
    );
    let path = script(world, "grumbler", &body)?;
    let mut conflist = conflist(json!({ "ipam": { "type": "grumbler" } }));
    conflist["cniVersion"] = json!(version);
    Ok((Network::with_path(&lan.host, conflist, path), calls))
}

fn check_of_a_container_that_is_gone_does_not_say_that_no_del_is_needed(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    container.remove()?;
    let error = network::cni_error(network.check(&attachment));
    ensure!(error.code == 110, "3 would say so: {error:?}");
    network.del(&attachment)
}

fn check_asks_ipam(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let (network, calls) = grumbler(world, &lan, "1.0.0")?;
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    let error = network::cni_error(network.check(&attachment));
    ensure!(error.code == 123 && error.msg == "grumble", "{error:?}");
    // Only a difference may have a reason that IPAM knows.
    let mut call = conflist(json!({ "ipam": { "type": "grumbler" }, "nopromisc": true }));
    call["plugins"][0]["name"] = json!("lan");
    call["plugins"][0]["cniVersion"] = json!("1.0.0");
    call["plugins"][0]["prevResult"] = result;
    let error = Call::new("macvlan", "CHECK")
        .container("c1")
        .netns(container.path())
        .ifname("eth0")
        .env("CNI_PATH", &world.dir().join("bin").display().to_string())
        .config(&call["plugins"][0])
        .run(&lan.host)?
        .error()?;
    ensure!(error.code == 7, "{error:?}");
    network.del(&attachment)?;
    ensure!(fs::read_to_string(calls)? == "ADD\nCHECK\nDEL\n");
    Ok(())
}

fn status_succeeds_when_add_would(_: &World) -> Result {
    let lan = Lan::new()?;
    Network::new(&lan.host, newest(json!({}))).status()?;
    Network::new(
        &lan.host,
        newest(json!({ "master": "uplink", "linkInContainer": true })),
    )
    .status()?;
    ensure!(
        lan.host.links()?.len() == 2,
        "asking makes nothing: {:?}",
        lan.host.links()?
    );
    Ok(())
}

fn status_reports_what_would_make_add_fail(_: &World) -> Result {
    let lan = Lan::new()?;
    let status = |keys: Value| network::cni_error(Network::new(&lan.host, newest(keys)).status());
    let error = status(json!({ "master": "eth7" }));
    ensure!(
        error.code == 50 && error.msg.contains("eth7") && error.details.contains("eth1"),
        "{error:?}"
    );
    let error = status(json!({ "master": "lo" }));
    ensure!(
        error.code == 50 && error.msg.contains("loopback"),
        "{error:?}"
    );
    let error = status(json!({ "ipam": { "type": "nosuch" } }));
    ensure!(
        error.code == 50 && error.msg.contains("nosuch"),
        "{error:?}"
    );
    lan.host.set_down(Lan::MASTER)?;
    let error = status(json!({ "ipam": { "type": "dhcp" } }));
    ensure!(
        error.code == 51 && error.msg.contains("eth1 is down"),
        "containers suffer too: {error:?}"
    );
    // ADD makes an interface that needs no lease.
    Network::new(&lan.host, newest(json!({}))).status()
}

fn status_asks_ipam(world: &World) -> Result {
    let lan = Lan::new()?;
    let (network, _) = grumbler(world, &lan, "1.1.0")?;
    let error = network::cni_error(network.status());
    ensure!(error.code == 123, "{error:?}");
    Ok(())
}

fn gc_removes_only_attachments_that_are_not_valid(_: &World) -> Result {
    let lan = Lan::new()?;
    let network = Network::new(&lan.host, newest(json!({})));
    let mut wan = newest(json!({}));
    wan["name"] = json!("wan");
    let wan = Network::new(&lan.host, wan);
    let (kept, stale) = (lan.container("kept")?, lan.container("stale")?);
    let attachment = network::Attachment::new;
    let second = network::Attachment {
        ifname: "net1".into(),
        ..attachment(&kept)
    };
    network.add(&attachment(&kept))?;
    network.add(&second)?;
    network.add(&attachment(&stale))?;
    wan.add(&network::Attachment {
        ifname: "wan0".into(),
        ..attachment(&stale)
    })?;
    // Nobody's: made by hand, or by the Go plugin.
    let host = lan.host.netlink()?;
    let new = NewMacvlan::new("hand0", lan.host.link(Lan::MASTER)?.index);
    host.add_macvlan(&new, stale.netns(), &stale.netlink()?)?;

    network.gc(&[&attachment(&kept)])?;
    let names = |node: &Node| -> Result<Vec<String>> {
        Ok(node
            .links()?
            .into_iter()
            .map(|link| link.name)
            .filter(|name| name != "lo")
            .collect())
    };
    ensure!(names(&kept)? == ["eth0"], "{:?}", names(&kept)?);
    ensure!(names(&stale)? == ["wan0", "hand0"], "{:?}", names(&stale)?);
    network.del(&second)?;
    Ok(())
}

fn gc_without_a_list_removes_nothing(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, newest(json!({})));
    network.add(&network::Attachment::new(&container))?;
    let config =
        json!({ "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": Lan::MASTER });
    Call::new("macvlan", "GC")
        .config(&config)
        .run(&lan.host)?
        .success()?;
    container.link("eth0")?;
    network.gc(&[])?;
    ensure_nothing_left(&container)
}

fn gc_is_forwarded_to_ipam_whatever_else_fails(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let (network, calls) = grumbler(world, &lan, "1.1.0")?;
    network.add(&network::Attachment::new(&container))?;
    let error = network::cni_error(network.gc(&[]));
    ensure!(error.code == 123, "{error:?}");
    ensure_nothing_left(&container).context("the interface goes though IPAM failed")?;
    ensure!(fs::read_to_string(calls)? == "ADD\nGC\nVERSION\n");
    Ok(())
}

fn gc_does_not_fail_for_an_ipam_plugin_without_gc(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let addresses = json!([{ "address": "10.99.0.50/24" }]);
    let mut conflist = conflist(json!({ "ipam": { "type": "static", "addresses": addresses } }));
    // Debian 12's plugins know no later version.
    Network::new(&lan.host, conflist.clone()).add(&network::Attachment::new(&container))?;
    conflist["cniVersion"] = json!("1.1.0");
    Network::new(&lan.host, conflist).gc(&[])?;
    ensure_nothing_left(&container)
}

fn gc_reports_a_namespace_that_it_cannot_search(_: &World) -> Result {
    let lan = Lan::new()?;
    let (first, container) = (lan.container("a")?, lan.container("c1")?);
    let network = Network::new(&lan.host, newest(json!({})));
    network.add(&network::Attachment::new(&first))?;
    network.add(&network::Attachment::new(&container))?;
    let odd = first.path().with_file_name("b");
    symlink("b", &odd)?; // a loop
    let error = network::cni_error(network.gc(&[]));
    ensure!(
        error.code == 111 && error.msg.contains(&odd.display().to_string()),
        "{error:?}"
    );
    fs::remove_file(&odd)?;
    ensure_nothing_left(&first)?;
    ensure_nothing_left(&container)
}

fn of_many_adds_at_once_exactly_one_succeeds(_: &World) -> Result {
    let lan = Lan::new()?;
    let network = Network::new(&lan.host, conflist(json!({})));
    for number in 0..4 {
        let container = lan.container("c1")?;
        let attachment = network::Attachment::new(&container);
        let add = network.prepare("ADD", 0, &attachment, None)?;
        let adds = (0..25).map(|_| add.clone().start(&lan.host));
        let adds = adds.collect::<Result<Vec<_>>>()?;
        let outcomes = adds.into_iter().map(|add| add.finish()?.success());
        let successes: Vec<Value> = outcomes.filter_map(Result::ok).collect();
        ensure!(successes.len() == 1, "round {number}: {successes:?}");
        let mac = container.link("eth0")?.mac.map(|mac| mac.to_string());
        ensure!(
            successes[0]["interfaces"][0]["mac"].as_str() == mac.as_deref(),
            "round {number}: {successes:?}, but the interface has {mac:?}"
        );
        network.del(&attachment)?;
        container.remove()?;
    }
    Ok(())
}
