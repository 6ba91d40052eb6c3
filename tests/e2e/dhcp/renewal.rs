//! What a renewal does to the interface: it restores what was lost, follows the server, and leaves
//! what others have changed.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType};
use lab::serde_json::json;
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};
use linknet::Route;

use crate::scenario::{SOON, Scenario, default_gateways};

pub(super) const TESTS: &[Test] = &[
    test!(a_renewal_that_changes_nothing_is_neither_a_warning_nor_a_repair),
    test!(a_route_that_changes_between_on_link_and_gateway_is_replaced),
    test!(routes_that_went_with_the_link_come_back),
    test!(a_deleted_address_comes_back_before_the_server_answers),
    test!(a_default_route_that_somebody_replaced_stays),
    test!(a_route_that_was_moved_to_another_table_follows_the_server_there),
    test!(an_mtu_that_somebody_changed_stays),
    test!(without_the_servers_mtu_the_interface_gets_its_own_back),
];

/// Leases that are renewed after a second.
fn brief(options: Vec<DhcpOption>) -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        options,
        ..Settings::default()
    }
}

fn router(last: u8) -> DhcpOption {
    DhcpOption::Router(vec![gateway(last)])
}

fn gateway(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, last)
}

fn default_route() -> Ipv4Net {
    Ipv4Net::default()
}

/// Waits for two whole renewals.
fn wait_for_renewals(scenario: &Scenario) -> Result {
    let renewals = || scenario.daemon.log().matches("lease renewed").count();
    let before = renewals();
    until("two renewals", SOON, || renewals() >= before + 2)
}

/// The gateways of the routes to a destination; `None` is on the link.
fn gateways(container: &Node, dst: Ipv4Net) -> Result<Vec<Option<IpAddr>>> {
    let mut routes = container.routes()?;
    routes.retain(|route| route.dst == dst.into());
    Ok(routes.iter().map(|route| route.gateway).collect())
}

fn a_renewal_that_changes_nothing_is_neither_a_warning_nor_a_repair(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, brief(vec![router(1)]))?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    wait_for_renewals(&scenario)?;
    let log = scenario.daemon.log();
    let mut renewals = log.lines().filter(|line| line.contains("lease renewed"));
    ensure!(renewals.all(|line| line.contains("INFO")), "{log}");
    ensure!(!log.contains("interface restored"), "{log}");
    Ok(())
}

fn a_route_that_changes_between_on_link_and_gateway_is_replaced(world: &World) -> Result {
    let dst: Ipv4Net = "10.5.0.0/16".parse()?;
    let routes = |to_dst: [u8; 4], to_all: [u8; 4]| {
        DhcpOption::ClasslessStaticRoute(vec![
            (dst, to_dst.into()),
            (default_route(), to_all.into()),
        ])
    };
    let scenario = Scenario::new(world)?;
    let on_link = brief(vec![routes([0; 4], [0; 4])]);
    let server = DhcpServer::start(&scenario.lan.lan, on_link)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    for (to_dst, to_all) in [(Some(3), Some(1)), (None, None), (Some(4), Some(2))] {
        let octets = |last: Option<u8>| last.map_or([0; 4], |last| gateway(last).octets());
        server.reconfigure(|settings| {
            settings.options = vec![routes(octets(to_dst), octets(to_all))];
        });
        let ip = |last: Option<u8>| last.map(|last| IpAddr::V4(gateway(last)));
        until("both routes are as the server says", SOON, || {
            gateways(&container, dst).is_ok_and(|all| all == [ip(to_dst)])
                && gateways(&container, default_route()).is_ok_and(|all| all == [ip(to_all)])
        })?;
    }
    Ok(())
}

fn routes_that_went_with_the_link_come_back(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, brief(vec![router(1)]))?;
    let [plain, routed] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    network.add(&Attachment::new(&plain))?;
    let mut conflist = scenario.dhcp();
    conflist["plugins"][0]["sourceRouting"] = json!(true);
    let routing = Network::new(&scenario.lan.host, conflist);
    routing.add(&Attachment::new(&routed))?;
    for (network, container) in [(&network, &plain), (&routing, &routed)] {
        container.set_down("eth0")?;
        container.set_up("eth0")?;
        until("CHECK passes", SOON, || {
            network.check(&Attachment::new(container)).is_ok()
        })?;
        container.ping(Lan::ADDRESS.into(), SOON)?;
    }
    ensure!(default_gateways(&plain)? == [IpAddr::V4(Lan::ADDRESS)]);
    Ok(())
}

