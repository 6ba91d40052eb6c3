//! What the driver refuses, in whose words, and what it leaves behind: nothing.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Reaction;
use lab::dhcproto::v4::MessageType;
use lab::netavark::{Container, network, refusal};
use lab::serde_json::{Value, json};
use lab::suite::netavark::NETAVARK;
use lab::{Lan, Netavark, Result, Test, World, test, until};

use super::Podman;
use crate::chaos::held_on_disk;
use crate::host_access::ensure_host_is_clean;
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(a_wrong_option_is_refused_when_the_network_is_created).needs(&[NETAVARK]),
    test!(a_network_may_be_created_before_what_it_needs).needs(&[NETAVARK]),
    test!(what_keeps_a_container_from_being_attached_is_explained).needs(&[NETAVARK]),
    test!(a_silent_server_is_waited_for_ten_seconds).needs(&[NETAVARK]),
    test!(a_setup_that_fails_on_the_second_network_leaves_nothing).needs(&[NETAVARK]),
    test!(an_interface_that_is_there_already_stays).needs(&[NETAVARK]),
    test!(a_container_whose_namespace_is_gone_is_detached).needs(&[NETAVARK]),
    test!(a_setup_that_nobody_reads_is_undone).needs(&[NETAVARK]),
];

fn a_wrong_option_is_refused_when_the_network_is_created(world: &World) -> Result {
    let podman = Podman::new(world)?;
    for (options, words) in [
        (
            json!({ "vlan": "5000" }),
            "vlan: 5000 is not a VLAN identifier (1 to 4094)",
        ),
        (json!({ "mode": "vepa2" }), "mode: "),
        (
            json!({ "sourceMacs": "[\"02:11:22:33:44:55\"]" }),
            "sourceMacs needs mode source",
        ),
        (
            json!({ "masterr": "eth1" }),
            "there is no key \"masterr\"; did you mean \"master\"?",
        ),
        (json!({ "isolate": "true" }), "there is no key \"isolate\""),
        // These are the dhcp plugin's.
        (
            json!({ "timeout": "1h" }),
            "ipam.timeout: must be more than 0 and at most 110 s",
        ),
        (
            json!({ "hostname": "not_a_name" }),
            "ipam.hostname: \"not_a_name\" is not a valid name",
        ),
        (
            json!({ "suppress": "dns" }),
            "ipam.suppress: expected a list",
        ),
        (
            json!({ "servers": "{\"alow\":[]}" }),
            "did you mean \"allow\"?",
        ),
    ] {
        let asked = network("lan", json!({ "options": options }));
        let text = refusal(podman.netavark.create(&podman.lan.host, &asked))?;
        ensure!(text.contains(words), "{options}: {text}");
    }
    Ok(())
}

/// A device may be plugged in later, and a daemon be started.
fn a_network_may_be_created_before_what_it_needs(world: &World) -> Result {
    let lan = Lan::new()?;
    let netavark = Netavark::new(world)?;
    for (parent, words) in [
        ("eth9", "master \"eth9\" does not exist"),
        (Lan::MASTER, "no dhcp daemon at /run/cni/dhcp.sock"),
    ] {
        let asked = network("lan", json!({ "options": { "parent": parent } }));
        let (created, told) = netavark.create(&lan.host, &asked)?;
        ensure!(created["options"]["parent"] == parent, "{created}");
        ensure!(told.contains("does not work yet"), "{told}");
        ensure!(told.contains(words), "{told}");
    }
    Ok(())
}

