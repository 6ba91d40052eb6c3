//! A container's life on the LAN, against the lab's own DHCP server, which answers at once.

use std::net::IpAddr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::serde_json::json;
use lab::{DhcpServer, Lan, Network, Result, Test, World, network, test, until};

use crate::scenario::{
    SOON, Scenario, address, decoded, default_gateways, ensure_nothing_left, reported,
};

pub(crate) const TESTS: &[Test] = &[
    test!(add_check_and_del_leave_the_container_as_it_was),
    test!(containers_reach_each_other_and_the_lan),
    test!(a_renewal_at_t1_is_unicast_from_the_leased_address),
    test!(an_expired_lease_is_removed_and_a_new_one_acquired),
    test!(after_a_nak_the_address_is_removed_and_another_is_leased),
    test!(del_can_be_repeated_and_needs_no_netns),
    test!(the_result_has_the_servers_dns_and_the_interfaces_mtu),
    test!(two_interfaces_of_one_container_have_leases_of_their_own),
    test!(a_second_add_is_refused_and_keeps_the_interface),
    test!(the_default_client_identifier_equals_the_go_plugins),
];

fn add_check_and_del_leave_the_container_as_it_was(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);

    let result = network.add(&attachment)?;
    let leased = reported(&result, &container)?;
    ensure!(
        server.leases().iter().any(|lease| lease.address == leased),
        "the server knows of no lease: {:?}",
        server.leases()
    );
    ensure!(
        default_gateways(&container)? == [IpAddr::V4(Lan::ADDRESS)],
        "{:?}",
        container.routes()?
    );
    let link = container.link("eth0")?;
    ensure!(
        result["interfaces"][0]["mac"] == link.mac.context("a MAC")?.to_string().as_str(),
        "{result}"
    );
    ensure!(
        result["interfaces"][0]["sandbox"] == container.path().display().to_string().as_str(),
        "{result}"
    );
    network.check(&attachment)?;

    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(
        *release.source.ip() == leased,
        "a RELEASE must come from the leased address: {release:?}"
    );
    ensure!(decoded(&release)?.ciaddr() == leased, "{release:?}");
    Ok(())
}

fn containers_reach_each_other_and_the_lan(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let containers = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    for container in &containers {
        network.add(&network::Attachment::new(container))?;
    }
    let [one, two] = &containers;
    one.ping(Lan::ADDRESS.into(), SOON)?;
    one.ping(address(two)?.into(), SOON)?;
    two.ping(address(one)?.into(), SOON)?;
    scenario.lan.lan.ping(address(two)?.into(), SOON)?;
    Ok(())
}

fn a_renewal_at_t1_is_unicast_from_the_leased_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&container))?;
    let leased = address(&container)?;
    for nth in 2..=3 {
        let renewal = server.wait_for(MessageType::Request, nth, Duration::from_secs(6))?;
        ensure!(*renewal.source.ip() == leased, "{renewal:?}");
        ensure!(*renewal.destination.ip() == Lan::ADDRESS, "{renewal:?}");
        ensure!(decoded(&renewal)?.ciaddr() == leased, "{renewal:?}");
        ensure!(
            decoded(&renewal)?
                .opts()
                .get(OptionCode::ServerIdentifier)
                .is_none(),
            "RFC 2131 §4.3.6: {renewal:?}"
        );
    }
    ensure!(
        address(&container)? == leased,
        "the address stays through renewals"
    );
    Ok(())
}

