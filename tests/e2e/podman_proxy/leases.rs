//! A lease from Setup to Teardown, and what it outlives.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::{DhcpServer, Lan, Result, Test, World, test, until};

use super::messages::Lease;
use super::{Podman, config, id_of, start};
use crate::scenario::{SOON, address, default_gateways};

pub(super) const TESTS: &[Test] = &[
    test!(setup_configures_the_interface_and_teardown_releases_the_address),
    test!(a_lease_outlives_a_killed_daemon_and_is_renewed_and_released_by_the_next),
    test!(a_lease_that_expires_while_no_daemon_runs_is_acquired_again),
    test!(a_changed_lease_reaches_the_container),
    test!(a_container_that_vanishes_without_teardown_loses_its_lease),
    test!(a_container_of_another_proxy_keeps_its_address_when_it_is_set_up_again),
    test!(a_restarted_container_keeps_its_address),
    test!(setup_that_is_repeated_returns_the_lease_and_restores_the_interface),
    test!(teardown_of_what_has_no_lease_succeeds),
    test!(a_default_route_that_was_removed_is_restored_by_the_next_daemon),
    test!(sixty_four_containers_at_once_get_an_address_each).within(Duration::from_secs(60)),
];

/// The server's settings for a renewal after a second.
fn early_renewals() -> Settings {
    Settings {
        lease_time: Some(Duration::from_secs(60)),
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

fn setup_configures_the_interface_and_teardown_releases_the_address(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let settings = Settings {
        options: vec![
            DhcpOption::Router(vec![Lan::ADDRESS]),
            DhcpOption::DomainNameServer(vec![[10, 99, 0, 2].into(), [10, 99, 0, 3].into()]),
            DhcpOption::DomainName("lan.example".into()),
        ],
        ..Settings::default()
    };
    let server = DhcpServer::start(&podman.lan.lan, settings)?;
    let container = podman.container("c1")?;
    let config = config(&container, "eth0")?;
    let lease = podman.proxy.lease(&config)?;
    let leased = address(&container)?;
    ensure!(lease.yiaddr == leased.to_string(), "{lease:?}");
    let server_address = Lan::ADDRESS.to_string();
    let expected = Lease {
        t1: lease.t1,
        t2: lease.t2,
        lease_time: lease.lease_time,
        yiaddr: leased.to_string(),
        siaddr: server_address.clone(),
        srv_id: server_address.clone(),
        subnet_mask: "255.255.255.0".into(),
        gateways: vec![server_address],
        dns_servers: vec!["10.99.0.2".into(), "10.99.0.3".into()],
        domain_name: "lan.example".into(),
        mac_address: config.container_mac_addr.clone(),
        ..Lease::default()
    };
    ensure!(lease == expected, "{lease:#?}\n{expected:#?}");
    ensure!(0 < lease.t1 && lease.t1 < lease.t2 && lease.t2 < lease.lease_time);

    let routes = container.routes()?;
    let default = routes.iter().find(|route| route.dst.prefix_len() == 0);
    ensure!(
        default.is_some_and(|route| route.metric == 100),
        "netavark's metric: {routes:?}"
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    let discover = server.wait_for(MessageType::Discover, 1, SOON)?;
    let hostname = discover.option(OptionCode::Hostname);
    ensure!(
        hostname == Some(&DhcpOption::Hostname("c1".into())),
        "{hostname:?}"
    );
    let id = [&[0], id_of(&container).as_bytes()].concat();
    ensure!(
        discover.option(OptionCode::ClientIdentifier) == Some(&DhcpOption::ClientIdentifier(id)),
        "netavark's identifier"
    );

    let ended = podman.proxy.teardown(&config)?;
    ensure!(ended.yiaddr == leased.to_string(), "{ended:?}");
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(*release.source.ip() == leased, "{release:?}");
    ensure!(server.leases().is_empty());
    ensure!(container.ipv4("eth0")?.is_empty());
    podman.proxy.clean()
}

fn a_lease_outlives_a_killed_daemon_and_is_renewed_and_released_by_the_next(
    world: &World,
) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, early_renewals())?;
    let container = podman.container("c1")?;
    let config = config(&container, "eth0")?;
    podman.proxy.lease(&config)?;
    let leased = address(&container)?;
    let podman = podman.killed_and_started(world)?;
    let requests = server.received_of(MessageType::Request).len();
    let renewal = server.wait_for(MessageType::Request, requests + 1, SOON)?;
    ensure!(*renewal.source.ip() == leased, "{renewal:?}");
    let ended = podman.proxy.teardown(&config)?;
    ensure!(ended.yiaddr == leased.to_string(), "{ended:?}");
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
}

fn a_lease_that_expires_while_no_daemon_runs_is_acquired_again(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let settings = Settings {
        lease_time: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&podman.lan.lan, settings)?;
    let container = podman.container("c1")?;
    podman.proxy.lease(&config(&container, "eth0")?)?;
    let Podman {
        lan,
        daemon,
        socket,
        ..
    } = podman;
    daemon.kill()?;
    until("the lease has run out", SOON, || server.leases().is_empty())?;
    until("the kernel has removed the address", SOON, || {
        container.ipv4("eth0").is_ok_and(|all| all.is_empty())
    })?;
    server.reconfigure(|settings| settings.lease_time = Settings::default().lease_time);
    let _daemon = start(world, &lan, &socket)?;
    until("there is an address again", SOON, || {
        address(&container).is_ok()
    })?;
    until("so is the default route", SOON, || {
        default_gateways(&container).is_ok_and(|all| all == [Lan::ADDRESS])
    })?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn a_changed_lease_reaches_the_container(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, early_renewals())?;
    let container = podman.container("c1")?;
    podman.proxy.lease(&config(&container, "eth0")?)?;
    let router: Ipv4Addr = [10, 99, 0, 254].into();
    server.reconfigure(|settings| settings.options = vec![DhcpOption::Router(vec![router])]);
    until("the default route is another", SOON, || {
        default_gateways(&container).is_ok_and(|all| all == [router])
    })
}

fn a_container_that_vanishes_without_teardown_loses_its_lease(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, early_renewals())?;
    let container = podman.container("c1")?;
    let config = config(&container, "eth0")?;
    podman.proxy.lease(&config)?;
    container.remove()?;
    until("the lease is dropped", SOON, || {
        podman.daemon.log().contains("lease dropped")
    })?;
    podman.proxy.clean()?;
    let ended = podman.proxy.teardown(&config)?;
    ensure!(ended == Lease::default(), "{ended:?}");
    ensure!(server.received_of(MessageType::Release).is_empty());
    Ok(())
}

