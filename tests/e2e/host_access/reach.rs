//! Who reaches whom, and what the LAN sees of it.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Lan, Network, Result, Test, World, network, test, until};
use linknet::{ArpSocket, Mac, NewMacvlan, sysctl};

use super::{
    HOST, HOST6, SHIM, check_strictly, container, ensure_host_is_clean, ensure_they_talk, lan,
    listing, network_of, reached, shim, with_access,
};
use crate::macvlan::plug;
use crate::scenario::{SOON, conflist};

pub(super) const TESTS: &[Test] = &[
    test!(host_and_container_reach_each_other).needs(&[packages::GO_PLUGINS]),
    test!(without_host_access_they_do_not_reach_each_other).needs(&[packages::GO_PLUGINS]),
    test!(the_host_may_have_its_address_in_another_subnet).needs(&[packages::GO_PLUGINS]),
    test!(with_source_routing_the_containers_table_has_the_route_too)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(the_host_may_have_its_address_on_another_link).needs(&[packages::GO_PLUGINS]),
    test!(a_host_without_an_address_is_led_to_listed_prefixes).needs(&[packages::GO_PLUGINS]),
    test!(arp_ignore_on_the_host_is_warned_of).needs(&[packages::GO_PLUGINS]),
    test!(arp_is_answered_once_and_by_the_parent)
        .needs(&[packages::GO_PLUGINS, packages::IPROUTE2]),
    test!(a_broadcast_is_received_once).needs(&[packages::GO_PLUGINS]),
    test!(containers_without_host_access_are_not_affected).needs(&[packages::GO_PLUGINS]),
    test!(for_a_macvlan_parent_the_hosts_macvlan_is_on_the_device_below)
        .needs(&[packages::GO_PLUGINS]),
    test!(host_access_is_refused_where_it_cannot_work).needs(&[packages::GO_PLUGINS]),
];

fn host_and_container_reach_each_other(_: &World) -> Result {
    let lan = lan()?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24", "fd99::61/64"]));
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure_they_talk(
        (&lan.host, HOST.into()),
        (&container, "10.99.0.61".parse()?),
    )?;
    ensure_they_talk((&lan.host, HOST6.into()), (&container, "fd99::61".parse()?))?;
    // The LAN goes on as it did.
    for (from, to) in [
        (&container, Lan::ADDRESS.into()),
        (&lan.host, Lan::ADDRESS.into()),
        (&lan.lan, HOST.into()),
    ] {
        from.ping(to, SOON)?;
    }
    for to in [
        IpAddr::from(HOST6),
        "10.99.0.61".parse()?,
        "fd99::61".parse()?,
    ] {
        lan.lan.ping(to, SOON)?;
    }
    let text = result.to_string();
    ensure!(
        !text.contains("lh-"),
        "the shim is no part of the attachment: {text}"
    );
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_host_is_clean(&lan.host)
}

fn without_host_access_they_do_not_reach_each_other(_: &World) -> Result {
    let lan = lan()?;
    let container = container(&lan, "c1")?;
    let ipam = json!({ "type": "static", "addresses": [{ "address": "10.99.0.61/24" }] });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    network.add(&network::Attachment::new(&container))?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(!container.is_answered(HOST.into(), Duration::from_millis(400))?);
    ensure!(
        !fs::exists("/run/cni/leasehold.lock")?,
        "nor does anybody pay for it"
    );
    network.del(&network::Attachment::new(&container))?;
    ensure!(!fs::exists("/run/cni/leasehold.lock")?);
    Ok(())
}

fn the_host_may_have_its_address_in_another_subnet(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    check_strictly(&lan.host)?;
    lan.host.add_address(Lan::MASTER, "10.50.0.2/24".parse()?)?;
    lan.host.add_address(Lan::MASTER, "fd50::2/64".parse()?)?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, listing(&["10.99.0.61/24", "fd99::61/64"]));
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    ensure_they_talk(
        (&lan.host, "10.50.0.2".parse()?),
        (&container, "10.99.0.61".parse()?),
    )?;
    ensure_they_talk(
        (&lan.host, "fd50::2".parse()?),
        (&container, "fd99::61".parse()?),
    )?;
    network.del(&attachment)?;
    ensure_host_is_clean(&lan.host)
}

/// With `sourceRouting` the main table is not consulted.
fn with_source_routing_the_containers_table_has_the_route_too(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    lan.host.add_address(Lan::MASTER, "10.50.0.2/24".parse()?)?;
    lan.host
        .add_address(Lan::MASTER, format!("{HOST6}/64").parse()?)?;
    let container = container(&lan, "c1")?;
    let mut conflist = listing(&["10.99.0.61/24", "fd99::61/64"]);
    conflist["plugins"][0]["sourceRouting"] = json!(true);
    let network = Network::new(&lan.host, conflist);
    network.add(&network::Attachment::new(&container))?;
    for (host, own) in [("10.50.0.2", "10.99.0.61"), ("fd99::2", "fd99::61")] {
        lan.host.ping(own.parse()?, SOON)?;
        let table = container.output(&["ip", "route", "get", host, "from", own])?;
        ensure!(table.contains("table 10"), "{table}");
    }
    Ok(())
}

