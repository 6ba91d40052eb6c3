//! `examples/vlan/`: every file there is used as it stands.

use lab::anyhow::ensure;
use lab::dhcp_server::Settings;
use lab::serde_json;
use lab::{Daemon, DhcpServer, Lan, Network, Result, Test, World, test, until};

use super::{NAME, Trunk};
use crate::guest::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(the_examples_lease_addresses_over_one_vlan),
    test!(the_documentation_quotes_an_example_verbatim),
];

const VLAN: &str = include_str!("../../../../examples/vlan/vlan.conflist");
const DOCKER: &str = include_str!("../../../../examples/vlan/docker.conflist");

fn the_examples_lease_addresses_over_one_vlan(world: &World) -> Result {
    let trunk = Trunk::new()?;
    let server = DhcpServer::start_on(&trunk.lan.lan, Trunk::SERVER_LINK, Settings::default())?;
    let _daemon = Daemon::start_at_default_path(world, trunk.host())?;
    let network = |text| -> Result<Network<'_>> {
        Ok(Network::new(trunk.host(), serde_json::from_str(text)?))
    };
    let (by_key, by_name) = (network(VLAN)?, network(DOCKER)?);
    let (one, first) = trunk.attached("c1", &by_key)?;
    let (two, second) = trunk.attached("c2", &by_name)?;
    trunk.ensure_host_has(&[NAME])?;
    one.ping(Lan::ADDRESS.into(), SOON)?;
    one.ping(two.ipv4("eth0")?[0].addr().into(), SOON)?;
    for (network, attachment) in [(&by_key, &first), (&by_name, &second)] {
        network.check(attachment)?;
        network.del(attachment)?;
    }
    until("the leases are given back", SOON, || {
        server.leases().is_empty()
    })?;
    trunk.ensure_host_has(&[])
}

fn the_documentation_quotes_an_example_verbatim(_: &World) -> Result {
    let page = include_str!("../../../../docs/vlans.md");
    ensure!(
        page.contains(&format!("```json\n{VLAN}```")),
        "docs/vlans.md shows another text than the example"
    );
    Ok(())
}
