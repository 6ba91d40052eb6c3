//! How a server's answer is applied to the container: at ADD, and when a renewal changes it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode, UnknownOption};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};
use linknet::ArpSocket;

use crate::scenario::{SOON, Scenario, address, default_gateways};

pub(super) const TESTS: &[Test] = &[
    test!(classless_routes_override_routers_and_static_routes),
    test!(a_go_plugin_installs_a_classless_route_on_the_link).needs(&[packages::GO_PLUGINS]),
    test!(option_249_is_read_as_classless_routes),
    test!(a_gateway_outside_a_32_bit_prefix_is_reached),
    test!(a_renewal_keeps_options_suppressed_and_configured_routes_in_place),
    test!(a_renewal_changes_routes_and_mtu),
    test!(the_servers_mtu_is_used_up_to_the_parents),
    test!(an_address_expires_with_its_lease_even_without_a_daemon),
    test!(a_changed_route_leaves_another_interfaces_route_alone),
    test!(addresses_are_announced_unless_configured_otherwise),
    test!(an_address_is_announced_twice),
    test!(a_route_of_the_servers_that_the_kernel_rejects_is_left_out),
    test!(a_route_of_the_configurations_that_the_kernel_rejects_is_an_error),
];

/// Leases that are renewed after a second.
fn brief() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

/// The routes of `eth0`, as text, without the kernel's own.
fn routes(container: &Node) -> Result<Vec<String>> {
    let mut routes: Vec<String> = container
        .routes()?
        .into_iter()
        .filter(|route| route.protocol != linknet::Protocol::KERNEL && route.dst.addr().is_ipv4())
        .map(|route| match route.gateway {
            Some(gateway) => format!("{} via {gateway}", route.dst),
            None => route.dst.to_string(),
        })
        .collect();
    routes.sort();
    Ok(routes)
}

fn classless() -> DhcpOption {
    let route =
        |dst: &str, gateway: [u8; 4]| (dst.parse().expect("a network"), Ipv4Addr::from(gateway));
    DhcpOption::ClasslessStaticRoute(vec![
        route("192.168.7.0/24", [10, 99, 0, 9]),
        route("172.16.0.0/16", [0, 0, 0, 0]),
        route("0.0.0.0/0", [172, 16, 0, 1]),
    ])
}

fn classless_routes_override_routers_and_static_routes(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let options = vec![
        DhcpOption::Router(vec![Lan::ADDRESS]),
        DhcpOption::StaticRoutingTable(vec![([192, 168, 9, 0].into(), [10, 99, 0, 8].into())]),
        classless(),
    ];
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            options,
            ..Settings::default()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let result = network.add(&attachment)?;
    let expected = [
        "0.0.0.0/0 via 172.16.0.1",
        "172.16.0.0/16",
        "192.168.7.0/24 via 10.99.0.9",
    ];
    ensure!(routes(&container)? == expected, "{:?}", routes(&container)?);
    ensure!(result["ips"][0]["gateway"] == "172.16.0.1", "{result}");
    network.check(&attachment)?;

    // Without 121, both 33 and 3 count.
    server.reconfigure(|settings| drop(settings.options.pop()));
    let other = scenario.lan.container("c2")?;
    network.add(&Attachment::new(&other))?;
    let expected = ["0.0.0.0/0 via 10.99.0.1", "192.168.9.0/24 via 10.99.0.8"];
    ensure!(routes(&other)? == expected, "{:?}", routes(&other)?);
    Ok(())
}

/// Debian's `bridge` passes on to the kernel what the IPAM plugin says.
fn a_go_plugin_installs_a_classless_route_on_the_link(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let host = &scenario.lan.host;
    host.add_bridge("br-lan")?;
    host.add_bridge_port("br-lan", Lan::MASTER)?;
    for link in ["br-lan", Lan::MASTER] {
        host.set_up(link)?;
    }
    let route = |dst: &str, gateway| Result::Ok((dst.parse()?, gateway));
    let classless = vec![
        route("172.16.0.0/16", Ipv4Addr::UNSPECIFIED)?,
        route("0.0.0.0/0", Lan::ADDRESS)?,
    ];
    let settings = Settings {
        options: vec![DhcpOption::ClasslessStaticRoute(classless)],
        ..Settings::default()
    };
    let _server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let mut conflist = scenario.dhcp();
    let ipam = conflist["plugins"][0]["ipam"].take();
    conflist["plugins"] = json!([{ "type": "bridge", "bridge": "br-lan", "ipam": ipam }]);
    let network = Network::new(host, conflist);
    let container = scenario.lan.container("c1")?;
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    let expected = ["0.0.0.0/0 via 10.99.0.1", "172.16.0.0/16"];
    ensure!(routes(&container)? == expected, "{:?}", routes(&container)?);
    // Its CHECK looks for the gateway 0.0.0.0, which the kernel does not keep.
    network.del(&attachment)
}

