//! `hostAccess`: host and container reach each other, other hosts see no difference, and DEL leaves
//! nothing.

mod dhcp;
mod hijack;
mod reach;
mod shared;
mod verbs;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use attachment::SharedLink;
use attachment::host_access::HostRoute;
use lab::anyhow::ensure;
use lab::serde_json::{Value, json};
use lab::{Lan, Node, Result, Test};
use linknet::{Link, sysctl};

use crate::scenario::{SOON, conflist};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        dhcp::TESTS,
        hijack::TESTS,
        reach::TESTS,
        shared::TESTS,
        verbs::TESTS,
    ]
    .concat()
}

/// The host's addresses on its parent link.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);

/// The shim on [`Lan::MASTER`].
const SHIM: &str = "lh-eth1";

/// A LAN of both families whose host has an address of each on the parent, and every node checks
/// strictly that packets come by the way that the answer will take (RFC 3704).
fn lan() -> Result<Lan> {
    let lan = Lan::with_ipv6()?;
    lan.host
        .add_address(Lan::MASTER, format!("{HOST}/24").parse()?)?;
    lan.host
        .add_address(Lan::MASTER, format!("{HOST6}/64").parse()?)?;
    for node in [&lan.host, &lan.lan] {
        check_strictly(node)?;
    }
    Ok(lan)
}

fn check_strictly(node: &Node) -> Result {
    node.run(|| sysctl::set(&["ipv4", "conf", "all", "rp_filter"], "1"))??;
    Ok(())
}

/// A container that checks strictly too.
fn container(lan: &Lan, name: &str) -> Result<Node> {
    let container = lan.container(name)?;
    check_strictly(&container)?;
    Ok(container)
}

/// A network with `hostAccess` and these addresses.
fn network_of(addresses: &[&str]) -> Value {
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "address": address }))
        .collect();
    with_access(json!({ "ipam": { "type": "static", "addresses": addresses } }))
}

/// Like [`network_of`], where the host may be led to addresses that it has none beside.
fn listing(addresses: &[&str]) -> Value {
    let mut conflist = network_of(addresses);
    conflist["plugins"][0]["hostAccess"] = json!(["10.99.0.0/16", "fd99::/64"]);
    conflist
}

fn with_access(mut keys: Value) -> Value {
    keys["hostAccess"] = json!(true);
    conflist(keys)
}

fn shim(lan: &Lan) -> Result<Option<Link>> {
    lan.host.find_link(SHIM)
}

/// The addresses to which leasehold made a route on the host.
fn reached(lan: &Lan) -> Result<Vec<IpAddr>> {
    let mut all: Vec<IpAddr> = HostRoute::all(&lan.host.netlink()?)?
        .iter()
        .map(|route| route.to)
        .collect();
    all.sort();
    Ok(all)
}

/// Both of them can begin.
fn ensure_they_talk(host: (&Node, IpAddr), container: (&Node, IpAddr)) -> Result {
    host.0.ping(container.1, SOON)?;
    container.0.ping(host.1, SOON)?;
    Ok(())
}

/// Fails unless the host is as before the first ADD.
pub(crate) fn ensure_host_is_clean(host: &Node) -> Result {
    let shims: Vec<_> = host
        .links()?
        .into_iter()
        .filter(|link| SharedLink::Shim.is(link))
        .collect();
    let ours = host.netlink()?.routes_with_protocol(attachment::PROTOCOL)?;
    ensure!(
        shims.is_empty() && ours.is_empty(),
        "left behind: {shims:?} {ours:?}"
    );
    Ok(())
}

/// Whether the lock is free. It is released when the process that holds it ends.
fn lock_is_free() -> bool {
    std::fs::File::open(Path::new("/run/cni/leasehold.lock"))
        .is_ok_and(|file| file.try_lock().is_ok())
}
