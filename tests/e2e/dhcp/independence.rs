//! A lease does not depend on what a container does to its own network stack, nor on how the server
//! is reached.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Packet, Reaction, Settings, Strangers};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{self, Value, json};
use lab::servers::{Config, DNSMASQ};
use lab::suite::packages::{IPROUTE2, Package};
use lab::{
    Attachment, Daemon, DhcpServer, Lan, Network, Node, Process, Result, Test, World, test, until,
};
use linknet::Mac;

use crate::chaos::lease_files;
use crate::scenario::{SOON, Scenario, address};
use crate::servers::node_on_the_lan;

pub(super) const TESTS: &[Test] = &[
    test!(a_firewall_that_drops_everything_does_not_end_a_lease).needs(&[IPTABLES]),
    test!(a_drop_at_ingress_does_not_end_a_lease).needs(&[NFTABLES]),
    test!(a_bridge_in_the_container_does_not_end_a_lease),
    test!(a_program_on_the_clients_port_does_not_end_a_lease),
    test!(a_containers_own_dhcp_client_and_server_make_no_difference_to_its_lease)
        .needs(&[BUSYBOX, DNSMASQ.package]),
    test!(the_containers_routes_and_neighbours_do_not_matter_to_a_renewal).needs(&[IPROUTE2]),
    test!(a_server_behind_a_relay_is_asked_at_t1_without_a_default_route),
    test!(a_server_with_a_new_mac_is_found_by_arp_and_gets_the_release).needs(&[IPROUTE2]),
    test!(a_release_goes_to_the_server_that_extended_the_lease_last),
    test!(a_restarted_daemon_releases_to_the_server_that_extended_the_lease_last),
    test!(an_address_that_is_leased_again_at_once_stays_with_its_routes).needs(&[IPROUTE2]),
];

const IPTABLES: Package = Package::new("iptables", "iptables");
const BUSYBOX: Package = Package::new("busybox", "busybox");
pub(super) const NFTABLES: Package = Package::new("nftables", "nft");

/// Leases that are renewed after a second, a while before anybody else is asked.
fn early_t1() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(7)),
        ..Settings::default()
    }
}

/// A container whose lease is renewed after a second.
struct Renewing {
    scenario: Scenario,
    server: DhcpServer,
    container: Node,
}

impl Renewing {
    fn new(world: &World) -> Result<Renewing> {
        let scenario = Scenario::new(world)?;
        let server = DhcpServer::start(&scenario.lan.lan, early_t1())?;
        let container = scenario.lan.container("c1")?;
        let renewing = Renewing {
            scenario,
            server,
            container,
        };
        let network = Network::new(&renewing.scenario.lan.host, renewing.scenario.dhcp());
        network.add(&renewing.attachment())?;
        Ok(renewing)
    }

    fn attachment(&self) -> Attachment {
        Attachment::new(&self.container)
    }

    fn del(&self) -> Result {
        Network::new(&self.scenario.lan.host, self.scenario.dhcp()).del(&self.attachment())
    }

    /// Waits for a renewal of which the server is asked from now on, and returns its REQUEST.
    fn wait_for_another_renewal(&self) -> Result<Packet> {
        let renewals = || self.scenario.daemon.log().matches("lease renewed").count();
        let asked = self.server.received_of(MessageType::Request).len();
        let before = renewals();
        let request = self
            .server
            .wait_for(MessageType::Request, asked + 1, SOON)?;
        until("the lease is renewed", SOON, || renewals() > before)
            .with_context(|| self.scenario.daemon.log())?;
        Ok(request)
    }
}

fn ensure_asked_alone(request: &Packet, server: Ipv4Addr, mac: [u8; 6]) -> Result {
    ensure!(
        *request.destination.ip() == server && request.ethernet_destination == mac,
        "{request:?}"
    );
    Ok(())
}

/// The MAC of the LAN's side, where the servers are.
fn server_mac(lan: &Lan) -> Result<[u8; 6]> {
    let mac = lan.lan.link(Lan::SERVER_LINK)?.mac;
    Ok(mac.context("an Ethernet link")?.octets())
}

fn a_firewall_that_drops_everything_does_not_end_a_lease(world: &World) -> Result {
    let lease = Renewing::new(world)?;
    for chain in ["OUTPUT", "INPUT"] {
        lease
            .container
            .output(&["iptables", "--policy", chain, "DROP"])?;
    }
    ensure!(
        !lease
            .container
            .is_answered(Lan::ADDRESS.into(), Duration::from_millis(200))?,
        "the firewall drops what it should"
    );
    let request = lease.wait_for_another_renewal()?;
    ensure_asked_alone(&request, Lan::ADDRESS, server_mac(&lease.scenario.lan)?)
}

