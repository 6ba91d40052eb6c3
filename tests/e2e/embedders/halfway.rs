//! A migration halfway: plugin and daemon are of different projects, and each says so.

use std::path::{Path, PathBuf};

use lab::anyhow::ensure;
use lab::plugin::DEBIANS_PLUGINS;
use lab::suite::packages;
use lab::{Attachment, Daemon, Lan, Network, Result, Test, World, network, test};

use crate::limits::dhcp;
use crate::scenario::ensure_nothing_left;

pub(super) const TESTS: &[Test] = &[
    test!(the_plugin_recognises_the_go_daemon_and_del_succeeds).needs(&[packages::GO_PLUGINS]),
    test!(the_go_plugin_shows_what_the_daemon_says).needs(&[packages::GO_PLUGINS]),
];

fn the_plugin_recognises_the_go_daemon_and_del_succeeds(world: &World) -> Result {
    let lan = Lan::new()?;
    let go = Path::new(DEBIANS_PLUGINS).join("dhcp");
    let daemon = Daemon::start_program(world, &lan.host, &go, &[])?;
    let container = lan.container("c1")?;
    let mut conflist = dhcp(daemon.socket());
    conflist["cniVersion"] = "1.1.0".into();
    let network = Network::new(&lan.host, conflist);
    let attachment = Attachment::new(&container);
    let error = network::cni_error(network.add(&attachment));
    ensure!(
        error.code == 50
            && error.msg.contains("daemon of the Go plugins")
            && error.details.contains("stop it"),
        "{error:?}"
    );
    ensure_nothing_left(&container)?;
    // The container must go, even if another daemon has its lease.
    let del = network
        .prepare("DEL", 0, &attachment, None)?
        .run(&lan.host)?;
    ensure!(
        del.status.success() && del.stderr.contains("daemon of the Go plugins"),
        "{del:?}"
    );
    network.gc(&[])?;
    let error = network::cni_error(network.status());
    ensure!(
        error.code == 50 && error.msg.contains("daemon of the Go plugins"),
        "{error:?}"
    );
    Ok(())
}

fn the_go_plugin_shows_what_the_daemon_says(world: &World) -> Result {
    let lan = Lan::new()?;
    let daemon = Daemon::start(world, &lan.host)?;
    let container = lan.container("c1")?;
    let network = Network::with_path(
        &lan.host,
        dhcp(daemon.socket()),
        vec![PathBuf::from(DEBIANS_PLUGINS)],
    );
    let error = network::cni_error(network.add(&Attachment::new(&container)));
    ensure!(
        error
            .msg
            .contains("replace both plugins together with the daemon"),
        "{error:?}"
    );
    ensure!(
        daemon.log().contains("Go plugin"),
        "the operator reads it too: {}",
        daemon.log()
    );
    Ok(())
}
