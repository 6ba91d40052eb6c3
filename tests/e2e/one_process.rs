//! `macvlan` asks the daemon itself, if the IPAM plugin is the `dhcp` of its own build.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::network::{Attachment, cni_error};
use lab::serde_json::json;
use lab::{DhcpServer, Network, Result, Test, World, suite, test, until};

use crate::scenario::{SOON, Scenario, address, ensure_nothing_left};

pub(crate) const TESTS: &[Test] = &[
    test!(the_plugin_of_the_same_build_is_not_executed_while_a_daemon_answers),
    test!(the_plugin_of_another_build_is_executed),
];

/// How an executable's mark begins, and its length.
const MARK: (&[u8], usize) = (b"leasehold\0\0\0", 28);

/// `dhcp` as a script that fails, and bears the mark of our `dhcp` as `change` makes it; and the
/// `CNI_PATH` that it comes first on.
fn disguised(world: &World, change: impl FnOnce(&mut [u8])) -> Result<Vec<PathBuf>> {
    let program = fs::read(suite::plugin_dir().join("dhcp"))?;
    let (beginning, length) = MARK;
    let at = program
        .windows(beginning.len())
        .position(|window| window == beginning)
        .context("our dhcp has a mark")?;
    let mut mark = program[at..at + length].to_vec();
    change(&mut mark);
    let failure = b"\ncat >/dev/null; echo '{\"code\":99,\"msg\":\"executed\"}'; exit 1\n";
    let folder = world.dir().join("disguised");
    fs::create_dir(&folder)?;
    let file = folder.join("dhcp");
    fs::write(&file, [b"#!/bin/sh\n#", &*mark, failure].concat())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(vec![folder, suite::plugin_dir().to_owned()])
}

fn the_plugin_of_the_same_build_is_not_executed_while_a_daemon_answers(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let path = disguised(world, |_| ())?;
    let mut conflist = scenario.dhcp();
    conflist["cniVersion"] = json!("1.1.0"); // has STATUS and GC
    let network = Network::with_path(&scenario.lan.host, conflist, path);
    let attachment = Attachment::new(&container);

    network.status()?;
    network.add(&attachment)?;
    let leased = address(&container)?;
    ensure!(server.leases().iter().any(|lease| lease.address == leased));
    network.check(&attachment)?;
    network.gc(&[&attachment])?;
    network.del(&attachment)?;
    ensure_nothing_left(&container)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;

    drop(scenario.daemon);
    let error = cni_error(network.add(&attachment));
    ensure!(error.code == 99 && error.msg == "executed", "{error:?}");
    ensure_nothing_left(&container)
}

fn the_plugin_of_another_build_is_executed(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let path = disguised(world, <[u8]>::reverse)?;
    let network = Network::with_path(&scenario.lan.host, scenario.dhcp(), path);
    let error = cni_error(network.add(&Attachment::new(&container)));
    ensure!(error.code == 99 && error.msg == "executed", "{error:?}");
    ensure_nothing_left(&container)
}
