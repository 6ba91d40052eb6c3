//! Servers that do what they should not, and networks that lose what they should not.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::serde_json::{Value, json};
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};

use crate::scenario::{
    SOON, Scenario, address, decoded, default_gateways, ensure_nothing_left, reported,
};

pub(super) const TESTS: &[Test] = &[
    test!(the_error_of_a_failed_add_says_which_answers_were_ignored),
    test!(an_unanswered_message_is_sent_again_at_each_step),
    test!(a_late_offer_is_accepted),
    test!(a_server_that_does_not_name_itself_is_used),
    test!(an_offer_without_a_lease_time_is_accepted),
    test!(what_an_ack_lacks_is_taken_from_the_offer_and_from_the_lease),
    test!(a_guessed_mask_is_a_warning),
    test!(overloaded_options_are_read),
    test!(duplicate_acks_change_nothing),
    test!(an_offer_with_the_rapid_commit_option_is_only_an_offer),
    test!(rapid_commit_takes_one_round_trip),
    test!(an_unexpected_nak_is_ignored),
    test!(of_an_answer_only_the_malformed_options_are_ignored),
    test!(servers_can_be_allowed_and_denied),
    test!(of_two_servers_one_is_chosen_and_the_other_notified),
    test!(an_exhausted_pool_is_reported_as_no_answer),
];

fn the_error_of_a_failed_add_says_which_answers_were_ignored(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "timeout": "600ms" })),
    );
    let offers: [(Reaction, &str); 5] = [
        (
            Reaction::answer().wrong_chaddr(),
            "1 offer ignored: wrong chaddr",
        ),
        (
            Reaction::answer().wrong_xid(),
            "1 offer ignored: wrong transaction id",
        ),
        (
            Reaction::answer().edit(|message| {
                message.set_yiaddr([127, 0, 0, 1]);
            }),
            "1 offer ignored: no usable address",
        ),
        (
            Reaction::answer().edit(|message| {
                message.opts_mut().insert(DhcpOption::AddressLeaseTime(0));
            }),
            "1 offer ignored: a lease time of zero",
        ),
        (
            Reaction::answer().mangle(|payload| payload.truncate(100)),
            "1 frame ignored: too short",
        ),
    ];
    for (reaction, expected) in offers {
        server.behave();
        server.when(MessageType::Discover).then(reaction);
        // On a busy machine an answer may come after the ADD has given up.
        let error = until("an answer comes in time", SOON, || {
            let error = network::cni_error(network.add(&Attachment::new(&container)));
            (!error.details.contains("received no reply")).then_some(error)
        })?;
        ensure!(error.code == 11, "{error:?}");
        ensure!(
            error.details.contains("sent 1 DISCOVER, received 1 frame;"),
            "{error:?}"
        );
        ensure!(error.details.contains(expected), "{expected}: {error:?}");
        ensure_nothing_left(&container)?;
    }
    server.behave();
    server.when(MessageType::Request).then(Reaction::nak());
    until("the error has the NAK", SOON, || {
        let error = network::cni_error(network.add(&Attachment::new(&container)));
        let nak = "NAK from 10.99.0.1: \"no lease of that address\"";
        error.details.contains(nak)
    })?;
    Ok(())
}

fn an_unanswered_message_is_sent_again_at_each_step(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    server
        .when(MessageType::Discover)
        .once()
        .then(Reaction::silence());
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::silence());
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    ensure!(
        server.received_of(MessageType::Discover).len() >= 2,
        "{}",
        server.transcript()
    );

    // RENEWING is not answered, REBINDING is.
    let before = server.received_of(MessageType::Request).len();
    server
        .when(MessageType::Request)
        .times(1)
        .then(Reaction::silence());
    let renewing = server.wait_for(MessageType::Request, before + 1, SOON)?;
    ensure!(*renewing.destination.ip() == Lan::ADDRESS, "{renewing:?}");
    scenario.wait_for_renewal()?;
    ensure!(
        address(&container)? == leased,
        "{:?}",
        container.ipv4("eth0")?
    );
    Ok(())
}

/// An ADD, which succeeds, against a server that reacts like this to messages of one kind.
fn added_with(
    world: &World,
    kind: MessageType,
    reaction: Reaction,
) -> Result<(Scenario, DhcpServer, Node, Value)> {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.when(kind).then(reaction);
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let result = network.add(&attachment)?;
    reported(&result, &container)?;
    network.check(&attachment)?;
    Ok((scenario, server, container, result))
}

fn a_late_offer_is_accepted(world: &World) -> Result {
    let reaction = Reaction::answer().late(Duration::from_millis(1700));
    let (_scenario, server, ..) = added_with(world, MessageType::Discover, reaction)?;
    // Another DISCOVER had been sent by then, under the same id.
    let discovers = server.received_of(MessageType::Discover);
    ensure!(discovers.len() >= 2, "{}", server.transcript());
    let ids: Vec<u32> = discovers
        .iter()
        .map(|packet| decoded(packet).map(lab::dhcproto::v4::Message::xid))
        .collect::<Result<_>>()?;
    ensure!(ids.iter().all(|id| *id == ids[0]), "{ids:x?}");
    Ok(())
}