fn the_host_may_have_its_address_on_another_link(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    plug(&lan, &lan.host, "eth0")?;
    lan.host.add_address("eth0", "192.0.2.2/24".parse()?)?;
    lan.host.add_address("eth0", "2001:db8::2/64".parse()?)?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, listing(&["10.99.0.61/24", "fd99::61/64"]));
    let attachment = network::Attachment::new(&container);
    // Only where the host has a way out of its own does the kernel know what it would speak from.
    let netlink = lan.host.netlink()?;
    let eth0 = lan.host.link("eth0")?.index;
    for (default, gateway) in [("0.0.0.0/0", "192.0.2.1"), ("::/0", "2001:db8::1")] {
        let route = linknet::Route::new(default.parse::<ipnet::IpNet>()?, eth0);
        netlink.add_route(&route.via(gateway.parse::<IpAddr>()?))?;
    }
    network.add(&attachment)?;
    ensure_they_talk(
        (&lan.host, "192.0.2.2".parse()?),
        (&container, "10.99.0.61".parse()?),
    )?;
    ensure_they_talk(
        (&lan.host, "2001:db8::2".parse()?),
        (&container, "fd99::61".parse()?),
    )
}

fn a_host_without_an_address_is_led_to_listed_prefixes(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, listing(&["10.99.0.61/24"]));
    let attachment = network::Attachment::new(&container);
    let outcome = network
        .prepare("ADD", 0, &attachment, None)?
        .run(&lan.host)?;
    ensure!(
        outcome
            .stderr
            .contains("the host has no IPv4 address to speak from, so it and the container do not reach each other at 10.99.0.61"),
        "{outcome:?}"
    );
    outcome.success()?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(reached(&lan)? == ["10.99.0.61".parse::<IpAddr>()?]);
    network.del(&attachment)?;
    ensure_host_is_clean(&lan.host)
}

/// kube-proxy makes hosts so, in mode IPVS.
fn arp_ignore_on_the_host_is_warned_of(_: &World) -> Result {
    let lan = lan()?;
    lan.host
        .run(|| sysctl::set(&["ipv4", "conf", "all", "arp_ignore"], "1"))??;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24"]));
    let attachment = network::Attachment::new(&container);
    let outcome = network
        .prepare("ADD", 0, &attachment, None)?
        .run(&lan.host)?;
    ensure!(outcome.stderr.contains("arp_ignore"), "{outcome:?}");
    outcome.success()?;
    ensure!(
        !container.is_answered(HOST.into(), Duration::from_millis(400))?,
        "the warning is true"
    );
    lan.host.ping("10.99.0.61".parse()?, SOON)?;
    // Of what a new link is made with, leasehold takes care.
    network.del(&attachment)?;
    lan.host
        .run(|| sysctl::set(&["ipv4", "conf", "all", "arp_ignore"], "0"))??;
    lan.host
        .run(|| sysctl::set(&["ipv4", "conf", "default", "arp_ignore"], "1"))??;
    let outcome = network
        .prepare("ADD", 0, &attachment, None)?
        .run(&lan.host)?;
    ensure!(!outcome.stderr.contains("arp_ignore"), "{outcome:?}");
    outcome.success()?;
    container.ping(HOST.into(), SOON)?;
    Ok(())
}

fn arp_is_answered_once_and_by_the_parent(_: &World) -> Result {
    let lan = lan()?;
    let container = container(&lan, "c1")?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24", "fd99::61/64"]));
    network.add(&network::Attachment::new(&container))?;
    lan.lan.output(&["ip", "neigh", "flush", "all"])?;
    let index = lan.lan.link(Lan::SERVER_LINK)?.index;
    let heard = lan.lan.run(|| ArpSocket::open(index))??;
    lan.lan.ping(HOST.into(), SOON)?;
    // What the shim might say to a broadcast it says before the container answers the next one.
    lan.lan.ping("10.99.0.61".parse()?, SOON)?;
    let mut answers: Vec<Mac> = Vec::new();
    while let Some(mac) = heard.contender(HOST)? {
        answers.push(mac);
    }
    let parent = lan.host.link(Lan::MASTER)?.mac.context("a MAC")?;
    ensure!(
        answers == [parent],
        "{answers:?}, and the parent is {parent}"
    );

    lan.lan.ping(HOST6.into(), SOON)?;
    let known = lan
        .lan
        .output(&["ip", "-6", "neigh", "show", &HOST6.to_string()])?;
    ensure!(known.contains(&parent.to_string()), "{known}");
    // It does not receive solicitations for that address, whose group it is not in (RFC 4861
    // §7.2.1).
    let groups = lan.host.run(|| fs::read_to_string("/proc/net/igmp6"))??;
    let of_shim = groups.lines().filter(|line| line.contains(SHIM));
    ensure!(
        !of_shim
            .clone()
            .any(|line| line.contains("ff0200000000000000000001ff000002")),
        "{groups}"
    );
    ensure!(of_shim.count() > 0, "{groups}");
    Ok(())
}

