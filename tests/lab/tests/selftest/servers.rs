//! Real servers come up, lease, and are seen to take back.

use std::time::Duration;

use lab::{
    Lan, Result, Test, World,
    anyhow::Context,
    servers::{Config, Kind},
    suite::packages,
    test, until,
};

use crate::client::Client;

pub(crate) const TESTS: &[Test] = &[
    test!(dnsmasq_leases_and_takes_back).needs(&[packages::DNSMASQ]),
    test!(kea_leases_and_takes_back).needs(&[packages::KEA]),
    test!(isc_dhcpd_leases_and_takes_back).needs(&[packages::ISC_DHCPD]),
    test!(udhcpd_leases_and_takes_back).needs(&[packages::UDHCPD]),
    test!(a_server_that_does_not_come_up_shows_its_log).needs(&[packages::DNSMASQ]),
];

const SOON: Duration = Duration::from_secs(5);

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
    let lan = Lan::new()?;
    let config = Config {
        t1: Some(Duration::from_secs(50)),
        t2: Some(Duration::from_secs(80)),
        ..Config::default()
    };
    let server = kind.start(world, &lan.lan, &config)?;
    let mut client = Client::new(&lan.host)?;
    let ack = client.acquire().with_context(|| server.log())?;
    assert!(config.pool.contains(&ack.yiaddr()), "{ack:?}");
    until("the lease is on file", SOON, || server.holds(ack.yiaddr()))
        .with_context(|| server.leases())?;
    client.release(&ack, &lan.host)?;
    until("the lease is given back", SOON, || {
        !server.holds(ack.yiaddr())
    })
    .with_context(|| server.log())
}

fn a_server_that_does_not_come_up_shows_its_log(world: &World) -> Result {
    let lan = Lan::new()?;
    let config = Config {
        extra: vec!["--no-such-option".to_owned()],
        ..Config::default()
    };
    let error = Kind::Dnsmasq
        .start(world, &lan.lan, &config)
        .err()
        .context("it came up")?;
    let error = format!("{error:#}");
    assert!(
        error.starts_with("dnsmasq ended with exit status: 1 before: it serves"),
        "{error}"
    );
    assert!(error.contains("bad command line options"), "{error}");
    Ok(())
}
