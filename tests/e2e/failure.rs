//! A failed call prints one error document, leaves nothing behind, and can be repeated.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lab::anyhow::ensure;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::plugin::Call;
use lab::serde_json::json;
use lab::{DhcpServer, Lan, Network, Result, Test, World, network, test, until};

use crate::scenario::{SOON, Scenario, conflist, decoded, ensure_nothing_left, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(without_a_daemon_add_fails_and_leaves_nothing),
    test!(without_a_server_add_reports_its_progress_and_succeeds_once_one_runs),
    test!(add_is_cancelled_when_its_caller_hangs_up),
    test!(a_missing_parent_is_reported_with_those_that_exist),
    test!(an_invalid_key_is_named_in_the_error),
    test!(a_failed_ipam_leaves_no_interface_and_its_error_is_passed_on),
    test!(an_ipam_that_does_not_exist_leaves_no_interface),
    test!(the_hosts_own_netns_is_refused),
    test!(a_path_that_is_not_a_netns_is_refused),
    test!(without_cni_command_a_plugin_prints_what_it_is),
];

fn without_a_daemon_add_fails_and_leaves_nothing(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": world.dir().join("nobody.sock") });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    let attachment = network::Attachment::new(&container);
    let error = network::cni_error(network.add(&attachment));
    ensure!(
        error.code == 50 && error.msg.contains("nobody.sock"),
        "{error:?}"
    );
    ensure!(
        error.details.contains("dhcp daemon"),
        "it says how to start one: {error:?}"
    );
    ensure_nothing_left(&container)?;
    network.del(&attachment)?;
    Ok(())
}

fn without_a_server_add_reports_its_progress_and_succeeds_once_one_runs(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    let impatient = scenario.dhcp_with(json!({ "timeout": "3s" }));
    let impatient = Network::new(&scenario.lan.host, impatient);
    let error = network::cni_error(impatient.add(&attachment));
    ensure!(error.code == 11 && error.msg.contains("eth0"), "{error:?}");
    ensure!(
        error.details.contains("DISCOVER") && error.details.contains("received no reply"),
        "{error:?}"
    );
    ensure_nothing_left(&container)?;

    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let result = network.add(&attachment)?;
    reported(&result, &container)?;
    Ok(())
}

fn add_is_cancelled_when_its_caller_hangs_up(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    server.when(MessageType::Request).then(Reaction::silence());
    let container = scenario.lan.container("c1")?;

    // The IPAM plugin alone, on an interface that is there: killed when the REQUEST has gone out.
    Network::new(&scenario.lan.host, conflist(json!({})))
        .add(&network::Attachment::new(&container))?;
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "dhcp",
        "ipam": { "type": "dhcp", "daemonSocketPath": scenario.daemon.socket() },
    });
    let plugin = Call::new("dhcp", "ADD")
        .container("c1")
        .netns(container.path())
        .ifname("eth0")
        .config(&config);
    let plugin = plugin.start(&scenario.lan.host)?;
    server.wait_for(MessageType::Request, 1, SOON)?;
    plugin.kill()?;
    until("the daemon notices", SOON, || {
        scenario.daemon.log().contains("hung up")
    })?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(
        !decoded(&release)?.ciaddr().is_unspecified(),
        "what may have been granted is given back: {release:?}"
    );
    Ok(())
}

fn a_missing_parent_is_reported_with_those_that_exist(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, conflist(json!({ "master": "eth7" })));
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(error.code == 7 && error.msg.contains("eth7"), "{error:?}");
    ensure!(
        error.details.contains("eth1"),
        "the devices that exist are listed: {error:?}"
    );
    ensure_nothing_left(&container)
}