fn a_drop_at_ingress_does_not_end_a_lease(world: &World) -> Result {
    let lease = Renewing::new(world)?;
    let chain = "type filter hook ingress device eth0 priority 0; policy drop;";
    let rules = format!("add table netdev t; add chain netdev t c {{ {chain} }}");
    lease.container.output(&["nft", &rules])?;
    let request = lease.wait_for_another_renewal()?;
    ensure_asked_alone(&request, Lan::ADDRESS, server_mac(&lease.scenario.lan)?)
}

fn a_bridge_in_the_container_does_not_end_a_lease(world: &World) -> Result {
    let lease = Renewing::new(world)?;
    lease.container.add_bridge("br0")?;
    lease.container.set_up("br0")?;
    lease.container.add_bridge_port("br0", "eth0")?;
    let request = lease.wait_for_another_renewal()?;
    ensure_asked_alone(&request, Lan::ADDRESS, server_mac(&lease.scenario.lan)?)
}

fn a_program_on_the_clients_port_does_not_end_a_lease(world: &World) -> Result {
    let lease = Renewing::new(world)?;
    let program = lease
        .container
        .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))??;
    lease.wait_for_another_renewal()?;
    drop(program);
    Ok(())
}

fn a_containers_own_dhcp_client_and_server_make_no_difference_to_its_lease(
    world: &World,
) -> Result {
    let lease = Renewing::new(world)?;
    let (container, server) = (&lease.container, &lease.server);
    let leased = address(container)?;
    let config = Config {
        pool: [10, 99, 0, 200].into()..=[10, 99, 0, 210].into(),
        ..Config::default()
    };
    let _dnsmasq = DNSMASQ.start(world, container, &config)?;
    // Its script changes nothing, so the interface keeps the address that it has.
    let mut udhcpc = Command::new("busybox");
    udhcpc.args(["udhcpc", "-f", "-i", "eth0", "-s", "/bin/true"]);
    let udhcpc = Process::spawn(world, container, "containers-udhcpc", udhcpc)?;
    until("the container's own client has a lease", SOON, || {
        server.leases().len() == 2
    })
    .with_context(|| format!("{}\n{}", udhcpc.log(), server.transcript()))?;

    let request = lease.wait_for_another_renewal()?;
    ensure_asked_alone(&request, Lan::ADDRESS, server_mac(&lease.scenario.lan)?)?;
    ensure!(
        address(container)? == leased,
        "{:?}",
        container.ipv4("eth0")
    );
    lease.del()?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(*release.source.ip() == leased, "{release:?}");
    let leases = server.leases();
    ensure!(
        leases.len() == 1 && leases[0].address != leased,
        "the container's own client keeps its lease: {leases:?}"
    );
    Ok(())
}

fn the_containers_routes_and_neighbours_do_not_matter_to_a_renewal(world: &World) -> Result {
    let lease = Renewing::new(world)?;
    let server = Lan::ADDRESS.to_string();
    for change in [
        ["route", "flush", "table", "main"].as_slice(),
        &["route", "add", "blackhole", &server],
        // As if the neighbour table were full, or somebody had spoilt it.
        &[
            "neighbour",
            "replace",
            &server,
            "lladdr",
            "02:00:00:00:00:99",
            "dev",
            "eth0",
            "nud",
            "permanent",
        ],
    ] {
        lease.container.output(&[&["ip"], change].concat())?;
    }
    let request = lease.wait_for_another_renewal()?;
    ensure_asked_alone(&request, Lan::ADDRESS, server_mac(&lease.scenario.lan)?)
}