fn what_keeps_a_container_from_being_attached_is_explained(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let node = podman.lan.container("web")?;
    let with = |fields: Value, own: Value| {
        let mut network = network("lan", fields);
        if network["options"].is_null() {
            network["options"] = json!({ "parent": Lan::MASTER });
        }
        Container::new(&node, &network, own)
    };
    let parent = |name: &str| json!({ "options": { "parent": name } });
    let pool = json!({ "ipam_options": {}, "subnets": [{ "subnet": "10.99.0.0/24" }] });
    let none = json!({ "ipam_options": { "driver": "none" } });
    let own = |key: &str, value: &str| json!({ "options": { key: value } });
    for (container, words) in [
        (
            with(parent("eth9"), json!({})),
            "master \"eth9\" does not exist: devices that exist: eth1",
        ),
        (
            with(json!({}), own("gaurd", "true")),
            "there is no key \"gaurd\"; did you mean \"guard\"?",
        ),
        (with(json!({}), own("vlan", "x")), "vlan: expected"),
        (with(json!({}), own("clientId", "[]")), "ipam.clientId: "),
        (
            with(json!({}), json!({ "static_mac": "01:00:5e:00:00:01" })),
            "is a multicast address",
        ),
        (with(pool.clone(), json!({})), "has allocated no address"),
        (
            with(pool, json!({ "static_ips": ["10.98.0.7"] })),
            "10.98.0.7 is in no subnet of 10.99.0.0/24",
        ),
        (
            with(none, json!({ "static_ips": ["10.99.0.7"] })),
            "10.99.0.7 was requested, but with the IPAM driver none",
        ),
        (
            with(json!({}), own("daemonSocketPath", "/run/no-daemon.sock")),
            "/run/no-daemon.sock",
        ),
    ] {
        let text = refusal(podman.netavark.setup(&podman.lan.host, &container))?;
        ensure!(text.contains("plugin \"leasehold\" failed"), "{text}");
        ensure!(text.contains(words), "{words}: {text}");
        ensure!(!text.contains('\n'), "{text}");
        ensure_nothing_left(&node)?;
    }
    ensure_host_is_clean(&podman.lan.host)?;
    ensure!(held_on_disk()?.is_empty());
    Ok(())
}

fn a_silent_server_is_waited_for_ten_seconds(world: &World) -> Result {
    let podman = Podman::new(world)?;
    podman
        .server
        .when(MessageType::Discover)
        .then(Reaction::silence());
    let node = podman.lan.container("web")?;
    let began = std::time::Instant::now();
    let container = Container::new(&node, &podman.network(json!({}))?, json!({}));
    let text = refusal(podman.netavark.setup(&podman.lan.host, &container))?;
    ensure!(text.contains("within 10s"), "{text}");
    ensure!(began.elapsed() >= Duration::from_secs(9), "{text}");
    ensure_nothing_left(&node)?;
    // Another deadline, for one container.
    let own = json!({ "options": { "timeout": "1s" } });
    let container = Container::new(&node, &podman.network(json!({}))?, own);
    let text = refusal(podman.netavark.setup(&podman.lan.host, &container))?;
    ensure!(text.contains("within 1s"), "{text}");
    ensure_nothing_left(&node)
}

/// netavark tears down those that it has set up, in an order of its own.
fn a_setup_that_fails_on_the_second_network_leaves_nothing(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let node = podman.lan.container("web")?;
    let mut container = Container::new(&node, &podman.network(json!({}))?, json!({}));
    let broken = network("broken", json!({ "options": { "parent": "eth9" } }));
    let second = json!({ "interface_name": "eth1" });
    container.networks.push((broken, second));
    for _ in 0..8 {
        let text = refusal(podman.netavark.setup(&podman.lan.host, &container))?;
        ensure!(text.contains("eth9"), "{text}");
        ensure_nothing_left(&node)?;
        until("the lease is released", SOON, || {
            podman.server.leases().is_empty()
        })?;
    }
    Ok(())
}

fn an_interface_that_is_there_already_stays(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let node = podman.lan.container("web")?;
    node.add_veth("eth0", (&podman.lan.host, "other"))?;
    let container = Container::new(&node, &podman.network(json!({}))?, json!({}));
    let text = refusal(podman.netavark.setup(&podman.lan.host, &container))?;
    ensure!(text.contains("eth0"), "{text}");
    let kind = node.link("eth0")?.kind;
    ensure!(kind.as_deref() == Some("veth"), "{kind:?}");
    podman.teardown(&container)?;
    ensure!(node.find_link("eth0")?.is_some(), "it was not the driver's");
    Ok(())
}

/// netavark 2 calls the driver; before, it fails by itself, and the daemon notices.
fn a_container_whose_namespace_is_gone_is_detached(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    podman.setup(&container)?;
    node.remove()?;
    let host = &podman.lan.host;
    podman
        .netavark
        .run_driver(host, "teardown", &container)
        .with_context(|| podman.daemon.log())?;
    until("the daemon has no lease", SOON, || {
        held_on_disk().is_ok_and(|held| held.is_empty())
    })?;
    podman
        .netavark
        .run_driver(host, "teardown", &container)
        .map(drop)
}

fn a_setup_that_nobody_reads_is_undone(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let node = podman.lan.container("web")?;
    let container = Container::new(&node, &network, json!({}));
    let host = &podman.lan.host;
    let has_succeeded = podman
        .netavark
        .run_driver_unread(host, "setup", &container)?;
    ensure!(!has_succeeded, "nobody knows of it");
    ensure_nothing_left(&node)?;
    until("the lease is released", SOON, || {
        podman.server.leases().is_empty()
    })
}