fn option_249_is_read_as_classless_routes(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let add = |message: &mut lab::dhcproto::v4::Message| {
        let value = vec![24, 192, 168, 7, 10, 99, 0, 9];
        message
            .opts_mut()
            .insert(DhcpOption::Unknown(UnknownOption::new(
                OptionCode::from(249),
                value,
            )));
    };
    server
        .when(MessageType::Request)
        .then(Reaction::answer().edit(add));
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    ensure!(
        routes(&container)? == ["192.168.7.0/24 via 10.99.0.9"],
        "{:?}",
        routes(&container)?
    );
    Ok(())
}

fn a_gateway_outside_a_32_bit_prefix_is_reached(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            prefix_len: 32,
            ..brief()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    let expected = ["0.0.0.0/0 via 10.99.0.1", "10.99.0.1/32"];
    ensure!(routes(&container)? == expected, "{:?}", routes(&container)?);
    server.wait_for(MessageType::Request, 2, SOON)?;
    scenario.wait_for_renewal()?;
    ensure!(routes(&container)? == expected, "{:?}", routes(&container)?);
    Ok(())
}

fn a_renewal_keeps_options_suppressed_and_configured_routes_in_place(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let static_route =
        DhcpOption::StaticRoutingTable(vec![([192, 168, 9, 0].into(), [10, 99, 0, 8].into())]);
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    server.reconfigure(|settings| {
        settings
            .options
            .extend([static_route, DhcpOption::InterfaceMtu(1400)]);
    });
    let container = scenario.lan.container("c1")?;
    let keys = json!({
        "suppress": ["gateway", "dns", "mtu"],
        "routes": [{ "dst": "10.0.0.0/8" }, { "dst": "10.5.0.0/16", "gw": "10.99.0.5", "priority": 7 }],
        "priority": 300,
    });
    let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    let attachment = Attachment::new(&container);
    let result = network.add(&attachment)?;
    let as_it_should_be = || -> Result {
        let expected = [
            "10.0.0.0/8 via 10.99.0.1",
            "10.5.0.0/16 via 10.99.0.5",
            "192.168.9.0/24 via 10.99.0.8",
        ];
        ensure!(routes(&container)? == expected, "{:?}", routes(&container)?);
        let metrics: Vec<(String, u32)> = container
            .routes()?
            .into_iter()
            .filter(|route| route.gateway.is_some())
            .map(|route| (route.dst.to_string(), route.metric))
            .collect();
        ensure!(metrics.contains(&("10.5.0.0/16".into(), 7)), "{metrics:?}");
        ensure!(
            metrics.iter().filter(|(_, metric)| *metric == 300).count() == 2,
            "{metrics:?}"
        );
        ensure!(
            container.link("eth0")?.mtu == 1500,
            "{:?}",
            container.link("eth0")?
        );
        Ok(())
    };
    as_it_should_be()?;
    ensure!(
        result["ips"][0].get("gateway").is_none() && result.get("dns").is_none(),
        "{result}"
    );
    server.wait_for(MessageType::Request, 2, SOON)?;
    scenario.wait_for_renewal()?;
    as_it_should_be()?;
    network.check(&attachment)
}

fn a_renewal_changes_routes_and_mtu(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    server.reconfigure(|settings| {
        settings.options = vec![
            DhcpOption::Router(vec![[10, 99, 0, 2].into()]),
            DhcpOption::StaticRoutingTable(vec![([192, 168, 9, 0].into(), [10, 99, 0, 8].into())]),
            DhcpOption::InterfaceMtu(1300),
        ];
    });
    let expected = ["0.0.0.0/0 via 10.99.0.2", "192.168.9.0/24 via 10.99.0.8"];
    until("the routes are the new ones", SOON, || {
        routes(&container).is_ok_and(|routes| routes == expected)
    })?;
    ensure!(
        container.link("eth0")?.mtu == 1300,
        "{:?}",
        container.link("eth0")?
    );
    ensure!(address(&container)? == leased, "the address stays");
    scenario.wait_for_renewal()?;
    let log = scenario.daemon.log();
    let event = log
        .lines()
        .find(|line| line.contains("lease renewed"))
        .context("an event")?;
    for change in [
        "MTU 1300",
        "route 0.0.0.0/0 via 10.99.0.2 added",
        "route 0.0.0.0/0 via 10.99.0.1 removed",
    ] {
        ensure!(event.contains(change), "{change} in one event: {event}");
    }
    Ok(())
}

