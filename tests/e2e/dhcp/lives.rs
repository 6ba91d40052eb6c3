//! The same with the servers that people run: what only they can show.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Packet, Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{Value, json};
use lab::servers::{Config, Kind, Server};
use lab::suite::packages;
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};
use linknet::NewMacvlan;

use crate::scenario::{SOON, Scenario, address, decoded, ensure_nothing_left, reported};

pub(super) const TESTS: &[Test] = &[
    test!(dnsmasq_is_asked_by_unicast_for_more).needs(&[packages::DNSMASQ]),
    test!(kea_is_asked_by_unicast_for_more).needs(&[packages::KEA]),
    test!(isc_dhcpd_is_asked_by_unicast_for_more).needs(&[packages::ISC_DHCPD]),
    test!(udhcpd_is_asked_by_unicast_for_more).needs(&[packages::UDHCPD]),
    test!(dnsmasq_knows_reservations).needs(&[packages::DNSMASQ]),
    test!(kea_knows_reservations).needs(&[packages::KEA]),
    test!(isc_dhcpd_knows_reservations).needs(&[packages::ISC_DHCPD]),
    test!(udhcpd_knows_reservations).needs(&[packages::UDHCPD]),
    test!(dnsmasq_tells_everything).needs(&[packages::DNSMASQ]),
    test!(kea_tells_everything).needs(&[packages::KEA]),
    test!(udhcpd_tells_everything).needs(&[packages::UDHCPD]),
    test!(dnsmasq_commits_at_once).needs(&[packages::DNSMASQ]),
    test!(a_server_that_took_over_without_the_leases_extends_them).needs(&[packages::DNSMASQ]),
    test!(the_container_follows_when_dnsmasq_renumbers).needs(&[packages::DNSMASQ]),
    test!(the_container_follows_when_isc_dhcpd_renumbers).needs(&[packages::ISC_DHCPD]),
    test!(the_container_follows_when_kea_renumbers).needs(&[packages::KEA]),
    test!(an_exhausted_pool_is_said_to_be_silence).needs(&[packages::DNSMASQ]),
    test!(of_dnsmasq_and_kea_one_has_the_lease).needs(&[packages::DNSMASQ, packages::KEA]),
];

/// Somebody who hears what servers hear, and keeps silent.
fn listener(scenario: &Scenario) -> Result<DhcpServer> {
    let listener = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
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

fn dnsmasq_is_asked_by_unicast_for_more(world: &World) -> Result {
    is_asked_by_unicast_for_more(world, Kind::Dnsmasq)
}

fn kea_is_asked_by_unicast_for_more(world: &World) -> Result {
    is_asked_by_unicast_for_more(world, Kind::Kea)
}

fn isc_dhcpd_is_asked_by_unicast_for_more(world: &World) -> Result {
    is_asked_by_unicast_for_more(world, Kind::IscDhcpd)
}

fn udhcpd_is_asked_by_unicast_for_more(world: &World) -> Result {
    is_asked_by_unicast_for_more(world, Kind::Udhcpd)
}

/// dnsmasq takes no T1 of less.
const LEAST_T1: Duration = Duration::from_secs(3);

fn is_asked_by_unicast_for_more(world: &World, kind: Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let t1 = if kind == Kind::Dnsmasq {
        LEAST_T1
    } else {
        Duration::from_secs(1)
    };
    let config = Config {
        t1: Some(t1),
        t2: Some(Duration::from_secs(8)),
        ..Config::default()
    };
    let _server = kind.start(world, &scenario.lan.lan, &config)?;
    let listener = listener(&scenario)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    let renewal = listener.wait_for(MessageType::Request, 2, SOON)?;
    ensure!(is_renewal(&renewal, leased)?, "{renewal:?}");
    until("it is answered", SOON, || {
        scenario.daemon.log().contains("lease renewed")
    })?;
    ensure!(
        address(&container)? == leased,
        "{:?}",
        container.ipv4("eth0")?
    );
    Ok(())
}

/// RFC 2131 §4.3.2: from the address, to the server, with ciaddr.
fn is_renewal(request: &Packet, leased: Ipv4Addr) -> Result<bool> {
    let addresses = (
        *request.source.ip(),
        *request.destination.ip(),
        decoded(request)?.ciaddr(),
    );
    Ok(addresses == (leased, Lan::ADDRESS, leased))
}

const BY_MAC: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 51);
const BY_ID: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 52);
const MAC: &str = "02:00:00:00:00:51";
/// Option 61 of `clientId: {"text": "db"}`.
const ID: &str = "00:64:62";

fn dnsmasq_knows_reservations(world: &World) -> Result {
    let extra = [
        format!("--dhcp-host={MAC},{BY_MAC}"),
        format!("--dhcp-host=id:{ID},{BY_ID}"),
    ];
    knows_reservations(world, Kind::Dnsmasq, &extra, true)
}