/// Though it arrives on parent and shim.
fn a_broadcast_is_received_once(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host
        .add_address(Lan::MASTER, format!("{HOST}/24").parse()?)?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.61/24"]));
    network.add(&network::Attachment::new(&container))?;
    let heard = lan.host.run(|| UdpSocket::bind(("0.0.0.0", 9999)))??;
    heard.set_nonblocking(true)?;
    let said = lan.lan.run(|| UdpSocket::bind((Lan::ADDRESS, 0)))??;
    said.set_broadcast(true)?;
    said.send_to(b"LAN", ("10.99.0.255", 9999))?;
    // Whatever is broadcast arrives on the shim in order: after this, that has.
    lan.lan.ping("10.99.0.61".parse()?, SOON)?;
    // A container that the host reaches is heard, and through the shim alone.
    let of_container = container.run(|| UdpSocket::bind(("10.99.0.61", 0)))??;
    of_container.set_broadcast(true)?;
    of_container.send_to(b"container", ("10.99.0.255", 9999))?;
    let mut all = Vec::new();
    until("the container is heard", SOON, || {
        let mut buffer = [0; 16];
        while let Ok((length, _)) = heard.recv_from(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all.iter().any(|text| text == "container")
    })?;
    ensure!(all == ["LAN", "container"], "{all:?}");
    Ok(())
}

/// Other containers on the same parent, with the shim and without it.
fn containers_without_host_access_are_not_affected(_: &World) -> Result {
    let lan = lan()?;
    let (plain, joined) = (container(&lan, "c1")?, container(&lan, "c2")?);
    let ipam = json!({ "type": "static", "addresses": [{ "address": "10.99.0.61/24" }] });
    Network::new(&lan.host, conflist(json!({ "ipam": ipam })))
        .add(&network::Attachment::new(&plain))?;
    let network = Network::new(&lan.host, network_of(&["10.99.0.62/24"]));
    network.add(&network::Attachment::new(&joined))?;
    let moment = Duration::from_millis(400);
    ensure!(
        !plain.is_answered(HOST.into(), moment)?,
        "nobody asked for that"
    );
    for (from, to) in [
        (&plain, "10.99.0.62"),
        (&joined, "10.99.0.61"),
        (&plain, "10.99.0.1"),
        (&lan.lan, "10.99.0.61"),
    ] {
        from.ping(to.parse()?, SOON)?;
    }
    network.del(&network::Attachment::new(&joined))?;
    plain.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn for_a_macvlan_parent_the_hosts_macvlan_is_on_the_device_below(_: &World) -> Result {
    let lan = lan()?;
    let host = lan.host.netlink()?;
    let parent = lan.host.link(Lan::MASTER)?;
    let own = NewMacvlan {
        up: true,
        ..NewMacvlan::new("own", parent.index)
    };
    host.add_macvlan(&own, lan.host.netns(), &host)?;
    let container = container(&lan, "c1")?;
    let mut conflist = network_of(&["10.99.0.61/24"]);
    conflist["plugins"][0]["master"] = json!("own");
    let network = Network::new(&lan.host, conflist);
    network.add(&network::Attachment::new(&container))?;
    ensure!(shim(&lan)?.is_some_and(|shim| shim.parent == Some(parent.index)));
    ensure_they_talk(
        (&lan.host, HOST.into()),
        (&container, "10.99.0.61".parse()?),
    )
}

fn host_access_is_refused_where_it_cannot_work(_: &World) -> Result {
    let lan = lan()?;
    let ipam = json!({ "type": "static", "addresses": [{ "address": "10.99.0.61/24" }] });
    let refused = |keys, word: &str| -> Result {
        let container = lan.container(word)?;
        let network = Network::new(&lan.host, with_access(keys));
        let error = network::cni_error(network.add(&network::Attachment::new(&container)));
        ensure!(
            error.code == 7 && error.msg.contains("hostAccess") && error.msg.contains(word),
            "{error}"
        );
        Ok(())
    };
    for mode in ["private", "vepa", "passthru", "source"] {
        refused(json!({ "mode": mode, "ipam": ipam }), mode)?;
    }
    refused(
        json!({ "linkInContainer": true, "ipam": ipam }),
        "linkInContainer",
    )?;
    refused(json!({}), "ipam")?;
    ensure_host_is_clean(&lan.host)
}