fn an_invalid_key_is_named_in_the_error(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    for (keys, word) in [
        (json!({ "mode": "brigde" }), "mode"),
        (json!({ "mtu": 9000 }), "mtu"),
        (json!({ "mtu": -1 }), "mtu"),
        (json!({ "mac": "01:00:5e:00:00:01" }), "multicast"),
        (json!({ "mac": "not a MAC" }), "mac"),
        (json!({ "master": 7 }), "master"),
        (json!({ "linkInContainer": "yes" }), "linkInContainer"),
        (
            json!({ "ipam": { "type": "dhcp", "request": [{ "option": "no-such-option" }] } }),
            "ipam.request[0].option",
        ),
    ] {
        let network = Network::new(&lan.host, conflist(keys.clone()));
        let error = network::cni_error(network.add(&network::Attachment::new(&container)));
        ensure!(
            error.code == 7 && error.msg.contains(word),
            "{keys}: {error:?}"
        );
        ensure_nothing_left(&container)?;
    }
    Ok(())
}

fn a_failed_ipam_leaves_no_interface_and_its_error_is_passed_on(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let calls = world.dir().join("calls");
    let script = format!(
        "#!/bin/sh\necho $CNI_COMMAND >>{}\ncat >/dev/null\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"code\":123,\"msg\":\"pool is empty\",\"details\":\"of 0 addresses\"}}'\nexit 1\n",
        calls.display()
    );
    let directory = world.dir().join("bin");
    fs::create_dir(&directory)?;
    fs::write(directory.join("empty-pool"), script)?;
    fs::set_permissions(
        directory.join("empty-pool"),
        fs::Permissions::from_mode(0o755),
    )?;
    let path = vec![lab::suite::plugin_dir().to_owned(), directory];
    let network = Network::with_path(
        &lan.host,
        conflist(json!({ "ipam": { "type": "empty-pool" } })),
        path,
    );
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(
        error.code == 123 && error.msg == "pool is empty" && error.details == "of 0 addresses",
        "{error:?}"
    );
    ensure_nothing_left(&container)?;
    ensure!(
        fs::read_to_string(calls)? == "ADD\nDEL\n",
        "IPAM's DEL undoes what its ADD may have begun"
    );
    Ok(())
}

fn an_ipam_that_does_not_exist_leaves_no_interface(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, conflist(json!({ "ipam": { "type": "nosuch" } })));
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(error.msg.contains("nosuch"), "{error:?}");
    ensure_nothing_left(&container)
}

fn the_hosts_own_netns_is_refused(_: &World) -> Result {
    let lan = Lan::new()?;
    let network = Network::new(&lan.host, conflist(json!({})));
    let before = lan.host.links()?.len();
    let error = network::cni_error(network.add(&network::Attachment::new(&lan.host)));
    ensure!(error.msg.contains("CNI_NETNS"), "{error:?}");
    ensure!(
        lan.host.links()?.len() == before,
        "nothing is made in the host's netns"
    );
    Ok(())
}

fn a_path_that_is_not_a_netns_is_refused(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let file = world.dir().join("file");
    fs::write(&file, "")?;
    let network = Network::new(&lan.host, conflist(json!({})));
    for (path, code) in [(file, 4), ("/run/netns/nosuch".into(), 3)] {
        let attachment = network::Attachment {
            netns: Some(path.clone()),
            ..network::Attachment::new(&container)
        };
        let error = network::cni_error(network.add(&attachment));
        ensure!(
            error.code == code && error.msg.contains("CNI_NETNS"),
            "{}: {error:?}",
            path.display()
        );
    }
    Ok(())
}

fn without_cni_command_a_plugin_prints_what_it_is(_: &World) -> Result {
    let lan = Lan::new()?;
    for plugin in ["macvlan", "dhcp"] {
        let outcome = Call::new(plugin, "")
            .without("CNI_COMMAND")
            .run(&lan.host)?;
        ensure!(outcome.status.success(), "{outcome:?}");
        ensure!(
            outcome.stderr.contains(plugin) && outcome.stderr.contains("1.1.0"),
            "{outcome:?}"
        );
    }
    Ok(())
}
