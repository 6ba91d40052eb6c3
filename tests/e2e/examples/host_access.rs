//! Host and container, by a lease; and what keeps network managers away.

use std::net::Ipv4Addr;

use lab::anyhow::ensure;
use lab::dhcp_server::Settings;
use lab::{Daemon, DhcpServer, Lan, Result, Test, World, network, test};

use super::network;
use crate::host_access::ensure_host_is_clean;
use crate::scenario::{SOON, address};

pub(super) const TESTS: &[Test] = &[
    test!(host_access_joins_host_and_container),
    test!(documentation_quotes_the_network_managers_files_verbatim),
];

fn host_access_joins_host_and_container(world: &World) -> Result {
    let lan = Lan::new()?;
    let host = Ipv4Addr::new(10, 99, 0, 2);
    lan.host
        .add_address(Lan::MASTER, format!("{host}/24").parse()?)?;
    let _daemon = Daemon::start_at_default_path(world, &lan.host)?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let network = network(&lan, "host-access")?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    lan.host.ping(address(&container)?.into(), SOON)?;
    container.ping(host.into(), SOON)?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_host_is_clean(&lan.host)
}

fn documentation_quotes_the_network_managers_files_verbatim(_: &World) -> Result {
    const PAGE: &str = include_str!("../../../docs/host-access.md");
    for file in [
        include_str!("../../../examples/host-access/90-leasehold.conf"),
        include_str!("../../../examples/host-access/00-leasehold.network"),
    ] {
        ensure!(
            PAGE.contains(&format!("```ini\n{file}```\n")),
            "not as the example has it:\n{file}"
        );
    }
    Ok(())
}
