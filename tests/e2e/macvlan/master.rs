//! `master` in all its forms.

use std::net::IpAddr;

use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Result, Test, World, network, test};
use linknet::Route;

use super::plug;
use crate::scenario::{conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(without_a_master_the_default_routes_device_is_used),
    test!(a_master_is_found_by_any_of_its_names).needs(&[packages::IPROUTE2]),
    test!(a_master_that_matches_two_devices_is_refused_naming_both),
    test!(a_master_that_matches_none_is_refused_listing_all),
    test!(without_a_master_and_a_default_route_add_is_refused),
    test!(check_accepts_the_original_parent_even_if_another_would_be_chosen_now),
];

/// ADD and CHECK with this `master`: the parent is the LAN's device.
fn ensure_found(lan: &Lan, master: &Value) -> Result {
    let container = lan.container("c1")?;
    let mut conflist = conflist(json!({ "master": master }));
    if master.is_null() {
        conflist["plugins"][0]
            .as_object_mut()
            .context("an object")?
            .remove("master");
    }
    let network = Network::new(&lan.host, conflist);
    let attachment = network::Attachment::new(&container);
    network
        .add(&attachment)
        .with_context(|| master.to_string())?;
    ensure!(
        container.link("eth0")?.parent == Some(lan.host.link(Lan::MASTER)?.index),
        "{master}"
    );
    network
        .check(&attachment)
        .with_context(|| master.to_string())?;
    network.del(&attachment)?;
    container.remove()
}

fn refusal(lan: &Lan, master: &Value) -> Result<lab::plugin::CniError> {
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, conflist(json!({ "master": master })));
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure_nothing_left(&container)?;
    container.remove()?;
    Ok(error)
}

fn without_a_master_the_default_routes_device_is_used(_: &World) -> Result {
    let lan = Lan::new()?;
    let other = plug(&lan, &lan.host, "eth2")?;
    lan.host.add_address("eth2", "10.98.0.2/24".parse()?)?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    let netlink = lan.host.netlink()?;
    let default = |index, gateway: &str, metric| -> Result<Route> {
        let everywhere: ipnet::IpNet = "0.0.0.0/0".parse()?;
        Ok(Route {
            metric,
            ..Route::new(everywhere, index).via(gateway.parse::<IpAddr>()?)
        })
    };
    netlink.add_route(&default(other.index, "10.98.0.1", 200)?)?;
    netlink.add_route(&default(
        lan.host.link(Lan::MASTER)?.index,
        "10.99.0.1",
        100,
    )?)?;
    ensure_found(&lan, &Value::Null)?;
    ensure_found(&lan, &json!(""))
}

fn a_master_is_found_by_any_of_its_names(_: &World) -> Result {
    let lan = Lan::new()?;
    plug(&lan, &lan.host, "eth2")?;
    let link = lan.host.link(Lan::MASTER)?;
    let long = "enp0s31f6-the-port-next-to-the-window";
    lan.host.output(&[
        "ip",
        "link",
        "property",
        "add",
        "dev",
        Lan::MASTER,
        "altname",
        long,
    ])?;
    lan.host.set_alias(Lan::MASTER, "uplink")?;
    lan.host.set_alias("eth2", Lan::MASTER)?; // a device's own name precedes another's alias
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    let mac = link.mac.context("a MAC")?.to_string();
    for master in [
        json!(Lan::MASTER),
        json!(long),
        json!("uplink"),
        json!(mac),
        json!(mac.to_uppercase()),
        json!("e*1"),
        json!("enp0s31f6-*"),
        json!("*1"),
        json!(["lan0", Lan::MASTER, "eth2"]),
        json!(["wl*", "eth1"]),
        json!({ "subnet": "10.99.0.0/24" }),
    ] {
        ensure_found(&lan, &master)?;
    }
    Ok(())
}

fn a_master_that_matches_two_devices_is_refused_naming_both(_: &World) -> Result {
    let lan = Lan::new()?;
    plug(&lan, &lan.host, "eth2")?;
    lan.host.add_address("eth2", "10.99.0.3/24".parse()?)?;
    lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
    for master in [
        json!("eth*"),
        json!(["lan0", "eth?"]),
        json!({ "subnet": "10.99.0.0/24" }),
    ] {
        let error = refusal(&lan, &master)?;
        ensure!(
            error.code == 7 && error.msg.contains("ambiguous"),
            "{master}: {error:?}"
        );
        ensure!(
            error.msg.contains("eth1") && error.msg.contains("eth2"),
            "{master}: {error:?}"
        );
    }
    Ok(())
}

fn a_master_that_matches_none_is_refused_listing_all(_: &World) -> Result {
    let lan = Lan::new()?;
    for master in [
        json!("eth7"),
        json!("wl*"),
        json!("02:00:00:00:00:99"),
        json!(["eth7", "wl*"]),
        json!({ "subnet": "192.0.2.0/24" }),
    ] {
        let error = refusal(&lan, &master)?;
        ensure!(
            error.code == 7 && error.msg.contains("master"),
            "{master}: {error:?}"
        );
        ensure!(
            error.details.contains("devices that exist: eth1"),
            "{master}: {error:?}"
        );
    }
    Ok(())
}

fn without_a_master_and_a_default_route_add_is_refused(_: &World) -> Result {
    let lan = Lan::new()?;
    let error = refusal(&lan, &json!(""))?;
    ensure!(error.msg.contains("default route"), "{error:?}");
    Ok(())
}

fn check_accepts_the_original_parent_even_if_another_would_be_chosen_now(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(
        &lan.host,
        conflist(json!({ "master": ["lan0", Lan::MASTER] })),
    );
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    plug(&lan, &lan.host, "lan0")?;
    network.check(&attachment)
}
