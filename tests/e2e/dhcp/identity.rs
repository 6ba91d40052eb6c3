//! How servers recognize a container, and what it requests from them.

use std::path::Path;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::serde_json::{Value, json};
use lab::{Attachment, DhcpServer, Network, Node, Result, Test, World, network, test, until};
use linknet::Mac;

use super::{asked_for, client_id, named, requested};
use crate::scenario::{SOON, Scenario, address, reported};

pub(super) const TESTS: &[Test] = &[
    test!(a_container_recreated_under_its_name_keeps_its_mac_and_address),
    test!(the_client_identifier_is_the_same_in_all_messages_of_a_lease),
    test!(an_identity_by_name_is_refused_if_the_runtime_passes_no_name),
    test!(a_requested_address_is_sent_to_the_server),
    test!(a_requested_address_that_is_not_granted_is_in_stderr_and_in_the_daemons_log),
    test!(the_containers_name_is_sent_as_hostname_and_not_requested),
    test!(options_are_sent_as_configured),
];

fn a_container_recreated_under_its_name_keeps_its_mac_and_address(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let mut conflist = scenario.dhcp_with(json!({ "clientId": "name" }));
    conflist["plugins"][0]["mac"] = json!("stable");
    let network = Network::new(&scenario.lan.host, conflist);
    let life = |id: &str, name: &str| -> Result<(Node, Attachment)> {
        let container = scenario.lan.container(id)?;
        let attachment = named(&container, name);
        network.add(&attachment)?;
        Ok((container, attachment))
    };
    // The server gives the lowest address that is free: without a memory the second life would have
    // the first's.
    let (_, other) = life("c1", "other")?;
    let (container, web) = life("c2", "web")?;
    let first = (address(&container)?, mac(&container)?);
    network.del(&other)?;
    network.del(&web)?;
    until("both are given back", SOON, || server.leases().is_empty())?;

    let (container, web) = life("c3", "web")?;
    let second = (address(&container)?, mac(&container)?);
    ensure!(first == second, "{first:?} became {second:?}");
    network.check(&web)?;
    Ok(())
}

fn mac(container: &Node) -> Result<Mac> {
    container.link("eth0")?.mac.context("an Ethernet interface")
}

fn the_client_identifier_is_the_same_in_all_messages_of_a_lease(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let forms = [
        json!("container"),
        json!("name"),
        json!("mac"),
        json!("none"),
        json!("duid"),
        json!({ "text": "printer" }),
        json!({ "hex": "ff:01:02:03" }),
        json!({ "fromArg": "WHO" }),
    ];
    let mut lives = Vec::new();
    for (index, form) in forms.iter().enumerate() {
        if *form == json!("duid") && !Path::new("/etc/machine-id").exists() {
            continue; // a unit test has what the plugin says then
        }
        let container = scenario.lan.container(&format!("c{index}"))?;
        let network = Network::new(
            &scenario.lan.host,
            scenario.dhcp_with(json!({ "clientId": form })),
        );
        let attachment = Attachment {
            args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;WHO=db".into(),
            ..Attachment::new(&container)
        };
        network.add(&attachment)?;
        lives.push((form, mac(&container)?, network, attachment));
    }
    for (form, mac, network, attachment) in lives {
        let of = |kind| -> Vec<_> {
            let all = server.received_of(kind).into_iter();
            all.filter(|packet| packet.ethernet_source == mac.octets())
                .collect()
        };
        until("a renewal", Duration::from_secs(4), || {
            of(MessageType::Request).len() >= 2
        })?;
        network.del(&attachment)?;
        until("a release", SOON, || of(MessageType::Release).len() == 1)?;
        let expected = match form {
            Value::String(word) => match word.as_str() {
                "container" => Some(format!("\0{}/lan/eth0", attachment.container_id).into_bytes()),
                "name" => Some(b"\0shop/web/lan/eth0".to_vec()),
                "mac" => Some([&[1], &mac.octets()[..]].concat()),
                "none" => None,
                _ => {
                    let packet = of(MessageType::Discover).remove(0);
                    let id = client_id(&packet).context("an identifier")?;
                    // RFC 4361: its type, an IAID, and a DUID, here one made of a UUID (RFC 6355).
                    ensure!(
                        id.len() == 1 + 4 + 2 + 16 && id[0] == 255 && id[5..7] == [0, 4],
                        "{id:?}"
                    );
                    Some(id.to_vec())
                }
            },
            _ if form.get("text").is_some() => Some(b"\0printer".to_vec()),
            _ if form.get("hex").is_some() => Some(vec![255, 1, 2, 3]),
            _ => Some(b"\0db".to_vec()),
        };
        for kind in [
            MessageType::Discover,
            MessageType::Request,
            MessageType::Release,
        ] {
            for packet in of(kind) {
                ensure!(
                    client_id(&packet) == expected.as_deref(),
                    "{form} in {kind:?}: {packet:?}"
                );
            }
        }
    }
    Ok(())
}

