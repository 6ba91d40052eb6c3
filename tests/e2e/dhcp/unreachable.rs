//! Containers that no server answers, and what the error says about why.

use std::net::UdpSocket;
use std::process::Command;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::plugin::CniError;
use lab::serde_json::json;
use lab::servers::DNSMASQ;
use lab::{
    Attachment, DhcpServer, Lan, Network, Process, Result, Test, World, network, test, until,
};

use crate::macvlan::{given, plug};
use crate::scenario::{SOON, Scenario, conflist};

pub(super) const TESTS: &[Test] = &[
    test!(a_server_on_the_containers_own_host_is_named_as_a_cause),
    test!(a_server_on_the_containers_own_host_is_not_reached_by_host_access)
        .needs(&[DNSMASQ.package]),
    test!(a_lan_that_the_host_reaches_may_admit_only_one_mac),
    test!(a_parent_inside_the_container_is_named),
    test!(where_a_server_answers_nobody_is_asked_whether_there_is_one),
    test!(a_missing_carrier_is_reported_once),
    test!(a_carrier_that_came_during_an_add_is_not_reported_as_missing),
];

/// The error of an ADD that no server answers in time.
fn refused(scenario: &Scenario, name: &str) -> Result<CniError> {
    let container = scenario.lan.container(name)?;
    let conflist = scenario.dhcp_with(json!({ "timeout": "600ms" }));
    let outcome = Network::new(&scenario.lan.host, conflist).add(&Attachment::new(&container));
    Ok(network::cni_error(outcome))
}

fn a_server_on_the_containers_own_host_is_named_as_a_cause(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let cause = "A process on this host has UDP port 67";
    let error = refused(&scenario, "c1")?;
    ensure!(!error.details.contains(cause), "{error:?}");
    let _server = scenario.lan.host.run(|| UdpSocket::bind("0.0.0.0:67"))??;
    let error = refused(&scenario, "c2")?;
    ensure!(error.details.contains(cause), "{error:?}");
    Ok(())
}

/// The host has its own macvlan on the parent already, for another container.
fn a_server_on_the_containers_own_host_is_not_reached_by_host_access(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let Scenario { lan, daemon } = &scenario;
    let host = &lan.host;
    host.add_address(
        Lan::MASTER,
        "10.99.0.2/24".parse::<ipnet::Ipv4Net>()?.into(),
    )?;
    let host_access = json!({ "hostAccess": ["10.99.0.0/24"] });
    let result = json!({ "ips": [{ "address": "10.99.0.60/24" }] });
    let other = lan.container("c1")?;
    given(world, lan, conflist(host_access), &result)?.add(&Attachment::new(&other))?;
    other.ping("10.99.0.2".parse()?, SOON)?;

    let leases = world.dir().join("hosts-leases");
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq
        .args([
            "--no-daemon",
            "--user=root",
            "--conf-file=/dev/null",
            "--pid-file=",
        ])
        .args([
            "--log-facility=-",
            "--port=0",
            "--no-ping",
            "--dhcp-authoritative",
        ])
        .arg(format!("--interface={}", Lan::MASTER))
        .arg("--dhcp-range=10.99.0.200,10.99.0.210,2m")
        .arg(format!("--dhcp-leasefile={}", leases.display()));
    let dnsmasq = Process::spawn(world, host, "hosts-dnsmasq", dnsmasq)?;
    until("the host's server serves", SOON, || {
        dnsmasq.log().contains("DHCP, IP range")
    })
    .with_context(|| dnsmasq.log())?;

    let container = lan.container("c2")?;
    let ipam = json!({
        "type": "dhcp", "daemonSocketPath": daemon.socket(), "timeout": "600ms",
    });
    let keys = json!({ "hostAccess": ["10.99.0.0/24"], "ipam": ipam });
    let outcome = Network::new(host, conflist(keys)).add(&Attachment::new(&container));
    let error = network::cni_error(outcome);
    let cause = "A process on this host has UDP port 67: if it is the DHCP server, the container \
                 cannot reach it, because a macvlan and the host's own eth1 do not reach each \
                 other, and hostAccess does not pass broadcasts on to eth1";
    ensure!(
        error.code == 11 && error.details.contains(cause),
        "{error:?}"
    );
    Ok(())
}

