//! DEL removes everything of the attachment, even if other things are gone or broken, and nothing
//! else.

use std::fs;

use lab::anyhow::{Context, ensure};
use lab::plugin::DEBIANS_PLUGINS;
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Result, Test, World, network, test};
use linknet::NewMacvlan;

use super::{plug, script};
use crate::scenario::{conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(del_removes_the_interface_even_if_ipam_fails),
    test!(del_removes_the_interface_even_if_the_daemon_is_down),
    test!(del_succeeds_when_the_parent_is_gone),
    test!(del_succeeds_when_the_netns_is_gone),
    test!(another_interface_of_that_name_is_left_alone),
    test!(another_networks_macvlan_of_that_name_is_left_alone),
    test!(a_renamed_interface_is_recognized_by_its_alias),
    test!(the_hosts_own_interfaces_are_never_touched),
    test!(an_interface_made_by_the_go_plugin_is_checked_and_removed).needs(&[packages::GO_PLUGINS]),
    test!(a_finished_interface_has_its_alias_and_the_default_group),
];

fn made(lan: &Lan, name: &str, conflist: &Value) -> Result<(lab::Node, Value)> {
    let container = lan.container(name)?;
    let network = Network::new(&lan.host, conflist.clone());
    let result = network.add(&network::Attachment::new(&container))?;
    Ok((container, result))
}

fn del_removes_the_interface_even_if_ipam_fails(world: &World) -> Result {
    let lan = Lan::new()?;
    let (container, _) = made(&lan, "c1", &conflist(json!({})))?;
    let path = script(
        world,
        "broken",
        "cat >/dev/null\necho '{\"code\":123,\"msg\":\"no\"}'\nexit 1\n",
    )?;
    let network = Network::with_path(
        &lan.host,
        conflist(json!({ "ipam": { "type": "broken" } })),
        path,
    );
    let error = network::cni_error(network.del(&network::Attachment::new(&container)));
    ensure!(
        error.code == 123 && error.msg == "no",
        "the runtime hears of it: {error:?}"
    );
    ensure_nothing_left(&container)
}

fn del_removes_the_interface_even_if_the_daemon_is_down(world: &World) -> Result {
    let lan = Lan::new()?;
    let (container, _) = made(&lan, "c1", &conflist(json!({})))?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": world.dir().join("nobody.sock") });
    let network = Network::new(&lan.host, conflist(json!({ "ipam": ipam })));
    network.del(&network::Attachment::new(&container))?;
    ensure_nothing_left(&container)
}

fn del_succeeds_when_the_parent_is_gone(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, _) = made(&lan, "c1", &conflist)?;
    lan.host
        .netlink()?
        .delete_link(lan.host.link(Lan::MASTER)?.index)?;
    ensure_nothing_left(&container).context("the kernel removes a macvlan with its parent")?;
    Network::new(&lan.host, conflist).del(&network::Attachment::new(&container))
}

fn del_succeeds_when_the_netns_is_gone(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, _) = made(&lan, "c1", &conflist)?;
    let network = Network::new(&lan.host, conflist);
    let attachment = network::Attachment::new(&container);
    let path = container.path();
    container.remove()?;
    network.del(&attachment)?;
    // After a restart of the machine the file is left, and nothing mounted on it.
    fs::write(&path, "")?;
    network.del(&attachment)?;
    network.del(&network::Attachment {
        netns: None,
        ..attachment
    })
}

fn another_interface_of_that_name_is_left_alone(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, result) = made(&lan, "c1", &conflist)?;
    container
        .netlink()?
        .delete_link(container.link("eth0")?.index)?;
    let other = plug(&lan, &container, "eth0")?;
    let network = Network::new(&lan.host, conflist);
    let del = network.prepare(
        "DEL",
        0,
        &network::Attachment::new(&container),
        Some(&result),
    )?;
    let outcome = del.run(&lan.host)?;
    ensure!(outcome.stderr.contains("left eth0 alone"), "{outcome:?}");
    outcome.success()?;
    ensure!(container.link("eth0")?.index == other.index);
    Ok(())
}