/// `podman network reload --all` calls Teardown and Setup, with the old MAC.
fn a_container_of_another_proxy_keeps_its_address_when_it_is_set_up_again(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let containers = [podman.container("c1")?, podman.container("c2")?];
    let mut before = Vec::new();
    for container in &containers {
        podman.proxy.lease(&config(container, "eth0")?)?;
        before.push((address(container)?, container.link("eth0")?.mac));
    }
    // Another daemon, which knows of nothing.
    let Podman {
        lan,
        daemon,
        socket,
        proxy,
    } = podman;
    daemon.kill()?;
    fs::remove_dir_all("/var/lib/cni")?;
    let _daemon = start(world, &lan, &socket)?;
    for (container, (leased, mac)) in containers.iter().zip(before).rev() {
        let ended = proxy.teardown(&config(container, "eth0")?)?;
        ensure!(ended == Lease::default(), "{ended:?}");
        let netlink = container.netlink()?;
        netlink.delete_link(container.link("eth0")?.index)?;
        lan.host.add_macvlan(Lan::MASTER, (container, "eth0"))?;
        let mac = mac.context("an Ethernet interface")?;
        netlink.set_mac(container.link("eth0")?.index, mac)?;
        let lease = proxy.lease(&config(container, "eth0")?)?;
        ensure!(
            lease.yiaddr == leased.to_string(),
            "{leased} became {lease:?}"
        );
    }
    ensure!(server.leases().len() == 2, "{:?}", server.leases());
    Ok(())
}

