//! Many containers at once. (Podman itself attaches one after the other.)

use std::collections::BTreeSet;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::netavark::Container;
use lab::serde_json::json;
use lab::suite::netavark::NETAVARK;
use lab::{Node, Result, Test, World, test, until};

use super::Podman;
use crate::scenario::{SOON, address, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[test!(sixty_four_containers_come_and_go_at_once)
    .needs(&[NETAVARK])
    .within(Duration::from_secs(120))];

fn sixty_four_containers_come_and_go_at_once(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let nodes: Vec<Node> = (0..64)
        .map(|number| podman.lan.container(&format!("c{number}")))
        .collect::<Result<_>>()?;
    let containers = nodes
        .iter()
        .map(|node| Container::new(node, &network, json!({})));
    let containers: Vec<Container> = containers.collect();
    let all_at_once = |command: &str| -> Result {
        let started = containers
            .iter()
            .map(|container| podman.netavark.start(&podman.lan.host, command, container));
        let started: Vec<_> = started.collect::<Result<_>>()?;
        for child in started {
            let outcome = podman.netavark.finish(child);
            outcome.with_context(|| podman.daemon.log())?;
        }
        Ok(())
    };
    all_at_once("setup")?;
    let addresses = nodes.iter().map(address).collect::<Result<BTreeSet<_>>>()?;
    ensure!(addresses.len() == 64, "{addresses:?}");
    all_at_once("teardown")?;
    nodes.iter().try_for_each(ensure_nothing_left)?;
    until("the leases are released", SOON, || {
        podman.server.leases().is_empty()
    })
}
