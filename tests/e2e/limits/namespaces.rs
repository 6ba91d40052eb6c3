//! Network namespaces that the daemon finds under a prefix, or not at all.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{self, Value, json};
use lab::{Daemon, DhcpServer, Lan, Network, Result, Test, World, network, suite, test, until};

use super::{add_request, ask, dhcp_with, script};
use crate::scenario::{SOON, Scenario, address, conflist, netns_held_by, reported};

pub(super) const TESTS: &[Test] = &[
    test!(without_a_descriptor_the_path_is_looked_up_under_the_prefix),
    test!(a_netns_whose_path_the_daemon_cannot_see_is_kept_open_until_del_or_gc),
];

fn without_a_descriptor_the_path_is_looked_up_under_the_prefix(world: &World) -> Result {
    let prefix = world.dir().join("rootfs");
    fs::create_dir_all(&prefix)?;
    for directory in ["run", "var"] {
        std::os::unix::fs::symlink(Path::new("/").join(directory), prefix.join(directory))?;
    }
    let prefix = prefix.to_str().context("a path of ours")?;
    let scenario = Scenario::with_daemon(world, &["-hostprefix", prefix])?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, conflist(json!({})))
        .add(&network::Attachment::new(&container))?;
    let request = add_request(&scenario, &container.path())?;
    let answer = ask(scenario.daemon.socket(), &request, None)?;
    ensure!(answer["lease"]["ips"][0]["address"].is_string(), "{answer}");

    // A path that exists under the host's root but not under the prefix is not found.
    fs::remove_file(Path::new(prefix).join("run"))?;
    let answer = ask(scenario.daemon.socket(), &request, None)?;
    ensure!(
        answer["error"]["code"] == 3 && answer.to_string().contains(prefix),
        "{answer}"
    );
    Ok(())
}

fn a_netns_whose_path_the_daemon_cannot_see_is_kept_open_until_del_or_gc(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(
        &lan.lan,
        Settings {
            t1: Some(Duration::from_secs(2)),
            ..Settings::default()
        },
    )?;
    let containers = [lan.container("c1")?, lan.container("c2")?];
    let program = script(
        world,
        &format!(
            "exec unshare --mount sh -c 'mount -t tmpfs none /run/netns && exec {}/dhcp \"$@\"' dhcp \"$@\"",
            suite::plugin_dir().display()
        ),
    )?;
    let state = world.dir().join("state");
    let flags = ["-statedir", state.to_str().context("a path of ours")?];
    let mut daemon = Daemon::start_program(world, &lan.host, &program, &flags)?;
    let mut configuration = dhcp_with(daemon.socket(), json!({ "stateDir": state }));
    configuration["cniVersion"] = json!("1.1.0");
    let network = Network::new(&lan.host, configuration);
    let attachments = containers.each_ref().map(network::Attachment::new);
    for (container, attachment) in containers.iter().zip(&attachments) {
        reported(&network.add(attachment)?, container)?;
        network.check(attachment)?;
    }
    let pid = daemon.process().pid();
    let kept = || netns_held_by(pid);
    until("one for each is kept", SOON, || {
        kept().is_ok_and(|kept| kept == 2)
    })?;
    let written: Value = serde_json::from_slice(&fs::read(state.join("lan/c1:eth0.json"))?)?;
    ensure!(written["netnsKept"] == true, "{written}");
    let leased = address(&containers[0])?;
    let renewed = || {
        let requests = server.received_of(MessageType::Request);
        requests
            .iter()
            .any(|request| *request.source.ip() == leased)
    };
    until("it is renewed", SOON, renewed)?;
    network.check(&attachments[0])?;

    network.del(&attachments[0])?;
    until("DEL closes its namespace", SOON, || {
        kept().is_ok_and(|kept| kept == 1)
    })?;
    network.gc(&[])?;
    until("GC closes the other", SOON, || {
        kept().is_ok_and(|kept| kept == 0)
    })?;
    until("both are given back", SOON, || server.leases().is_empty())?;
    Ok(())
}
