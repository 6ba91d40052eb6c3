//! Plugin calls, conflists and the daemon's keeper, tried on the Go plugins.

use std::time::Duration;

use lab::{
    Attachment, Daemon, DhcpServer, Lan, Network, Result, Test, World,
    anyhow::Context,
    deadline,
    dhcp_server::Settings,
    dhcproto::v4::MessageType,
    network::cni_error,
    plugin::Call,
    serde_json::{Value, json},
    suite::packages,
    test,
};

/// Debian's. What they do is known; what is tried is how they are called.
pub(crate) const PLUGIN_DIR: &str = lab::plugin::DEBIANS_PLUGINS;

pub(crate) const TESTS: &[Test] = &[
    test!(a_plugin_runs_on_the_host_and_answers_with_one_document).needs(&[packages::GO_PLUGINS]),
    test!(a_failed_call_is_a_cni_error).needs(&[packages::GO_PLUGINS]),
    test!(a_conflist_is_added_checked_and_deleted).needs(&[packages::GO_PLUGINS]),
    test!(a_container_leases_its_address_through_the_daemon).needs(&[packages::GO_PLUGINS]),
    test!(a_daemon_that_is_killed_leaves_its_socket).needs(&[packages::GO_PLUGINS]),
];

const SOON: Duration = Duration::from_secs(2);

fn conflist(ipam: &Value) -> Value {
    json!({"cniVersion": "1.0.0", "name": "lan", "plugins": [
        {"type": "macvlan", "master": Lan::MASTER, "capabilities": {"mac": true}, "ipam": ipam},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.all.arp_filter": "1"}},
    ]})
}

fn static_ipam() -> Value {
    json!({"type": "static", "addresses": [{"address": "10.99.0.50/24", "gateway": "10.99.0.1"}]})
}

fn a_plugin_runs_on_the_host_and_answers_with_one_document(_: &World) -> Result {
    let lan = Lan::new()?;
    let outcome = Call::new("macvlan", "VERSION")
        .config(&json!({"cniVersion": "1.0.0"}))
        .run(&lan.host)?;
    assert!(outcome.took < deadline(SOON));
    let versions = outcome.success()?;
    assert!(
        versions["supportedVersions"]
            .as_array()
            .context("an array")?
            .contains(&json!("1.0.0"))
    );
    Ok(())
}

fn a_failed_call_is_a_cni_error(_: &World) -> Result {
    let lan = Lan::new()?;
    let call = Call::new("macvlan", "ADD")
        .container("c1")
        .netns("/run/netns/none")
        .ifname("eth0");
    let config =
        json!({"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": Lan::MASTER});
    let error = call.config(&config).run(&lan.host)?.error()?;
    assert!(error.msg.contains("/run/netns/none"), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("/usr/lib/cni/macvlan ADD failed with code 999: "),
        "{error}"
    );
    Ok(())
}

fn a_conflist_is_added_checked_and_deleted(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, conflist(&static_ipam()));
    let mut attachment = Attachment::new(&container);
    attachment
        .capabilities
        .insert("mac".to_owned(), "02:00:00:00:00:63".into());

    let result = network.add(&attachment)?;
    assert_eq!(result["ips"][0]["address"], "10.99.0.50/24");
    assert_eq!(
        result["interfaces"][0]["mac"], "02:00:00:00:00:63",
        "runtimeConfig reaches the plugin that asks for it"
    );
    assert_eq!(network.cached(&attachment), Some(result));
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.check(&attachment)?;
    cni_error(network.add(&attachment));
    network.del(&attachment)?;
    assert_eq!(container.find_link("eth0")?, None);
    assert_eq!(network.cached(&attachment), None);
    network.del(&attachment)
}

fn a_container_leases_its_address_through_the_daemon(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let daemon = Daemon::start(world, &lan.host)?;
    let ipam = json!({"type": "dhcp", "daemonSocketPath": daemon.socket()});
    let network = Network::new(&lan.host, conflist(&ipam));
    let container = lan.container("c1")?;
    let attachment = Attachment::new(&container);

    let result = network
        .add(&attachment)
        .with_context(|| server.transcript() + &daemon.log())?;
    assert_eq!(result["ips"][0]["address"], "10.99.0.100/24");
    assert_eq!(container.ipv4("eth0")?, ["10.99.0.100/24".parse()?]);
    assert_eq!(
        server.leases()[0].client_id.as_deref(),
        Some(&b"\0c1/lan/eth0"[..])
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    network.del(&attachment)?;
    let release = server.wait_for(MessageType::Release, 1, SOON)?;
    assert_eq!(
        release.message.map(|message| message.ciaddr()),
        Ok([10, 99, 0, 100].into())
    );
    assert!(server.leases().is_empty());
    daemon.stop()
}

fn a_daemon_that_is_killed_leaves_its_socket(world: &World) -> Result {
    let lan = Lan::new()?;
    let daemon = Daemon::start(world, &lan.host)?;
    let socket = daemon.socket().to_owned();
    daemon.kill()?;
    assert!(socket.exists());
    let error = Daemon::start(world, &lan.host)
        .err()
        .context("these plugins cannot use it again")?;
    assert!(
        format!("{error:#}").contains("address already in use"),
        "{error:#}"
    );
    Ok(())
}
