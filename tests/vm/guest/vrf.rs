//! A VRF after macvlan: the container's interface and its routes move to a table of their own.

use lab::anyhow::ensure;
use lab::serde_json::json;
use lab::suite::packages::GO_PLUGINS;
use lab::{Result, Test, World, test};

use crate::chains::Chain;

pub(super) const TESTS: &[Test] =
    &[test!(a_lease_in_a_vrf_is_renewed_there_and_released).needs(&[GO_PLUGINS])];

fn a_lease_in_a_vrf_is_renewed_there_and_released(world: &World) -> Result {
    let chain = Chain::of(&[json!({ "type": "vrf", "vrfname": "blue" })]);
    Chain {
        holds: |_, link| {
            ensure!(link.port_kind.as_deref() == Some("vrf"), "{link:?}");
            Ok(())
        },
        ..chain
    }
    .run(world)
}