fn a_restarted_container_keeps_its_address(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let other = podman.container("c1")?;
    let container = podman.container("c2")?;
    podman.proxy.lease(&config(&other, "eth0")?)?;
    podman.proxy.lease(&config(&container, "eth0")?)?;
    let leased = address(&container)?;
    podman.proxy.teardown(&config(&other, "eth0")?)?;
    podman.proxy.teardown(&config(&container, "eth0")?)?;
    until("both are given back", SOON, || server.leases().is_empty())?;
    // Each start has a namespace and a MAC of its own; the container's ID stays.
    let id = id_of(&container);
    let again = podman.container("c2-again")?;
    let mut config = config(&again, "eth0")?;
    config.container_id = id;
    let lease = podman.proxy.lease(&config)?;
    ensure!(
        lease.yiaddr == leased.to_string(),
        "{leased} became {lease:?}"
    );
    Ok(())
}

fn setup_that_is_repeated_returns_the_lease_and_restores_the_interface(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let container = podman.container("c1")?;
    let config = config(&container, "eth0")?;
    let first = podman.proxy.lease(&config)?;
    container.set_down("eth0")?;
    ensure!(default_gateways(&container)?.is_empty());
    let again = podman.proxy.lease(&config)?;
    ensure!(first.yiaddr == again.yiaddr, "{first:?} {again:?}");
    ensure!(default_gateways(&container)? == [Lan::ADDRESS]);
    ensure!(server.received_of(MessageType::Discover).len() == 1);
    Ok(())
}

fn teardown_of_what_has_no_lease_succeeds(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let container = podman.container("c1")?;
    let config = config(&container, "eth0")?;
    let ended = podman.proxy.teardown(&config)?;
    ensure!(ended == Lease::default(), "{ended:?}");
    container.remove()?;
    let ended = podman.proxy.teardown(&config)?;
    ensure!(ended == Lease::default(), "{ended:?}");
    Ok(())
}

fn a_default_route_that_was_removed_is_restored_by_the_next_daemon(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, early_renewals())?;
    let container = podman.container("c1")?;
    podman.proxy.lease(&config(&container, "eth0")?)?;
    server.when(MessageType::Request).then(Reaction::silence());
    let Podman {
        lan,
        daemon,
        socket,
        ..
    } = podman;
    daemon.kill()?;
    let netlink = container.netlink()?;
    for route in container.routes()? {
        if route.dst.prefix_len() == 0 {
            netlink.delete_route(&route)?;
        }
    }
    server.behave();
    let _daemon = start(world, &lan, &socket)?;
    until("the default route is there again", SOON, || {
        default_gateways(&container).is_ok_and(|all| all == [Lan::ADDRESS])
    })
}

fn sixty_four_containers_at_once_get_an_address_each(world: &World) -> Result {
    const NUMBER: usize = 64;
    let podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let containers = (0..NUMBER).map(|number| podman.container(&format!("c{number}")));
    let containers = containers.collect::<Result<Vec<_>>>()?;
    let configs = containers.iter().map(|container| config(container, "eth0"));
    let configs = configs.collect::<Result<Vec<_>>>()?;
    let each = |call: &(dyn Fn(usize) -> Result + Sync)| {
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..NUMBER)
                .map(|it| scope.spawn(move || call(it)))
                .collect();
            calls.into_iter().try_for_each(|call| match call.join() {
                Ok(outcome) => outcome,
                Err(_) => bail!("a caller panicked"),
            })
        })
    };
    each(&|number| {
        let lease = podman.proxy.lease(&configs[number])?;
        let leased = address(&containers[number])?;
        ensure!(lease.yiaddr == leased.to_string(), "{lease:?} {leased}");
        Ok(())
    })?;
    ensure!(server.leases().len() == NUMBER, "{}", server.leases().len());
    each(&|number| podman.proxy.teardown(&configs[number]).map(drop))?;
    until("all are given back", SOON, || server.leases().is_empty())
}