fn kea_knows_reservations(world: &World) -> Result {
    let reservations = json!({ "reservations": [
        { "hw-address": MAC, "ip-address": BY_MAC },
        { "client-id": ID, "ip-address": BY_ID },
    ] });
    knows_reservations(world, Kind::Kea, &[reservations.to_string()], true)
}

fn isc_dhcpd_knows_reservations(world: &World) -> Result {
    let extra = [
        format!("host mac {{ hardware ethernet {MAC}; fixed-address {BY_MAC}; }}"),
        format!("host id {{ option dhcp-client-identifier {ID}; fixed-address {BY_ID}; }}"),
    ];
    knows_reservations(world, Kind::IscDhcpd, &extra, true)
}

/// It knows clients by their MAC alone.
fn udhcpd_knows_reservations(world: &World) -> Result {
    knows_reservations(
        world,
        Kind::Udhcpd,
        &[format!("static_lease {MAC} {BY_MAC}")],
        false,
    )
}

fn knows_reservations(world: &World, kind: Kind, extra: &[String], by_id: bool) -> Result {
    let scenario = Scenario::new(world)?;
    let config = Config {
        extra: extra.to_vec(),
        ..Config::default()
    };
    let _server = kind.start(world, &scenario.lan.lan, &config)?;
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
    ensure!(by_mac == BY_MAC, "{by_mac}");
    if by_id {
        let by_id = leased("c2", json!({ "clientId": { "text": "db" } }), None)?;
        ensure!(by_id == BY_ID, "{by_id}");
    }
    Ok(())
}

fn dnsmasq_tells_everything(world: &World) -> Result {
    let extra = [
        "--dhcp-option=option:domain-name,lan.example",
        "--dhcp-option=option:domain-search,a.example,b.example",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=121,192.168.7.0/24,10.99.0.9,0.0.0.0/0,10.99.0.1",
    ];
    tells_everything(world, Kind::Dnsmasq, &extra.map(str::to_owned))
}

fn kea_tells_everything(world: &World) -> Result {
    let options = json!({ "option-data": [
        { "name": "routers", "data": "10.99.0.1" },
        { "name": "domain-name-servers", "data": "10.99.0.1" },
        { "name": "domain-name", "data": "lan.example" },
        { "name": "domain-search", "data": "a.example, b.example" },
        { "name": "interface-mtu", "data": "1400" },
        { "code": 121, "csv-format": false, "data": "18C0A8070A630009000A630001" },
    ] });
    tells_everything(world, Kind::Kea, &[options.to_string()])
}

fn udhcpd_tells_everything(world: &World) -> Result {
    let extra = [
        "option domain lan.example",
        "option search a.example b.example",
        "option mtu 1400",
        "option staticroutes 192.168.7.0/24 10.99.0.9, 0.0.0.0/0 10.99.0.1",
    ];
    tells_everything(world, Kind::Udhcpd, &extra.map(str::to_owned))
}

/// Options 6, 15, 26, 119 and 121.
fn tells_everything(world: &World, kind: Kind, extra: &[String]) -> Result {
    let scenario = Scenario::new(world)?;
    let config = Config {
        extra: extra.to_vec(),
        ..Config::default()
    };
    let _server = kind.start(world, &scenario.lan.lan, &config)?;
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
    let routes = container.routes()?;
    for (dst, gateway) in [("192.168.7.0/24", "10.99.0.9"), ("0.0.0.0/0", "10.99.0.1")] {
        let there = |route: &linknet::Route| {
            route.dst.to_string() == dst
                && route.gateway.is_some_and(|via| via.to_string() == gateway)
        };
        ensure!(routes.iter().any(there), "{dst} via {gateway}: {routes:?}");
    }
    network.check(&attachment)
}

fn dnsmasq_commits_at_once(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let config = Config {
        extra: vec!["--dhcp-rapid-commit".into()],
        ..Config::default()
    };
    let server = Kind::Dnsmasq.start(world, &scenario.lan.lan, &config)?;
    let listener = listener(&scenario)?;
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

/// Another server in the place of the first: it has another address and none of its leases, so it
/// is REBINDING that reaches it.
fn a_server_that_took_over_without_the_leases_extends_them(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let config = Config {
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(3)),
        ..Config::default()
    };
    let server = Kind::Dnsmasq.start(world, &scenario.lan.lan, &config)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    drop(server);
    readdress(&scenario.lan.lan, Lan::NET, "10.99.0.2/24".parse()?)?;
    let server = Kind::Dnsmasq.start(world, &scenario.lan.lan, &config)?;
    let listener = listener(&scenario)?;
    until("the lease is extended", Duration::from_secs(10), || {
        scenario.daemon.log().contains("lease renewed") && server.holds(leased)
    })?;
    ensure!(
        address(&container)? == leased,
        "{:?}",
        container.ipv4("eth0")?
    );
    let rebinding = listener.wait_for(MessageType::Request, 1, SOON)?;
    ensure!(
        rebinding.destination.ip().is_broadcast() && decoded(&rebinding)?.ciaddr() == leased,
        "{rebinding:?}"
    );
    Ok(())
}