fn a_server_that_does_not_name_itself_is_used(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    for (name, id) in [("c1", None), ("c2", Some(Ipv4Addr::UNSPECIFIED))] {
        let anonymous = Reaction::answer().edit(move |message| {
            let options = message.opts_mut();
            options.remove(OptionCode::ServerIdentifier);
            if let Some(id) = id {
                options.insert(DhcpOption::ServerIdentifier(id));
            }
        });
        server.behave();
        for kind in [MessageType::Discover, MessageType::Request] {
            server.when(kind).then(anonymous.clone());
        }
        let before = server.received_of(MessageType::Request).len();
        let container = scenario.lan.container(name)?;
        let attachment = Attachment::new(&container);
        network.add(&attachment)?;
        let request = server.wait_for(MessageType::Request, before + 1, SOON)?;
        ensure!(
            request.option(OptionCode::ServerIdentifier).is_none(),
            "{request:?}"
        );
        let renewal = server.wait_for(MessageType::Request, before + 2, SOON)?;
        ensure!(*renewal.destination.ip() == Lan::ADDRESS, "{renewal:?}");
        network.del(&attachment)?;
        until("the lease is given back", SOON, || {
            server.leases().is_empty()
        })?;
    }
    Ok(())
}

fn an_offer_without_a_lease_time_is_accepted(world: &World) -> Result {
    let offer = Reaction::answer().without(OptionCode::AddressLeaseTime);
    added_with(world, MessageType::Discover, offer).map(drop)
}

/// Leases that are renewed after a second.
fn brief() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

/// An ACK without any configuration.
fn bare_ack() -> Reaction {
    [
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::DomainNameServer,
        OptionCode::AddressLeaseTime,
        OptionCode::Renewal,
    ]
    .into_iter()
    .fold(Reaction::answer(), Reaction::without)
}

fn what_an_ack_lacks_is_taken_from_the_offer_and_from_the_lease(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, brief())?;
    server.when(MessageType::Request).then(bare_ack());
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let result = network.add(&attachment)?;
    let as_offered = || -> Result {
        ensure!(
            container.ipv4("eth0")?[0].prefix_len() == Lan::NET.prefix_len(),
            "{:?}",
            container.ipv4("eth0")?
        );
        let gateways = default_gateways(&container)?;
        ensure!(gateways == [IpAddr::V4(Lan::ADDRESS)], "{gateways:?}");
        network.check(&attachment)
    };
    ensure!(
        result["dns"]["nameservers"] == json!([Lan::ADDRESS]),
        "{result}"
    );
    as_offered()?;
    scenario.wait_for_renewal()?;
    as_offered()
}

fn a_guessed_mask_is_a_warning(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    for kind in [MessageType::Discover, MessageType::Request] {
        let maskless = Reaction::answer().without(OptionCode::SubnetMask);
        server.when(kind).then(maskless);
    }
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let add = network.prepare("ADD", 0, &Attachment::new(&container), None)?;
    let outcome = add.run(&scenario.lan.host)?;
    let said = "c1/lan/eth0: the server sent no subnet mask, so /8 is a guess\n";
    ensure!(outcome.stderr.contains(said), "{outcome:?}");
    let result = outcome.success()?;
    ensure!(result["leasehold/warnings"].is_null(), "{result}");
    let log = scenario.daemon.log();
    let warned = |line: &str| line.contains("WARN") && line.contains("/8 is a guess");
    ensure!(log.lines().any(warned), "{log}");
    Ok(())
}