fn a_lan_that_the_host_reaches_may_admit_only_one_mac(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let cause = "The host itself reaches 10.99.0.1 through eth1";
    let error = refused(&scenario, "c1")?;
    ensure!(!error.details.contains(cause), "{error:?}");
    let host = &scenario.lan.host;
    host.add_address(
        Lan::MASTER,
        "10.99.0.2/24".parse::<ipnet::Ipv4Net>()?.into(),
    )?;
    host.ping(Lan::ADDRESS.into(), SOON)?;
    let error = refused(&scenario, "c2")?;
    ensure!(error.details.contains(cause), "{error:?}");
    Ok(())
}

/// Its index may be another link's on the host.
fn a_parent_inside_the_container_is_named(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let container = scenario.lan.container("c1")?;
    plug(&scenario.lan, &container, "up0")?;
    let mut conflist = scenario.dhcp_with(json!({ "timeout": "600ms" }));
    conflist["plugins"][0]["master"] = json!("up0");
    conflist["plugins"][0]["linkInContainer"] = json!(true);
    let network = Network::new(&scenario.lan.host, conflist);
    let error = network::cni_error(network.add(&Attachment::new(&container)));
    ensure!(error.details.contains("eth0 (on up0) is up"), "{error:?}");
    Ok(())
}

fn where_a_server_answers_nobody_is_asked_whether_there_is_one(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let useless = Reaction::answer().edit(|message| {
        message.set_yiaddr([127, 0, 0, 1]);
    });
    server.when(MessageType::Discover).then(useless);
    let mut names = ["c1", "c2", "c3", "c4", "c5"].into_iter();
    until("an answer comes in time", SOON, || {
        let error = refused(&scenario, names.next().unwrap_or("late"));
        error.is_ok_and(|error| {
            error.details.contains("1 offer ignored: no usable address")
                && error.details.ends_with("is up and has a carrier")
        })
    })
}

fn a_missing_carrier_is_reported_once(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    scenario.lan.lan.set_down(Lan::SERVER_LINK)?;
    until("the carrier is gone", SOON, || {
        let parent = scenario.lan.host.link(Lan::MASTER);
        parent.is_ok_and(|parent| !parent.carrier)
    })?;
    let details = refused(&scenario, "c1")?.details;
    let text = "eth0 is up, but eth1 has no carrier: is the cable plugged in?";
    ensure!(details.contains(text), "{details}");
    ensure!(details.matches("carrier").count() == 1, "{details}");
    Ok(())
}

fn a_carrier_that_came_during_an_add_is_not_reported_as_missing(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let (host, lan) = (&scenario.lan.host, &scenario.lan.lan);
    let carrier = |wanted| {
        host.link(Lan::MASTER)
            .is_ok_and(|link| link.carrier == wanted)
    };
    lan.set_down(Lan::SERVER_LINK)?;
    until("the carrier is gone", SOON, || carrier(false))?;

    let container = scenario.lan.container("c1")?;
    let conflist = scenario.dhcp_with(json!({ "timeout": "4s" }));
    let network = Network::new(host, conflist);
    let add = network
        .prepare("ADD", 0, &Attachment::new(&container), None)?
        .start(host)?;
    until("the ADD waits for an address", SOON, || {
        container.link("eth0").is_ok()
    })?;
    lan.set_up(Lan::SERVER_LINK)?;
    until("the carrier is back", SOON, || carrier(true))?;
    let error = add.finish()?.error()?;
    ensure!(
        error.details.contains("has a carrier") && !error.details.contains("no carrier"),
        "{error:?}"
    );
    Ok(())
}
