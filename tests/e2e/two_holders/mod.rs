//! An address has one holder: never do two living containers have the same by our doing, and never
//! is the lease of a living container released.

mod again;
mod moves;
mod one_host;
mod order;
mod two_hosts;
mod two_lans;
mod undo;
mod unheard;

use std::path::Path;

use lab::anyhow::ensure;
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{Value, json};
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test};

use crate::dhcp::named;
use crate::scenario::{SOON, address, conflist};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        one_host::TESTS,
        two_hosts::TESTS,
        moves::TESTS,
        again::TESTS,
        order::TESTS,
        undo::TESTS,
        two_lans::TESTS,
        unheard::TESTS,
    ]
    .concat()
}

/// A network whose containers servers know by name, with the daemon on this socket.
fn by_name(socket: &Path) -> Value {
    conflist(json!({ "ipam": { "type": "dhcp", "daemonSocketPath": socket, "clientId": "name" } }))
}

/// Has the switch pass nothing on from and to this host, whose link keeps its carrier. Needs
/// iproute2.
fn cut_off(host: &Node) -> Result {
    set_port_state(host, "0")
}

/// Ends [`cut_off`].
fn reconnect(host: &Node) -> Result {
    set_port_state(host, "3")
}

fn set_port_state(host: &Node, state: &str) -> Result {
    let port = ["bridge", "-n", "switch", "link", "set", "dev", host.name()];
    host.output(&[&port[..], &["state", state]].concat())?;
    Ok(())
}

/// An attachment of a container that the runtime calls `web`.
fn web(container: &Node) -> Attachment {
    named(container, "web")
}

/// The server has been told nothing so far, and the container has and can use its lease.
/// `witness` is a network on the same link: what it sends arrives after everything that was sent
/// before.
fn ensure_kept(server: &DhcpServer, container: &Node, witness: &Network, lan: &Lan) -> Result {
    let newcomer = lan.container("witness")?;
    let attachment = named(&newcomer, "witness");
    witness.add(&attachment)?;
    let leased = address(container)?;
    let releases = server.received_of(MessageType::Release);
    ensure!(releases.is_empty(), "{}", server.transcript());
    ensure!(
        server.leases().iter().any(|lease| lease.address == leased),
        "{leased} was given back: {:?}",
        server.leases()
    );
    container.ping(Lan::ADDRESS.into(), SOON)?;
    Ok(())
}
