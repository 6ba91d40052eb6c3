//! The examples of addresses that come from elsewhere than DHCP.

use lab::anyhow::ensure;
use lab::serde_json::{self, Value};
use lab::suite::packages::GO_PLUGINS;
use lab::{Attachment, Lan, Network, Result, Test, World, test};

use crate::scenario::SOON;

pub(crate) const TESTS: &[Test] =
    &[test!(host_local_and_static_give_the_addresses_of_their_examples).needs(&[GO_PLUGINS])];

fn host_local_and_static_give_the_addresses_of_their_examples(_: &World) -> Result {
    let lan = Lan::new()?;
    for (example, address) in [("host-local", "10.99.0.50/24"), ("static", "10.99.0.80/24")] {
        let path = format!("{}/examples/conflists/{example}.conflist", env!("CARGO_MANIFEST_DIR"));
        let conflist: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let network = Network::new(&lan.host, conflist);
        let container = lan.container(example)?;
        let attachment = Attachment::new(&container);
        let result = network.add(&attachment)?;
        ensure!(
            result["ips"][0]["address"] == address && container.ipv4("eth0")?[0].to_string() == address,
            "{result}"
        );
        ensure!(result["dns"]["nameservers"][0] == "10.99.0.1", "{result}");
        container.ping(Lan::ADDRESS.into(), SOON)?;
        network.check(&attachment)?;
        network.del(&attachment)?;
    }
    Ok(())
}
