//! The same life against the DHCP servers that people run.

use std::time::Duration;

use lab::anyhow::ensure;
use lab::servers::{Config, Kind};
use lab::suite::packages;
use lab::{Lan, Network, Result, Test, World, network, test, until};

use crate::scenario::{SOON, Scenario, default_gateways, ensure_nothing_left, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(dnsmasq_leases_and_takes_back).needs(&[packages::DNSMASQ]),
    test!(kea_leases_and_takes_back).needs(&[packages::KEA]),
    test!(isc_dhcpd_leases_and_takes_back).needs(&[packages::ISC_DHCPD]),
    test!(udhcpd_leases_and_takes_back).needs(&[packages::UDHCPD]),
    test!(dnsmasq_logs_a_renewal_at_t1).needs(&[packages::DNSMASQ]),
    test!(kea_logs_a_renewal_at_t1).needs(&[packages::KEA]),
];

fn dnsmasq_leases_and_takes_back(world: &World) -> Result {
    leases_and_takes_back(world, Kind::Dnsmasq)
}

fn kea_leases_and_takes_back(world: &World) -> Result {
    leases_and_takes_back(world, Kind::Kea)
}

fn isc_dhcpd_leases_and_takes_back(world: &World) -> Result {
    leases_and_takes_back(world, Kind::IscDhcpd)
}

fn udhcpd_leases_and_takes_back(world: &World) -> Result {
    leases_and_takes_back(world, Kind::Udhcpd)
}

fn leases_and_takes_back(world: &World, kind: Kind) -> Result {
    let scenario = Scenario::new(world)?;
    let server = kind.start(world, &scenario.lan.lan, &Config::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);

    let leased = reported(&network.add(&attachment)?, &container)?;
    ensure!(
        default_gateways(&container)? == [std::net::IpAddr::V4(Lan::ADDRESS)],
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

fn dnsmasq_logs_a_renewal_at_t1(world: &World) -> Result {
    let config = Config {
        t1: Some(Duration::from_secs(5)),
        t2: Some(Duration::from_secs(15)),
        ..Config::default()
    };
    renews_at_t1(world, Kind::Dnsmasq, &config, |log| {
        log.matches("DHCPACK").count() >= 2
    })
}

fn kea_logs_a_renewal_at_t1(world: &World) -> Result {
    let config = Config {
        lease_time: Duration::from_secs(8),
        t1: Some(Duration::from_secs(2)),
        t2: Some(Duration::from_secs(6)),
        ..Config::default()
    };
    renews_at_t1(world, Kind::Kea, &config, |log| {
        log.matches("DHCP4_LEASE_ALLOC").count() >= 2
    })
}

fn renews_at_t1(
    world: &World,
    kind: Kind,
    config: &Config,
    renewed: impl Fn(&str) -> bool,
) -> Result {
    let scenario = Scenario::new(world)?;
    let server = kind.start(world, &scenario.lan.lan, config)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    let leased = reported(&network.add(&attachment)?, &container)?;
    until(
        "the server has logged a renewal",
        Duration::from_secs(10),
        || renewed(&server.log()),
    )?;
    ensure!(server.holds(leased), "{}", server.leases());
    network.check(&attachment)?;
    network.del(&attachment)?;
    until("the server has taken the lease back", SOON, || {
        !server.holds(leased)
    })?;
    Ok(())
}