fn a_deleted_address_comes_back_before_the_server_answers(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief(vec![router(1)]))?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    network.add(&attachment)?;
    wait_for_renewals(&scenario)?;
    server.when(MessageType::Request).then(Reaction::silence());
    let addresses = container.ipv4("eth0")?;
    container
        .netlink()?
        .delete_address(container.link("eth0")?.index, addresses[0])?;
    until("the address is back", SOON, || {
        container.ipv4("eth0").is_ok_and(|now| now == addresses)
    })?;
    until("and the default route", SOON, || {
        network.check(&attachment).is_ok()
    })
}

fn a_default_route_that_somebody_replaced_stays(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief(vec![router(1)]))?;
    let [one, two] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    for container in [&one, &two] {
        network.add(&Attachment::new(container))?;
    }
    // Through another gateway, and through another interface.
    let through = |container: &Node, link: &str, gateway: Ipv4Addr| -> Result {
        let route = Route::new(default_route(), container.link(link)?.index).via(gateway);
        Ok(container.netlink()?.replace_route(&route)?)
    };
    through(&one, "eth0", gateway(77))?;
    scenario.lan.host.add_veth("other", (&two, "net1"))?;
    two.set_up("net1")?;
    two.add_address("net1", "10.98.0.2/24".parse::<Ipv4Net>()?.into())?;
    through(&two, "net1", [10, 98, 0, 1].into())?;
    let untouched = || -> Result {
        for (container, gateway) in [(&one, gateway(77)), (&two, [10, 98, 0, 1].into())] {
            let all = default_gateways(container)?;
            ensure!(all == [IpAddr::V4(gateway)], "{all:?}");
        }
        Ok(())
    };
    wait_for_renewals(&scenario)?;
    untouched()?;
    // Nor does another router of the server's change that.
    server.reconfigure(|settings| settings.options = vec![router(2)]);
    wait_for_renewals(&scenario)?;
    wait_for_renewals(&scenario)?;
    untouched()
}

/// As sbr moves it.
fn a_route_that_was_moved_to_another_table_follows_the_server_there(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief(vec![router(1)]))?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let ours = container.routes()?;
    let ours = ours.iter().find(|route| route.gateway.is_some());
    let ours = ours.context("a default route")?.clone();
    let moved = Route {
        table: 100,
        ..ours.clone()
    };
    container.netlink()?.add_route(&moved)?;
    container.netlink()?.delete_route(&ours)?;
    let tables = || -> Result<Vec<(u32, Option<IpAddr>)>> {
        let mut routes = container.routes()?;
        routes.retain(|route| route.dst == default_route().into());
        Ok(routes
            .iter()
            .map(|route| (route.table, route.gateway))
            .collect())
    };
    wait_for_renewals(&scenario)?;
    ensure!(tables()? == [(100, ours.gateway)], "{:?}", tables()?);
    server.reconfigure(|settings| settings.options = vec![router(2)]);
    until("the new router is in that table", SOON, || {
        tables().is_ok_and(|all| all == [(100, Some(gateway(2).into()))])
    })
}

fn an_mtu_that_somebody_changed_stays(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief(vec![router(1)]))?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let index = container.link("eth0")?.index;
    container.netlink()?.set_mtu(index, 1300)?;
    let set_by_server = |mtu: Option<u16>| {
        server.reconfigure(|settings| {
            settings.options = [router(1)]
                .into_iter()
                .chain(mtu.map(DhcpOption::InterfaceMtu))
                .collect();
        });
    };
    for mtu in [Some(1400), Some(1350), None] {
        set_by_server(mtu);
        wait_for_renewals(&scenario)?;
        let now = container.link("eth0")?.mtu;
        ensure!(now == 1300, "{now} after the server said {mtu:?}");
    }
    Ok(())
}

fn without_the_servers_mtu_the_interface_gets_its_own_back(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let told = vec![router(1), DhcpOption::InterfaceMtu(1400)];
    let server = DhcpServer::start(&scenario.lan.lan, brief(told))?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let mtu = |wanted: u32| container.link("eth0").is_ok_and(|link| link.mtu == wanted);
    ensure!(mtu(1400));
    server.reconfigure(|settings| drop(settings.options.pop()));
    until("its own MTU", SOON, || mtu(1500))?;
    server.reconfigure(|settings| settings.options.push(DhcpOption::InterfaceMtu(1350)));
    until("the server's again", SOON, || mtu(1350))?;
    // A daemon that starts later knows it as well, from the record.
    wait_for_renewals(&scenario)?;
    let Scenario { lan, daemon } = scenario;
    daemon.kill()?;
    let _daemon = lab::Daemon::start(world, &lan.host)?;
    server.reconfigure(|settings| drop(settings.options.pop()));
    until("its own MTU", SOON, || mtu(1500))
}
