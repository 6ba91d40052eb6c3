//! Nomad's clients attach allocations to networks of mode `cni/NAME`.
//!
//! hashicorp/nomad, `client/allocrunner/networking_cni.go`: `Setup` tries ADD three times, with
//! nothing but a pause between; the arguments are the job's own and, for transparent proxies, JSON;
//! `Teardown` calls DEL without arguments. Pull request #24319: arguments with the workload's region,
//! namespace, job, group and allocation, named like the variables of its tasks; those that contain a
//! semicolon are left out.

use lab::anyhow::ensure;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::network::cni_error;
use lab::serde_json::json;
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Result, Test, World, test, until};

use crate::scenario::{SOON, conflist, decoded, ensure_nothing_left, reported};

pub(super) const TESTS: &[Test] = &[test!(the_third_try_of_an_add_succeeds)];

const ALLOCATION: &str = "5d2a3f9c-7b61-4e0f-9a35-0c8d1e2f3a4b";

fn the_third_try_of_an_add_succeeds(world: &World) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let ipam = json!({
        "type": "dhcp",
        "timeout": "1s",
        "clientId": { "fromArg": "NOMAD_ALLOC_ID" },
        "provide": [{ "option": "host-name", "fromArg": "NOMAD_GROUP_NAME" }],
    });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    let allocation = lan.container(ALLOCATION)?;
    let arguments = [
        "IgnoreUnknown=true",
        "NOMAD_REGION=global",
        "NOMAD_NAMESPACE=default",
        "NOMAD_JOB_ID=batch/dispatch-1732900000-2f6b1c3d",
        "NOMAD_GROUP_NAME=web",
        "NOMAD_ALLOC_ID=5d2a3f9c-7b61-4e0f-9a35-0c8d1e2f3a4b",
        r#"CONSUL_IPTABLES_CONFIG={"ConsulDNSIP":"","ProxyUserID":"101","ExcludeInboundPorts":["22"]}"#,
    ];
    let attachment = Attachment {
        args: arguments.join(";"),
        ..Attachment::new(&allocation)
    };

    let error = cni_error(network.add(&attachment));
    ensure!(error.code == 50, "no daemon runs: {error:?}");
    let _daemon = Daemon::start_at_default_path(world, &lan.host)?;
    server.when(MessageType::Discover).then(Reaction::silence());
    let error = cni_error(network.add(&attachment));
    ensure!(error.code == 11, "no server answers: {error:?}");
    server.behave();
    let result = network.add(&attachment)?;
    reported(&result, &allocation)?;
    let discovers = server.received_of(MessageType::Discover);
    for discover in &discovers {
        let options = decoded(discover)?.opts();
        ensure!(
            options.get(OptionCode::Hostname) == Some(&DhcpOption::Hostname("web".into())),
            "{options:?}"
        );
    }

    let teardown = Attachment {
        args: String::new(),
        ..attachment
    };
    network.del(&teardown)?;
    ensure_nothing_left(&allocation)?;
    until("the lease is released", SOON, || server.leases().is_empty())
}