fn readdress(lan: &Node, old: ipnet::Ipv4Net, new: ipnet::Ipv4Net) -> Result {
    lan.netlink()?
        .delete_address(lan.link(Lan::SERVER_LINK)?.index, old)?;
    lan.add_address(Lan::SERVER_LINK, new.into())
}

fn the_container_follows_when_dnsmasq_renumbers(world: &World) -> Result {
    let log = the_container_follows(world, Kind::Dnsmasq, [2, 3, 120])?;
    ensure!(log.contains("address lost: NAK from 10.99.0.1"), "{log}");
    Ok(())
}

fn the_container_follows_when_isc_dhcpd_renumbers(world: &World) -> Result {
    follows_in_silence(world, Kind::IscDhcpd)
}

fn the_container_follows_when_kea_renumbers(world: &World) -> Result {
    follows_in_silence(world, Kind::Kea)
}

/// Some say nothing about a lease that they do not know (RFC 2131 §4.3.2), so that has to run out.
fn follows_in_silence(world: &World, kind: Kind) -> Result {
    let log = the_container_follows(world, kind, [1, 2, 3])?;
    ensure!(log.contains("address lost: expired"), "{log}");
    Ok(())
}

/// The server, whose leases have these times in seconds (T1, T2, end), comes back with another
/// range and without its leases; the daemon's log of how the container got an address of it.
fn the_container_follows(world: &World, kind: Kind, times: [u64; 3]) -> Result<String> {
    let scenario = Scenario::new(world)?;
    let [t1, t2, lease_time] = times.map(Duration::from_secs);
    let config = Config {
        lease_time,
        t1: Some(t1),
        t2: Some(t2),
        ..Config::default()
    };
    let server = kind.start(world, &scenario.lan.lan, &config)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    drop(server);
    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    let server = kind.start(world, &scenario.lan.lan, &Config { pool, ..config })?;
    until(
        "the address is of the new range",
        Duration::from_secs(10),
        || address(&container).is_ok_and(|now| now.octets()[3] >= 200),
    )
    .with_context(|| server.log())?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(scenario.daemon.log())
}

fn an_exhausted_pool_is_said_to_be_silence(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let only = Ipv4Addr::new(10, 99, 0, 100);
    let config = Config {
        pool: only..=only,
        ..Config::default()
    };
    let server = Kind::Dnsmasq.start(world, &scenario.lan.lan, &config)?;
    let [one, other] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "timeout": "600ms" })),
    );
    network.add(&Attachment::new(&one))?;
    let error = network::cni_error(network.add(&Attachment::new(&other)));
    ensure!(
        error.code == 11 && error.details.contains("received 0 frames"),
        "{error:?}"
    );
    ensure_nothing_left(&other)?;
    ensure!(
        server.log().contains("no address available"),
        "{}",
        server.log()
    );
    Ok(())
}

fn of_dnsmasq_and_kea_one_has_the_lease(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let one = Kind::Dnsmasq.start(world, &scenario.lan.lan, &Config::default())?;
    let other = second_server(world, &scenario)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let leased = reported(&network.add(&attachment)?, &container)?;
    until("one of them has it on file", SOON, || {
        one.holds(leased) || other.holds(leased)
    })?;
    ensure!(
        one.holds(leased) != other.holds(leased),
        "both think that they lent {leased}"
    );
    network.del(&attachment)?;
    until("it is given back", SOON, || {
        !one.holds(leased) && !other.holds(leased)
    })?;

    // Told not to listen to the one, it has its address from the other.
    for (name, denied, range) in [
        ("c2", "10.99.0.1", 200..=210),
        ("c3", "10.99.0.2", 100..=199),
    ] {
        let container = scenario.lan.container(name)?;
        let keys = json!({ "servers": { "deny": [denied] } });
        Network::new(&scenario.lan.host, scenario.dhcp_with(keys))
            .add(&Attachment::new(&container))?;
        ensure!(
            range.contains(&address(&container)?.octets()[3]),
            "{:?}",
            container.ipv4("eth0")?
        );
    }
    Ok(())
}

/// Kea at 10.99.0.2, leasing from .200, on a node of its own on the LAN.
fn second_server(world: &World, scenario: &Scenario) -> Result<Server> {
    let node = scenario.lan.container("lan2")?;
    let parent = scenario.lan.lan.link(Lan::SERVER_LINK)?.index;
    let new = NewMacvlan {
        up: true,
        ..NewMacvlan::new(Lan::SERVER_LINK, parent)
    };
    scenario
        .lan
        .lan
        .netlink()?
        .add_macvlan(&new, node.netns(), &node.netlink()?)?;
    node.add_address(
        Lan::SERVER_LINK,
        "10.99.0.2/24".parse::<ipnet::Ipv4Net>()?.into(),
    )?;
    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    Kind::Kea.start(
        world,
        &node,
        &Config {
            pool,
            ..Config::default()
        },
    )
}