fn an_expired_lease_is_removed_and_a_new_one_acquired(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        lease_time: Some(Duration::from_secs(6)),
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;

    server
        .when(MessageType::Request)
        .then(lab::dhcp_server::Reaction::silence());
    server
        .when(MessageType::Discover)
        .then(lab::dhcp_server::Reaction::silence());
    until(
        "the expired address is removed",
        Duration::from_secs(10),
        || {
            container
                .ipv4("eth0")
                .is_ok_and(|addresses| addresses.is_empty())
        },
    )?;
    ensure!(
        network.check(&attachment).is_err(),
        "CHECK passes without an address"
    );
    let rebinding = server.received_of(MessageType::Request);
    ensure!(
        rebinding
            .iter()
            .any(|packet| packet.destination.ip().is_broadcast()
                && packet
                    .message
                    .as_ref()
                    .is_ok_and(|message| !message.ciaddr().is_unspecified())),
        "no REQUEST was broadcast at T2:\n{}",
        server.transcript()
    );

    server.behave();
    until("a new address is leased", Duration::from_secs(20), || {
        address(&container).is_ok()
    })?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn after_a_nak_the_address_is_removed_and_another_is_leased(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&container))?;
    let first = address(&container)?;

    server.reconfigure(|settings| {
        settings.pool = "10.99.0.200".parse().unwrap()..="10.99.0.210".parse().unwrap();
    });
    server
        .when(MessageType::Request)
        .once()
        .then(lab::dhcp_server::Reaction::nak());
    server.forget();
    until("the address is another", Duration::from_secs(15), || {
        address(&container).is_ok_and(|now| now != first)
    })?;
    until("the default route is back", SOON, || {
        default_gateways(&container).is_ok_and(|gateways| gateways == [IpAddr::V4(Lan::ADDRESS)])
    })?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn del_can_be_repeated_and_needs_no_netns(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    for _ in 0..2 {
        network.del(&attachment)?;
    }
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;
    // containerd and Multus call DEL once more when the netns is gone, with an empty CNI_NETNS.
    network.del(&network::Attachment {
        netns: None,
        ..network::Attachment::new(&container)
    })?;
    let gone = network::Attachment {
        netns: Some("/run/netns/never-was".into()),
        ..network::Attachment::new(&container)
    };
    network.del(&gone)?;
    Ok(())
}

fn the_result_has_the_servers_dns_and_the_interfaces_mtu(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        options: vec![
            DhcpOption::Router(vec![Lan::ADDRESS]),
            DhcpOption::DomainNameServer(vec![Lan::ADDRESS]),
            DhcpOption::DomainName("lan.example".into()),
        ],
        ..Settings::default()
    };
    let _server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    let mut conflist = scenario.dhcp();
    conflist["cniVersion"] = json!("1.1.0");
    let result =
        Network::new(&scenario.lan.host, conflist).add(&network::Attachment::new(&container))?;
    ensure!(
        result["dns"] == json!({ "nameservers": ["10.99.0.1"], "domain": "lan.example" }),
        "{result}"
    );
    ensure!(result["interfaces"][0]["mtu"] == 1500, "{result}");

    // Explicit configuration wins over what the server says.
    let other = scenario.lan.container("c2")?;
    let mut conflist = scenario.dhcp();
    conflist["plugins"][0]["dns"] = json!({ "nameservers": ["192.0.2.53"] });
    let result =
        Network::new(&scenario.lan.host, conflist).add(&network::Attachment::new(&other))?;
    ensure!(
        result["dns"] == json!({ "nameservers": ["192.0.2.53"] }),
        "{result}"
    );
    Ok(())
}

fn two_interfaces_of_one_container_have_leases_of_their_own(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let first = network::Attachment::new(&container);
    let second = network::Attachment {
        ifname: "net1".into(),
        ..network::Attachment::new(&container)
    };
    network.add(&first)?;
    // With a metric the second default route comes after the first one, without it before.
    let mut conflist = scenario.dhcp_with(json!({ "priority": 200 }));
    conflist["name"] = json!("lan2");
    let other = Network::new(&scenario.lan.host, conflist);
    other.add(&second)?;
    ensure!(server.leases().len() == 2, "{:?}", server.leases());
    network.del(&first)?;
    until("one lease is given back", SOON, || {
        server.leases().len() == 1
    })?;
    ensure!(
        container.ipv4("net1")?.len() == 1,
        "the other interface keeps its address"
    );
    other.del(&second)?;
    until("both are given back", SOON, || server.leases().is_empty())?;
    ensure_nothing_left(&container)
}

fn a_second_add_is_refused_and_keeps_the_interface(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let leased = address(&container)?;
    let error = network::cni_error(network.add(&attachment));
    ensure!(error.msg.contains("eth0"), "{error:?}");
    ensure!(
        address(&container)? == leased,
        "a refused ADD changes nothing"
    );
    network.check(&attachment)?;
    Ok(())
}

fn the_default_client_identifier_equals_the_go_plugins(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    network.del(&attachment)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    let expected = [b"\0".as_slice(), b"c1/lan/eth0"].concat();
    for packet in server.received() {
        let sent = decoded(&packet)?.opts().get(OptionCode::ClientIdentifier);
        ensure!(
            sent == Some(&DhcpOption::ClientIdentifier(expected.clone())),
            "{packet:?}"
        );
    }
    Ok(())
}