fn overloaded_options_are_read(world: &World) -> Result {
    let (_scenario, _server, container, result) =
        added_with(world, MessageType::Request, Reaction::answer().overloaded())?;
    ensure!(
        result["dns"]["nameservers"] == json!(["10.99.0.1"]),
        "{result}"
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn duplicate_acks_change_nothing(world: &World) -> Result {
    let (scenario, server, ..) =
        added_with(world, MessageType::Request, Reaction::answer().copies(3))?;
    ensure!(server.leases().len() == 1, "{:?}", server.leases());
    ensure!(
        server.received_of(MessageType::Request).len() == 1,
        "{}",
        server.transcript()
    );
    ensure!(
        scenario.daemon.log().matches("address leased").count() == 1,
        "{}",
        scenario.daemon.log()
    );
    Ok(())
}

fn an_offer_with_the_rapid_commit_option_is_only_an_offer(world: &World) -> Result {
    let parrot = Reaction::answer().edit(|message| {
        message.opts_mut().insert(DhcpOption::RapidCommit);
    });
    let (_scenario, server, ..) = added_with(world, MessageType::Discover, parrot)?;
    ensure!(
        server.received_of(MessageType::Request).len() == 1,
        "{}",
        server.transcript()
    );
    Ok(())
}

fn rapid_commit_takes_one_round_trip(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        rapid_commit: true,
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    for (name, keys, requests) in [
        ("c1", json!({}), 0),
        ("c2", json!({ "rapidCommit": false }), 1),
    ] {
        let container = scenario.lan.container(name)?;
        let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
        reported(&network.add(&Attachment::new(&container))?, &container)?;
        ensure!(
            server.received_of(MessageType::Request).len() == requests,
            "{}",
            server.transcript()
        );
    }
    Ok(())
}

fn an_unexpected_nak_is_ignored(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(3)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    // To a DISCOVER, and in RENEWING from another server than the one asked.
    server
        .when(MessageType::Discover)
        .once()
        .then(Reaction::nak());
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::nak().edit(|message| {
            message
                .opts_mut()
                .insert(DhcpOption::ServerIdentifier([10, 99, 0, 66].into()));
        }));
    let before = server.received_of(MessageType::Request).len();
    server.wait_for(MessageType::Request, before + 2, SOON)?;
    scenario.wait_for_renewal()?;
    ensure!(
        address(&container)? == leased,
        "{:?}",
        container.ipv4("eth0")?
    );
    ensure!(
        !scenario.daemon.log().contains("address lost"),
        "{}",
        scenario.daemon.log()
    );
    Ok(())
}

fn of_an_answer_only_the_malformed_options_are_ignored(world: &World) -> Result {
    let bad = Reaction::answer()
        .edit(|message| {
            message.opts_mut().insert(DhcpOption::InterfaceMtu(1400));
            message
                .opts_mut()
                .insert(DhcpOption::DomainName("$(reboot)".into()));
        })
        .bad_length(OptionCode::InterfaceMtu)
        .bad_length(OptionCode::DomainNameServer);
    let (_scenario, _server, container, result) = added_with(world, MessageType::Request, bad)?;
    ensure!(
        container.link("eth0")?.mtu == 1500,
        "{:?}",
        container.link("eth0")?
    );
    ensure!(result["dns"].get("domain").is_none(), "{result}");
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}

fn servers_can_be_allowed_and_denied(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let [_good, _rogue] = two_servers(&scenario)?;
    for (name, keys, from) in [
        ("c1", json!({ "servers": { "allow": ["10.99.0.2"] } }), 200),
        ("c2", json!({ "servers": { "deny": ["10.99.0.2"] } }), 100),
    ] {
        let container = scenario.lan.container(name)?;
        let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
        network.add(&Attachment::new(&container))?;
        ensure!(
            address(&container)?.octets()[3] / 100 * 100 == from,
            "{:?}",
            container.ipv4("eth0")?
        );
    }
    let container = scenario.lan.container("c3")?;
    let keys = json!({ "servers": { "deny": ["10.99.0.1", "10.99.0.2"] }, "timeout": "600ms" });
    let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
    until(
        "both servers' offers come in time and are ignored",
        SOON,
        || {
            let error = network::cni_error(network.add(&Attachment::new(&container)));
            ["10.99.0.1", "10.99.0.2"].iter().all(|server| {
                let ignored = format!("1 offer ignored: server {server} not allowed");
                error.details.contains(&ignored)
            })
        },
    )?;
    Ok(())
}

/// One that leases from .100, and one that leases from .200.
fn two_servers(scenario: &Scenario) -> Result<[DhcpServer; 2]> {
    let settings = Settings {
        address: [10, 99, 0, 2].into(),
        pool: [10, 99, 0, 200].into()..=[10, 99, 0, 210].into(),
        ..Settings::default()
    };
    let good = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    Ok([good, DhcpServer::start(&scenario.lan.lan, settings)?])
}

fn of_two_servers_one_is_chosen_and_the_other_notified(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let servers = two_servers(&scenario)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let leased = address(&container)?;
    let leases: Vec<_> = servers.iter().flat_map(DhcpServer::leases).collect();
    ensure!(
        leases.len() == 1 && leases[0].address == leased,
        "{leases:?}"
    );
    // The REQUEST that takes the one offer is how the other server learns of it.
    for server in &servers {
        let request = server.wait_for(MessageType::Request, 1, SOON)?;
        ensure!(request.destination.ip().is_broadcast(), "{request:?}");
        request
            .option(OptionCode::ServerIdentifier)
            .context("the chosen server")?;
    }
    Ok(())
}

fn an_exhausted_pool_is_reported_as_no_answer(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let pool = [10, 99, 0, 100].into()..=[10, 99, 0, 100].into();
    let _server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            pool,
            ..Settings::default()
        },
    )?;
    let [one, other] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let impatient = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "timeout": "600ms" })),
    );
    network.add(&Attachment::new(&one))?;
    let error = network::cni_error(impatient.add(&Attachment::new(&other)));
    ensure!(
        error.code == 11 && error.details.contains("received no reply"),
        "{error:?}"
    );
    ensure_nothing_left(&other)?;
    // Room is made, and it works.
    network.del(&Attachment::new(&one))?;
    network.add(&Attachment::new(&other))?;
    Ok(())
}
