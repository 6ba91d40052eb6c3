//! The DHCP servers that people run. Each test runs with all servers of [`lab::servers::ALL`], or
//! with those that are able to do what it is about.

mod maintenance;
mod two;

use std::net::{IpAddr, Ipv4Addr};

use lab::anyhow::ensure;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{Value, json};
use lab::servers::{Client, Config, Kind, Options, Reservation};
use lab::{
    Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, network, tests_of_each, until,
};
use linknet::NewMacvlan;

use crate::scenario::{SOON, Scenario, default_gateways, ensure_nothing_left, reported};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        tests_of_each!(leases_an_address_and_takes_it_back),
        tests_of_each!(gives_clients_their_reserved_addresses),
        tests_of_each!(options_take_effect_in_the_container),
        tests_of_each!(leases_by_rapid_commit_without_a_request, |server| {
            server.rapid_commit
        }),
        tests_of_each!(with_an_exhausted_pool_is_reported_as_giving_no_answer),
        maintenance::tests(),
        two::tests(),
    ]
    .concat()
}

fn leases_an_address_and_takes_it_back(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let server = server.start(world, &scenario.lan.lan, &Config::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);

    let leased = reported(&network.add(&attachment)?, &container)?;
    ensure!(
        default_gateways(&container)? == [IpAddr::V4(Lan::ADDRESS)],
        "{:?}",
        container.routes()?
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    until("the server has the lease on file", SOON, || {
        server.holds(leased)
    })?;
    network.check(&attachment)?;

    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    until("the server has taken the lease back", SOON, || {
        !server.holds(leased)
    })?;
    Ok(())
}

const RESERVED_BY_MAC: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 51);
const RESERVED_BY_ID: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 52);
const MAC: &str = "02:00:00:00:00:51";
/// Option 61 of `clientId: {"text": "db"}`.
const ID: &str = "00:64:62";

fn gives_clients_their_reserved_addresses(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let mut reservations = vec![Reservation {
        client: Client::Mac(MAC),
        address: RESERVED_BY_MAC,
    }];
    if server.knows_client_ids {
        reservations.push(Reservation {
            client: Client::Id(ID),
            address: RESERVED_BY_ID,
        });
    }
    let config = Config {
        reservations,
        ..Config::default()
    };
    let _server = server.start(world, &scenario.lan.lan, &config)?;
    let leased = |name: &str, keys: Value, mac: Option<&str>| -> Result<Ipv4Addr> {
        let container = scenario.lan.container(name)?;
        let mut conflist = scenario.dhcp_with(keys);
        if let Some(mac) = mac {
            conflist["plugins"][0]["mac"] = json!(mac);
        }
        let result =
            Network::new(&scenario.lan.host, conflist).add(&Attachment::new(&container))?;
        reported(&result, &container)
    };
    let by_mac = leased("c1", json!({ "clientId": "none" }), Some(MAC))?;
    ensure!(by_mac == RESERVED_BY_MAC, "{by_mac}");
    if server.knows_client_ids {
        let by_id = leased("c2", json!({ "clientId": { "text": "db" } }), None)?;
        ensure!(by_id == RESERVED_BY_ID, "{by_id}");
    }
    Ok(())
}

/// Options 6, 15, 26, 119 and 121.
fn options_take_effect_in_the_container(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let routes = [
        ("192.168.7.0/24", Ipv4Addr::new(10, 99, 0, 9)),
        ("0.0.0.0/0", Lan::ADDRESS),
    ];
    let config = Config {
        options: Options {
            domain: Some("lan.example"),
            search: vec!["a.example", "b.example"],
            mtu: Some(1400),
            routes: routes
                .iter()
                .map(|(destination, gateway)| Ok((destination.parse()?, *gateway)))
                .collect::<Result<_>>()?,
        },
        ..Config::default()
    };
    let _server = server.start(world, &scenario.lan.lan, &config)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let result = network.add(&attachment)?;
    let dns = json!({
        "nameservers": ["10.99.0.1"], "domain": "lan.example", "search": ["a.example", "b.example"],
    });
    ensure!(result["dns"] == dns, "{result}");
    ensure!(
        container.link("eth0")?.mtu == 1400,
        "{:?}",
        container.link("eth0")?
    );
    let installed = container.routes()?;
    for (destination, gateway) in routes {
        let there = |route: &linknet::Route| {
            route.dst.to_string() == destination && route.gateway == Some(gateway.into())
        };
        ensure!(
            installed.iter().any(there),
            "{destination} via {gateway}: {installed:?}"
        );
    }
    network.check(&attachment)
}

/// RFC 4039.
fn leases_by_rapid_commit_without_a_request(world: &World, server: &'static Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let config = Config {
        rapid_commit: true,
        ..Config::default()
    };
    let server = server.start(world, &scenario.lan.lan, &config)?;
    let listener = listener(&scenario.lan.lan)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let leased = reported(&network.add(&Attachment::new(&container))?, &container)?;
    until("the server has the lease on file", SOON, || {
        server.holds(leased)
    })?;
    ensure!(
        listener.received_of(MessageType::Request).is_empty(),
        "{}",
        listener.transcript()
    );
    Ok(())
}

fn with_an_exhausted_pool_is_reported_as_giving_no_answer(
    world: &World,
    server: &'static Kind,
) -> Result {
    let scenario = Scenario::new(world)?;
    let only = Ipv4Addr::new(10, 99, 0, 100);
    let config = Config {
        pool: only..=only,
        ..Config::default()
    };
    let running = server.start(world, &scenario.lan.lan, &config)?;
    let [one, other] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = |keys| Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    network(json!({})).add(&Attachment::new(&one))?;
    let impatient = network(json!({ "timeout": "600ms" }));
    let error = network::cni_error(impatient.add(&Attachment::new(&other)));
    ensure!(
        error.code == 11 && error.details.contains("received no reply"),
        "{error:?}"
    );
    ensure_nothing_left(&other)?;
    until("the server has logged why", SOON, || {
        running.log().contains(server.logs_exhausted)
    })
}

/// A further node with a link on the LAN, `eth0`, on which servers can run.
pub(crate) fn node_on_the_lan(scenario: &Scenario, name: &str) -> Result<Node> {
    let node = scenario.lan.container(name)?;
    let lan = &scenario.lan.lan;
    let new = NewMacvlan {
        up: true,
        ..NewMacvlan::new(Lan::SERVER_LINK, lan.link(Lan::SERVER_LINK)?.index)
    };
    lan.netlink()?
        .add_macvlan(&new, node.netns(), &node.netlink()?)?;
    Ok(node)
}

/// A scriptable server that hears what servers on this node hear, and never answers. It keeps other
/// servers from starting there.
fn listener(node: &Node) -> Result<DhcpServer> {
    let listener = DhcpServer::start(node, Settings::default())?;
    for kind in [
        MessageType::Discover,
        MessageType::Request,
        MessageType::Release,
        MessageType::Decline,
    ] {
        listener.when(kind).then(Reaction::silence());
    }
    Ok(listener)
}
