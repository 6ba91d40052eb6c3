//! Each server of [`lab::servers::ALL`] comes up, leases, and is seen to take back.

use std::time::Duration;

use lab::{
    Lan, Result, Test, World,
    anyhow::Context,
    servers::{Config, DNSMASQ, Kind},
    test, tests_of_each, until,
};

use crate::client::Client;

pub(crate) fn tests() -> Vec<Test> {
    [
        tests_of_each!(leases_an_address_and_takes_it_back),
        vec![
            test!(a_server_that_does_not_come_up_shows_its_log).needs(const { &[DNSMASQ.package] }),
        ],
    ]
    .concat()
}

const SOON: Duration = Duration::from_secs(5);

fn leases_an_address_and_takes_it_back(world: &World, server: &'static Kind) -> Result {
    let lan = Lan::new()?;
    let config = Config {
        t1: Some(Duration::from_secs(50)),
        t2: Some(Duration::from_secs(80)),
        ..Config::default()
    };
    let server = server.start(world, &lan.lan, &config)?;
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
    let error = DNSMASQ
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
