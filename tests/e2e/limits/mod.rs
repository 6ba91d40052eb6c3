//! The daemon under overload, out of resources, and with callers that misbehave.

mod callers;
mod namespaces;
mod overload;
mod state;

use std::fs;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::anyhow::Context;
use lab::plugin::Call;
use lab::serde_json::{self, Value, json};
use lab::{Daemon, Network, Node, Result, Test, World, deadline, network, suite};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::chaos::lease_files;
use crate::scenario::{Scenario, conflist};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        overload::TESTS,
        state::TESTS,
        callers::TESTS,
        namespaces::TESTS,
    ]
    .concat()
}

/// A daemon that may have 128 descriptors: far fewer than the leases would take if each kept its
/// own. It has 20 places for callers, and lets 13 ADDs exchange messages at a time.
pub(crate) fn daemon_with_few_descriptors(world: &World, host: &Node) -> Result<Daemon> {
    let dhcp = suite::plugin_dir().join("dhcp");
    let program = script(
        world,
        &format!("ulimit -n 128; exec {} \"$@\"", dhcp.display()),
    )?;
    Daemon::start_program(world, host, &program, &[])
}

/// A program of a few words of shell.
pub(crate) fn script(world: &World, text: &str) -> Result<PathBuf> {
    let path = world.dir().join("daemon.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

pub(crate) fn dhcp(socket: &Path) -> Value {
    dhcp_with(socket, json!({}))
}

pub(crate) fn dhcp_with(socket: &Path, keys: Value) -> Value {
    let mut ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
    if let (Value::Object(ipam), Value::Object(keys)) = (&mut ipam, keys) {
        ipam.extend(keys);
    }
    conflist(json!({ "ipam": ipam }))
}

fn ipam_alone(verb: &str, container: &Node, socket: &Path, state: &str) -> Call {
    let config = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": "dhcp",
        "ipam": { "type": "dhcp", "daemonSocketPath": socket, "stateDir": state },
    });
    Call::new("dhcp", verb)
        .container(container.name())
        .netns(container.path())
        .ifname("eth0")
        .config(&config)
}

/// ADD as the plugin would ask it, for `c1`, on the terms that another container has its lease.
pub(crate) fn add_request(scenario: &Scenario, netns: &Path) -> Result<Value> {
    let other = scenario.lan.container("other")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&other))?;
    let written = fs::read(
        lease_files()?
            .first()
            .context("a lease that is written down")?,
    )?;
    let written: Value = serde_json::from_slice(&written)?;
    Ok(json!({
        "protocol": 1, "verb": "add", "netns": netns, "terms": written["terms"],
        "attachment": { "containerID": "c1", "network": "lan", "ifname": "eth0" },
    }))
}

pub(crate) fn ask(
    socket: &Path,
    request: &Value,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(deadline(Duration::from_secs(10))))?;
    send(&stream, format!("{request}\n").as_bytes(), descriptor)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let _ = stream.shutdown(Shutdown::Both);
    serde_json::from_str(&answer).with_context(|| answer.clone())
}

/// Sends a request, or the beginning of it, with a descriptor beside its first octets.
pub(crate) fn send(
    stream: &UnixStream,
    request: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result {
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(
        stream,
        &[IoSlice::new(request)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