fn a_changed_route_leaves_another_interfaces_route_alone(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    // Of the same destination and metric, and made later, so it goes first.
    scenario.lan.host.add_veth("other", (&container, "net1"))?;
    container.set_up("net1")?;
    container.add_address("net1", "10.98.0.2/24".parse::<ipnet::Ipv4Net>()?.into())?;
    let theirs = linknet::Route::new(
        "0.0.0.0/0".parse::<ipnet::Ipv4Net>()?,
        container.link("net1")?.index,
    );
    container
        .netlink()?
        .prepend_route(&theirs.via(IpAddr::from([10, 98, 0, 1])))?;

    server.reconfigure(|settings| {
        settings.options = vec![DhcpOption::Router(vec![[10, 99, 0, 2].into()])];
    });
    until("ours is the new one", SOON, || {
        default_gateways(&container).is_ok_and(|all| all.contains(&[10, 99, 0, 2].into()))
    })?;
    until("and not the old one", SOON, || {
        default_gateways(&container).is_ok_and(|all| !all.contains(&IpAddr::V4(Lan::ADDRESS)))
    })?;
    let all = default_gateways(&container)?;
    ensure!(
        all.contains(&[10, 98, 0, 1].into()),
        "the other interface's is gone: {all:?}"
    );
    Ok(())
}

fn the_servers_mtu_is_used_up_to_the_parents(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let mtu_of = |told: u16, name: &str, configured: Option<u32>| -> Result<(u32, Value)> {
        server.reconfigure(|settings| settings.options = vec![DhcpOption::InterfaceMtu(told)]);
        let container = scenario.lan.container(name)?;
        let mut conflist = scenario.dhcp();
        conflist["cniVersion"] = json!("1.1.0");
        if let Some(mtu) = configured {
            conflist["plugins"][0]["mtu"] = json!(mtu);
        }
        let result =
            Network::new(&scenario.lan.host, conflist).add(&Attachment::new(&container))?;
        Ok((
            container.link("eth0")?.mtu,
            result["interfaces"][0]["mtu"].clone(),
        ))
    };
    ensure!(mtu_of(1400, "c1", None)? == (1400, json!(1400)));
    ensure!(mtu_of(9000, "c2", None)? == (1500, json!(1500)));
    ensure!(mtu_of(1300, "c3", Some(1450))? == (1450, json!(1450)));
    Ok(())
}

fn an_address_expires_with_its_lease_even_without_a_daemon(world: &World) -> Result {
    const LEASE_TIME: Duration = Duration::from_secs(8);
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            lease_time: Some(LEASE_TIME),
            t1: Some(Duration::from_secs(3)),
            ..Settings::default()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    let conflist = scenario.dhcp();
    let Scenario { lan, daemon } = scenario;
    let started = Instant::now();
    Network::new(&lan.host, conflist).add(&Attachment::new(&container))?;
    let valid = || -> Result<Duration> {
        let addresses = container.addresses("eth0")?;
        let address = addresses
            .iter()
            .find(|address| address.net.addr().is_ipv4())
            .context("an address")?;
        ensure!(address.preferred == address.valid, "{address:?}");
        address.valid.context("a lifetime")
    };
    let first = valid()?;
    // The kernel counts in whole seconds. What has passed since the REQUEST is at most this.
    let passed = started.elapsed() + Duration::from_secs(1);
    ensure!(
        first <= LEASE_TIME && first + passed >= LEASE_TIME,
        "{first:?} are left after {passed:?}"
    );
    // A lifetime only shrinks by itself.
    let mut least = first;
    until("a renewal extends it", SOON, || {
        let now = valid().unwrap_or(Duration::ZERO);
        let extended = now > least;
        least = least.min(now);
        extended
    })?;
    server.wait_for(MessageType::Request, 2, SOON)?;
    daemon.kill()?;
    until("the kernel takes it away", Duration::from_secs(10), || {
        container
            .ipv4("eth0")
            .is_ok_and(|addresses| addresses.is_empty())
    })
}

