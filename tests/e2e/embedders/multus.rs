//! Multus up to 4.3.0 keeps of a conflist what CNI's own types have, and calls DEL with that.
//!
//! k8snetworkplumbingwg/multus-cni, issue #1449: a DEL's configuration is
//! `{"cniVersion", "ipam": {"type"}, "name", "type"}`, and its arguments are `IgnoreUnknown` and
//! `K8S_POD_*`. Pull request #1521: `capabilities` and `dns` are kept too, and all other keys lost.
//! From CNI 0.4.0 on, libcni adds the result that it has cached.

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{Value, json};
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Result, Test, World, test, until};

use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(del_with_next_to_no_keys_removes_the_interface_and_releases_the_lease),
    test!(del_with_next_to_no_keys_removes_what_other_keys_have_made),
];

fn del_with_next_to_no_keys_removes_the_interface_and_releases_the_lease(world: &World) -> Result {
    for version in ["0.3.1", "1.0.0"] {
        add_and_del(world, version, json!({})).with_context(|| version.to_owned())?;
    }
    Ok(())
}

fn del_with_next_to_no_keys_removes_what_other_keys_have_made(world: &World) -> Result {
    let keys = json!({ "hostAccess": true, "guard": true, "sourceRouting": true });
    for version in ["0.3.1", "1.0.0"] {
        add_and_del(world, version, keys.clone()).with_context(|| version.to_owned())?;
    }
    Ok(())
}

fn add_and_del(world: &World, version: &str, keys: Value) -> Result {
    let lan = Lan::new()?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let daemon = Daemon::start_at_default_path(world, &lan.host)?;
    let mut macvlan = json!({
        "type": "macvlan",
        "master": Lan::MASTER,
        "mode": "bridge",
        "mtu": 1400,
        "capabilities": { "mac": true },
        "ipam": { "type": "dhcp", "priority": 300, "hostname": "web" },
    });
    if let (Value::Object(macvlan), Value::Object(keys)) = (&mut macvlan, keys) {
        macvlan.extend(keys);
    }
    let kept = json!({
        "type": "macvlan", "capabilities": { "mac": true }, "ipam": { "type": "dhcp" },
    });
    let of = |plugin: Value| {
        let conflist = json!({ "cniVersion": version, "name": "lan", "plugins": [plugin] });
        Network::new(&lan.host, conflist)
    };
    let (added, remembered) = (of(macvlan), of(kept));
    let pod = lan.container("pod")?;
    let attachment = Attachment {
        ifname: "net1".to_owned(),
        args: "IgnoreUnknown=true;K8S_POD_NAMESPACE=backup;K8S_POD_NAME=node-agent-d97p8;\
               K8S_POD_INFRA_CONTAINER_ID=a173930f520b46882cb2eb983ed593bc;\
               K8S_POD_UID=774f021f-d09a-4e62-ab2b-add3adb6ca82"
            .to_owned(),
        ..Attachment::new(&pod)
    };
    let links = lan.host.links()?.len();
    let result = added.add(&attachment)?;
    ensure!(pod.link("net1")?.mtu == 1400, "{result}");
    ensure!(server.leases().len() == 1);

    let cached = (version != "0.3.1").then_some(&result);
    remembered
        .prepare("DEL", 0, &attachment, cached)?
        .run(&lan.host)?
        .success()?;
    ensure_nothing_left(&pod)?;
    until("the lease is released", SOON, || server.leases().is_empty())
        .with_context(|| daemon.log())?;
    until("the host is as before", SOON, || {
        lan.host.links().is_ok_and(|all| all.len() == links)
    })?;
    daemon.stop()?;
    for node in [pod, lan.host, lan.lan] {
        node.remove()?;
    }
    Ok(())
}
