//! nerdctl creates networks with `--ipam-driver dhcp`, and attaches containers in OCI hooks.
//!
//! containerd/nerdctl, `pkg/netutil/netutil_unix.go`: the `ipam` section has `daemonSocketPath`,
//! /run/cni/dhcp.sock for root, and provides the host name from the argument
//! `NERDCTL_CNI_DHCP_HOSTNAME`, beside the options of `--ipam-opt`; the value that is not given is an
//! empty one, as in the Go plugin's own structures. `docs/cni.md` has the vendor class as an example.
//! `pkg/ocihook/ocihook.go`: the container is `NAMESPACE-ID`, its netns that of the process; the hook
//! after its end calls DEL without a netns.

use std::process::Command;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::serde_json::json;
use lab::{
    Attachment, Daemon, DhcpServer, Lan, Network, Process, Result, Test, World, test, until,
};

use crate::chaos::held_on_disk;
use crate::scenario::{SOON, decoded, reported};

pub(super) const TESTS: &[Test] = &[test!(a_container_is_run_and_ends)];

const ID: &str = "default-1959a5c1a248f97c3e8bf5ad06e6335c57ad811b04470f086840600d575c2cd1";

fn a_container_is_run_and_ends(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let daemon = Daemon::start_at_default_path(world, &lan.host)?;
    let conflist = json!({
        "cniVersion": "1.0.0",
        "name": "mac0",
        "nerdctlID": "9b1ee1c3a5d2f4a6",
        "nerdctlLabels": {},
        "plugins": [{
            "type": "macvlan",
            "master": Lan::MASTER,
            "mode": "bridge",
            "ipam": {
                "type": "dhcp",
                "daemonSocketPath": "/run/cni/dhcp.sock",
                "provide": [
                    { "option": "host-name", "value": "", "fromArg": "NERDCTL_CNI_DHCP_HOSTNAME" },
                    { "option": "vendor-class-identifier", "value": "Hey! Its me!", "fromArg": "" },
                ],
            },
        }],
    });
    let network = Network::new(&lan.host, conflist);
    let container = lan.container("c1")?;
    let mut command = Command::new("sleep");
    command.arg("infinity");
    let mut main = Process::spawn(world, &container, "main", command)?;
    let attachment = Attachment {
        container_id: ID.to_owned(),
        netns: Some(format!("/proc/{}/ns/net", main.pid()).into()),
        args: "IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=web-1".to_owned(),
        ..Attachment::new(&container)
    };
    let result = network.add(&attachment)?;
    reported(&result, &container)?;
    ensure!(held_on_disk()?.len() == 1, "{:?}", held_on_disk()?);
    let discover = server.wait_for(MessageType::Discover, 1, SOON)?;
    let options = decoded(&discover)?.opts();
    ensure!(
        options.get(OptionCode::Hostname) == Some(&DhcpOption::Hostname("web-1".into())),
        "{options:?}"
    );
    let class = DhcpOption::ClassIdentifier(b"Hey! Its me!".to_vec());
    ensure!(
        options.get(OptionCode::ClassIdentifier) == Some(&class),
        "{options:?}"
    );

    main.kill()?;
    container.remove()?;
    let ended = Attachment {
        netns: None,
        ..attachment
    };
    network.del(&ended)?;
    until("the daemon has no lease", SOON, || {
        held_on_disk().is_ok_and(|held| held.is_empty())
    })
    .with_context(|| daemon.log())
}
