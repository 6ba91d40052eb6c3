//! The macvlan plugin by itself: everything it makes, refuses, recognises and leaves alone.
//! Addresses come from Debian's `static` and `host-local`.

mod chain;
mod crash;
mod diagnosis;
mod faults;
mod keys;
mod layer3;
mod leaving;
mod master;
mod matrix;
mod parents;
mod reach;
mod verbs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lab::anyhow::Context;
use lab::plugin::DEBIANS_PLUGINS;
use lab::serde_json::{Value, json};
use lab::{Lan, Network, Node, Result, Test, World};
use linknet::Link;

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        matrix::TESTS,
        keys::TESTS,
        reach::TESTS,
        master::TESTS,
        parents::TESTS,
        diagnosis::TESTS,
        layer3::TESTS,
        verbs::TESTS,
        leaving::TESTS,
        crash::TESTS,
        faults::TESTS,
        chain::TESTS,
    ]
    .concat()
}

/// An `ipam` section with these addresses.
fn addresses(addresses: &[&str]) -> Value {
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "address": address }))
        .collect();
    json!({ "type": "static", "addresses": addresses })
}

/// A plugin of this name for one world, and the `CNI_PATH` to find it on.
pub(crate) fn script(world: &World, name: &str, body: &str) -> Result<Vec<PathBuf>> {
    let folder = world.dir().join("bin");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), format!("#!/bin/sh\n{body}"))?;
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755))?;
    Ok(vec![
        lab::suite::plugin_dir().to_owned(),
        folder,
        DEBIANS_PLUGINS.into(),
    ])
}

/// The network of `conflist` with an IPAM plugin that always gives this result: it is quick, and
/// says what no real one would.
pub(crate) fn given<'a>(
    world: &World,
    lan: &'a Lan,
    mut conflist: Value,
    result: &Value,
) -> Result<Network<'a>> {
    let mut document = json!({ "cniVersion": "1.0.0" });
    document
        .as_object_mut()
        .context("an object")?
        .extend(result.as_object().context("an object")?.clone());
    let body = format!("cat >/dev/null\n[ $CNI_COMMAND != ADD ] || cat <<'END'\n{document}\nEND\n");
    let path = script(world, "given", &body)?;
    conflist["plugins"][0]["ipam"] = json!({ "type": "given" });
    Ok(Network::with_path(&lan.host, conflist, path))
}

/// Connects `node` by a new cable to the LAN's side, where the other end has no address; both ends
/// are up.
pub(crate) fn plug(lan: &Lan, node: &Node, name: &str) -> Result<Link> {
    let far = format!("{}-{name}", node.name());
    node.add_veth(name, (&lan.lan, &far))?;
    lan.lan.set_up(&far)?;
    node.set_up(name)?;
    node.link(name)
}

/// Whether the node has no entry for the address in its neighbour table, or one with this MAC.
pub(crate) fn knows_no_other_mac(node: &Node, address: &str, mac: &str) -> bool {
    let entry = node.output(&["ip", "neigh", "show", address]);
    entry.is_ok_and(|entry| !entry.contains("lladdr") || entry.contains(mac))
}