fn an_identity_by_name_is_refused_if_the_runtime_passes_no_name(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(
        &scenario.lan.host,
        scenario.dhcp_with(json!({ "clientId": "name" })),
    );
    let error = network::cni_error(network.add(&Attachment::new(&container)));
    ensure!(
        error.code == 7 && error.msg.contains("ipam.clientId"),
        "{error:?}"
    );
    let mut conflist = scenario.dhcp();
    conflist["plugins"][0]["mac"] = json!("stable");
    let network = Network::new(&scenario.lan.host, conflist);
    let error = network::cni_error(network.add(&Attachment::new(&container)));
    ensure!(error.code == 7 && error.msg.contains("mac"), "{error:?}");
    // What has no container needs no name.
    let mut conflist = scenario.dhcp_with(json!({ "clientId": "name" }));
    conflist["cniVersion"] = json!("1.1.0");
    conflist["plugins"][0]["mac"] = json!("stable");
    Network::new(&scenario.lan.host, conflist).status()
}

fn a_requested_address_is_sent_to_the_server(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let by_runtime = |mut attachment: Attachment| {
        attachment
            .capabilities
            .insert("ips".into(), json!(["fd99::7/64", "10.99.0.151/24"]));
        attachment
    };
    let by_args = |attachment| Attachment {
        args: "IgnoreUnknown=1;IP=10.99.0.152".into(),
        ..attachment
    };
    let as_it_is = |attachment| attachment;
    for (nth, tell, expected) in [
        (
            1,
            &as_it_is as &dyn Fn(Attachment) -> Attachment,
            "10.99.0.150",
        ),
        (2, &by_runtime, "10.99.0.151"),
        (3, &by_args, "10.99.0.152"),
    ] {
        let container = scenario.lan.container(&format!("c{nth}"))?;
        let mut conflist = scenario.dhcp_with(json!({ "requestedAddress": "10.99.0.150" }));
        conflist["plugins"][0]["capabilities"] = json!({ "ips": true });
        let network = Network::new(&scenario.lan.host, conflist);
        let result = network.add(&tell(Attachment::new(&container)))?;
        ensure!(
            reported(&result, &container)?.to_string() == expected,
            "{result}"
        );
        let discover = server.wait_for(MessageType::Discover, nth, SOON)?;
        ensure!(
            requested(&discover).is_some_and(|ip| ip.to_string() == expected),
            "{discover:?}"
        );
    }
    Ok(())
}