fn another_networks_macvlan_of_that_name_is_left_alone(_: &World) -> Result {
    let lan = Lan::new()?;
    let mut wan = conflist(json!({}));
    wan["name"] = json!("wan");
    let (container, _) = made(&lan, "c1", &wan)?;
    let network = Network::new(&lan.host, conflist(json!({})));
    let attachment = network::Attachment::new(&container);
    let outcome = network
        .prepare("DEL", 0, &attachment, None)?
        .run(&lan.host)?;
    ensure!(
        outcome
            .stderr
            .contains("left eth0 alone, because it belongs to another attachment"),
        "{outcome:?}"
    );
    outcome.success()?;
    container.link("eth0")?;
    Network::new(&lan.host, wan).del(&attachment)?;
    ensure_nothing_left(&container)
}

fn a_renamed_interface_is_recognized_by_its_alias(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    let (container, _) = made(&lan, "c1", &conflist)?;
    container.set_down("eth0")?;
    container.rename("eth0", "lan0")?;
    Network::new(&lan.host, conflist).del(&network::Attachment::new(&container))?;
    ensure_nothing_left(&container)
}

fn the_hosts_own_interfaces_are_never_touched(_: &World) -> Result {
    let lan = Lan::new()?;
    let host = lan.host.netlink()?;
    let shim = NewMacvlan::new("eth0", lan.host.link(Lan::MASTER)?.index);
    host.add_macvlan(&shim, lan.host.netns(), &host)?;
    let network = Network::new(&lan.host, conflist(json!({})));
    network.del(&network::Attachment::new(&lan.host))?;
    lan.host.link("eth0")?;
    Ok(())
}

/// The upgrade: made by the other plugin, kept by ours.
fn an_interface_made_by_the_go_plugin_is_checked_and_removed(_: &World) -> Result {
    let lan = Lan::new()?;
    let conflist = conflist(json!({}));
    for with_result in [true, false] {
        let container = lan.container("c1")?;
        let attachment = network::Attachment::new(&container);
        let go = Network::with_path(&lan.host, conflist.clone(), vec![DEBIANS_PLUGINS.into()]);
        let result = go.add(&attachment)?;
        let ours = Network::new(&lan.host, conflist.clone());
        let call = |verb: &str, result: Option<&Value>| -> Result<Value> {
            ours.prepare(verb, 0, &attachment, result)?
                .run(&lan.host)?
                .success()
        };
        call("CHECK", Some(&result))?;
        call("DEL", Some(&result).filter(|_| with_result))?;
        ensure_nothing_left(&container)?;
        container.remove()?;
    }

    // One of another MAC than the result's is another.
    let container = lan.container("c2")?;
    let attachment = network::Attachment::new(&container);
    let go = Network::with_path(&lan.host, conflist.clone(), vec![DEBIANS_PLUGINS.into()]);
    let mut result = go.add(&attachment)?;
    result["interfaces"][0]["mac"] = json!("02:00:00:00:00:99");
    let ours = Network::new(&lan.host, conflist);
    let outcome = ours
        .prepare("DEL", 0, &attachment, Some(&result))?
        .run(&lan.host)?;
    ensure!(outcome.stderr.contains("left eth0 alone"), "{outcome:?}");
    container.link("eth0")?;
    Ok(())
}

fn a_finished_interface_has_its_alias_and_the_default_group(_: &World) -> Result {
    let lan = Lan::new()?;
    let (container, _) = made(&lan, "c1", &conflist(json!({})))?;
    let link = container.link("eth0")?;
    ensure!(
        (link.alias.as_deref(), link.group) == (Some("leasehold:eth0/c1/lan"), 0),
        "{link:?}"
    );
    Ok(())
}