/// The relay's MAC is the LAN's; the server is in another network.
fn a_server_behind_a_relay_is_asked_at_t1_without_a_default_route(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let far = Ipv4Addr::new(192, 168, 77, 1);
    let settings = Settings {
        address: far,
        ..early_t1()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let without_default_route = scenario.dhcp_with(json!({ "suppress": ["gateway"] }));
    Network::new(&scenario.lan.host, without_default_route).add(&Attachment::new(&container))?;
    let renewal = server.wait_for(MessageType::Request, 2, SOON)?;
    ensure_asked_alone(&renewal, far, server_mac(&scenario.lan)?)?;
    scenario.wait_for_renewal()
}

/// Replaces the MAC of the server's link, as if another machine had taken over.
fn replace_server(lease: &Renewing) -> Result<DhcpServer> {
    let lan = &lease.scenario.lan.lan;
    lease
        .server
        .when(MessageType::Request)
        .then(Reaction::silence());
    let link = ["ip", "link", "set", Lan::SERVER_LINK];
    lan.output(&[&link[..], &["address", "02:00:00:00:00:77"]].concat())?;
    DhcpServer::start(
        lan,
        Settings {
            strangers: Strangers::Adopt,
            ..early_t1()
        },
    )
}

fn a_server_with_a_new_mac_is_found_by_arp_and_gets_the_release(world: &World) -> Result {
    let lease = Renewing::new(world)?;
    let server = replace_server(&lease)?;
    until("the lease is renewed", SOON, || {
        lease.scenario.daemon.log().contains("lease renewed")
    })
    .with_context(|| server.transcript())?;
    let new_mac = server_mac(&lease.scenario.lan)?;
    let renewals = server.received_of(MessageType::Request);
    let renewal = renewals.last().context("a REQUEST")?;
    ensure_asked_alone(renewal, Lan::ADDRESS, new_mac)?;
    lease.del()?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure_asked_alone(&release, Lan::ADDRESS, new_mac)
}

/// A lease that another server than the one that gave it has extended at T2, from another MAC.
struct Extended {
    container: Node,
    other_machine: Node,
    other: DhcpServer,
    /// It hears a RELEASE that goes to it by mistake.
    _first: DhcpServer,
}

const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

impl Extended {
    fn new(scenario: &Scenario) -> Result<Extended> {
        let settings = Settings {
            t1: Some(Duration::from_secs(1)),
            t2: Some(Duration::from_secs(2)),
            ..Settings::default()
        };
        let first = DhcpServer::start(&scenario.lan.lan, settings)?;
        let container = scenario.lan.container("c1")?;
        let network = Network::new(&scenario.lan.host, scenario.dhcp());
        network.add(&Attachment::new(&container))?;
        let other_machine = node_on_the_lan(scenario, "other")?;
        let settings = Settings {
            address: OTHER_SERVER,
            strangers: Strangers::Adopt,
            ..Settings::default()
        };
        let other = DhcpServer::start(&other_machine, settings)?;
        first.when(MessageType::Request).then(Reaction::silence());
        scenario.wait_for_renewal()?;
        Ok(Extended {
            container,
            other_machine,
            other,
            _first: first,
        })
    }

    /// The MAC of the server that extended the lease.
    fn other_mac(&self) -> Result<Mac> {
        let link = self.other_machine.link(Lan::SERVER_LINK)?;
        link.mac.context("an Ethernet link")
    }

    /// Detaches the container. The RELEASE must go to the server that extended the lease.
    fn ensure_released_to_other(&self, network: &Network<'_>) -> Result {
        network.del(&Attachment::new(&self.container))?;
        let release = self.other.wait_for(MessageType::Release, 1, SOON)?;
        ensure_asked_alone(&release, OTHER_SERVER, self.other_mac()?.octets())
    }
}

fn a_release_goes_to_the_server_that_extended_the_lease_last(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let lease = Extended::new(&scenario)?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    lease.ensure_released_to_other(&network)
}

fn a_restarted_daemon_releases_to_the_server_that_extended_the_lease_last(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let lease = Extended::new(&scenario)?;
    let mac = lease.other_mac()?.to_string();
    let written = || -> Result<bool> {
        let file = lease_files()?.pop().context("a lease file")?;
        let lease: Value = serde_json::from_slice(&fs::read(file)?)?;
        Ok(lease["serverMac"] == mac)
    };
    until("the server's new MAC is on disk", SOON, || {
        written().unwrap_or(false)
    })?;
    let conflist = scenario.dhcp();
    let Scenario { lan, daemon } = scenario;
    daemon.kill()?;
    let _daemon = Daemon::start(world, &lan.host)?;
    lease.ensure_released_to_other(&Network::new(&lan.host, conflist))
}

fn an_address_that_is_leased_again_at_once_stays_with_its_routes(world: &World) -> Result {
    let lease = Renewing::new(world)?;
    let container = &lease.container;
    let leased = address(container)?;
    container.output(&[
        "ip",
        "route",
        "add",
        "198.51.100.0/24",
        "via",
        "10.99.0.1",
        "src",
        &leased.to_string(),
    ])?;
    lease
        .server
        .when(MessageType::Request)
        .once()
        .then(Reaction::nak());
    until("the address is leased again", SOON, || {
        lease
            .scenario
            .daemon
            .log()
            .contains("the same address leased again")
    })
    .with_context(|| lease.scenario.daemon.log())?;
    ensure!(
        address(container)? == leased,
        "{:?}",
        container.ipv4("eth0")
    );
    let routes = container.routes()?;
    ensure!(
        routes
            .iter()
            .any(|route| route.dst.to_string() == "198.51.100.0/24"),
        "{routes:?}"
    );
    Ok(())
}