/// With the key as with what a runtime passes. Podman, for one, shows no stderr of a plugin that
/// succeeds, so the log has it too.
fn a_requested_address_that_is_not_granted_is_in_stderr_and_in_the_daemons_log(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    for (name, keys, args, requested) in [
        (
            "c1",
            json!({ "requestedAddress": "10.0.0.1" }),
            "",
            "10.0.0.1",
        ),
        ("c2", json!({}), "IgnoreUnknown=1;IP=10.0.0.2", "10.0.0.2"),
    ] {
        let container = scenario.lan.container(name)?;
        let attachment = Attachment {
            args: args.into(),
            ..Attachment::new(&container)
        };
        let outcome = Network::new(&scenario.lan.host, scenario.dhcp_with(keys))
            .prepare("ADD", 0, &attachment, None)?
            .run(&scenario.lan.host)?;
        let leased = address(&container)?;
        let words = format!("{requested} was requested, but the DHCP server has leased {leased}");
        ensure!(outcome.stderr.contains(&words), "{outcome:?}");
        let log = scenario.daemon.log();
        ensure!(log.contains(&words), "{log}");
        outcome.success()?;
    }
    Ok(())
}

fn the_containers_name_is_sent_as_hostname_and_not_requested(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let mut nth = 0;
    let mut discover = |keys: Value, name: &str| {
        nth += 1;
        let container = scenario.lan.container(&format!("c{nth}"))?;
        Network::new(&scenario.lan.host, scenario.dhcp_with(keys)).add(&named(&container, name))?;
        server.wait_for(MessageType::Discover, nth, SOON)
    };
    let hostname = |name: &str| Some(DhcpOption::Hostname(name.to_owned()));

    let packet = discover(json!({}), "My_Web.1")?;
    ensure!(
        packet.option(OptionCode::Hostname) == hostname("My-Web-1").as_ref(),
        "{packet:?}"
    );
    ensure!(!asked_for(&packet)?.contains(&12), "{packet:?}");

    let packet = discover(json!({ "hostname": false }), "web")?;
    ensure!(
        packet.option(OptionCode::Hostname).is_none() && asked_for(&packet)?.contains(&12),
        "{packet:?}"
    );

    let packet = discover(json!({ "hostname": "db" }), "web")?;
    ensure!(
        packet.option(OptionCode::Hostname) == hostname("db").as_ref(),
        "{packet:?}"
    );

    let packet = discover(json!({ "fqdn": "web.example.com" }), "web")?;
    let fqdn = b"\x51\x14\x05\0\0\x03web\x07example\x03com\0";
    ensure!(
        packet
            .payload()
            .windows(fqdn.len())
            .any(|window| window == fqdn),
        "{packet:?}"
    );
    ensure!(
        packet.option(OptionCode::Hostname).is_none(),
        "RFC 4702 §3.1: {packet:?}"
    );
    Ok(())
}

fn options_are_sent_as_configured(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let keys = json!({
        "provide": [
            { "option": "vendor-class-identifier", "value": "leasehold" },
            { "option": "user-class", "value": "pods" },
            { "option": "43", "hex": "0102" },
            { "option": "host-name", "fromArg": "NOBODY_TELLS" },
        ],
        "request": [{ "skipDefault": true, "option": "routers" }, { "option": "subnet-mask" }],
        "broadcast": true,
        "rapidCommit": false,
    });
    Network::new(&scenario.lan.host, scenario.dhcp_with(keys)).add(&Attachment::new(&container))?;
    for kind in [MessageType::Discover, MessageType::Request] {
        let packet = server.wait_for(kind, 1, SOON)?;
        let payload = packet.payload();
        for option in [
            &b"\x3c\x09leasehold"[..],
            b"\x4d\x05\x04pods",
            &[43, 2, 1, 2],
        ] {
            ensure!(
                payload.windows(option.len()).any(|window| window == option),
                "{option:?} in {packet:?}"
            );
        }
        ensure!(asked_for(&packet)? == [3, 1], "{packet:?}");
        ensure!(packet.option(OptionCode::Hostname).is_none(), "{packet:?}");
        ensure!(
            packet.option(OptionCode::RapidCommit).is_none(),
            "{packet:?}"
        );
        ensure!(
            crate::scenario::decoded(&packet)?.flags().broadcast(),
            "{packet:?}"
        );
    }
    Ok(())
}
