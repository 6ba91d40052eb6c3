//! Inside the virtual machine.

mod elsewhere;
mod init;
mod parents;
mod vlan;
mod vrf;

pub(crate) use init::boot;

use std::time::Duration;

use lab::serde_json::{Value, json};
use lab::{Lan, Node, Result, Suite};

use crate::PLUGINS;

/// Bounds the wait for anything that takes a few packets, on an emulated machine.
const SOON: Duration = Duration::from_secs(20);

/// All of the tests.
pub(crate) fn suite() -> Suite {
    Suite::new()
        .plugin_dir(PLUGINS)
        .tests(parents::TESTS)
        .tests(&vlan::tests())
        .tests(vrf::TESTS)
        .tests(&elsewhere::tests())
}

/// A conflist with macvlan on `eth1` of the host, and these keys in it.
fn conflist(keys: Value) -> Value {
    let mut macvlan = json!({ "type": "macvlan", "master": Lan::MASTER });
    if let (Value::Object(macvlan), Value::Object(keys)) = (&mut macvlan, keys) {
        macvlan.extend(keys);
    }
    json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [macvlan] })
}

/// Runs `ip`, for what linknet does not do.
fn ip(node: &Node, arguments: &str) -> Result {
    let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    node.output(&words).map(|_| ())
}
