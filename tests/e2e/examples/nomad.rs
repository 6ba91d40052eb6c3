//! `nomad.conflist`.

use lab::anyhow::ensure;
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::{Attachment, Daemon, DhcpServer, Lan, Result, Test, World, test};

use crate::scenario::{SOON, decoded, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[test!(nomad_names_a_container_by_its_group)];

fn nomad_names_a_container_by_its_group(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let _daemon = Daemon::start_at_default_path(world, &lan.host)?;
    let network = super::network(&lan, "nomad")?;
    let allocation = lan.container("5d2a3f9c")?;
    let attachment = Attachment {
        args: "IgnoreUnknown=true;NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=web".to_owned(),
        ..Attachment::new(&allocation)
    };
    network.add(&attachment)?;
    let discover = server.wait_for(MessageType::Discover, 1, SOON)?;
    let hostname = decoded(&discover)?.opts().get(OptionCode::Hostname);
    ensure!(
        hostname == Some(&DhcpOption::Hostname("web".into())),
        "{hostname:?}"
    );
    network.del(&attachment)?;
    ensure_nothing_left(&allocation)
}