fn addresses_are_announced_unless_configured_otherwise(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let index = scenario.lan.lan.link(Lan::SERVER_LINK)?.index;
    let tap = scenario.lan.lan.run(|| ArpSocket::open(index))??;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let mac = container.link("eth0")?.mac;
    let leased = address(&container)?;
    until("an announcement", SOON, || {
        tap.contender(leased).is_ok_and(|from| from == mac)
    })?;

    // And when the address changes.
    server.reconfigure(|settings| {
        settings.pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    });
    server.forget();
    until("the address is another", Duration::from_secs(10), || {
        address(&container).is_ok_and(|now| now != leased)
    })?;
    let leased = address(&container)?;
    until("an announcement", SOON, || {
        tap.contender(leased).is_ok_and(|from| from == mac)
    })?;
    ensure!(
        default_gateways(&container)? == [IpAddr::V4(Lan::ADDRESS)],
        "{:?}",
        container.routes()?
    );

    let quiet = scenario.lan.container("c2")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "announce": false })),
    );
    network.add(&Attachment::new(&quiet))?;
    let silent = address(&quiet)?;
    ensure!(tap.contender(silent)?.is_none(), "{silent} was announced");
    Ok(())
}

fn an_address_is_announced_twice(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    // Without renewals, the container sends no other ARP.
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let index = scenario.lan.lan.link(Lan::SERVER_LINK)?.index;
    let tap = scenario.lan.lan.run(|| ArpSocket::open(index))??;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let mac = container.link("eth0")?.mac;
    let leased = address(&container)?;
    for announcement in ["the first announcement", "the second announcement"] {
        until(announcement, SOON, || {
            tap.contender(leased).is_ok_and(|from| from == mac)
        })?;
    }
    Ok(())
}

/// A route through the LAN's broadcast address, which the kernel rejects, and a default route.
fn rejected_route() -> DhcpOption {
    let route = |dst: &str, gateway: [u8; 4]| (dst.parse().expect("a network"), gateway.into());
    DhcpOption::ClasslessStaticRoute(vec![
        route("10.5.0.0/16", [10, 99, 0, 255]),
        route("0.0.0.0/0", [10, 99, 0, 1]),
    ])
}

fn a_route_of_the_servers_that_the_kernel_rejects_is_left_out(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    server.reconfigure(|settings| settings.options = vec![rejected_route()]);
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let add = network.prepare("ADD", 0, &attachment, None)?;
    let outcome = add.run(&scenario.lan.host)?;
    ensure!(
        outcome
            .stderr
            .contains("route 10.5.0.0/16 via 10.99.0.255 is left out"),
        "{outcome:?}"
    );
    let result = outcome.success()?;
    let expected = ["0.0.0.0/0 via 10.99.0.1"];
    ensure!(routes(&container)? == expected, "{:?}", routes(&container)?);
    network
        .prepare("CHECK", 0, &attachment, Some(&result))?
        .run(&scenario.lan.host)?
        .success()?;

    // The same at a renewal.
    server.reconfigure(|settings| {
        let other = (
            "10.6.0.0/16".parse().expect("a network"),
            [10, 99, 0, 255].into(),
        );
        if let [DhcpOption::ClasslessStaticRoute(routes)] = settings.options.as_mut_slice() {
            routes[0] = other;
        }
    });
    until("the log has the kernel's refusal", SOON, || {
        let log = scenario.daemon.log();
        log.lines()
            .any(|line| line.contains("ERROR") && line.contains("10.6.0.0/16"))
    })?;
    ensure!(routes(&container)? == expected, "{:?}", routes(&container)?);
    address(&container).map(drop)
}

fn a_route_of_the_configurations_that_the_kernel_rejects_is_an_error(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.reconfigure(|settings| settings.options = vec![rejected_route()]);
    let keys = json!({ "routes": [{ "dst": "10.5.0.0/16", "gw": "10.99.0.255" }] });
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    let error = lab::network::cni_error(network.add(&Attachment::new(&container)));
    ensure!(
        error.code == 7 && error.msg.contains("10.5.0.0/16"),
        "{error:?}"
    );
    crate::scenario::ensure_nothing_left(&container)
}
