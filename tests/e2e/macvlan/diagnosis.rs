//! Every refusal says which device is in the way and what to do, leaves nothing behind, and costs
//! no time.

use std::thread;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, ensure};
use lab::plugin::{CniError, Outcome};
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{Lan, Network, Node, Result, Test, World, deadline, network, test, until};

use super::{addresses, plug};
use crate::scenario::{SOON, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(loopback_is_refused_as_a_parent),
    test!(a_bridge_port_is_refused_as_a_parent_naming_the_bridge),
    test!(a_passthru_macvlan_that_occupies_the_parent_is_named),
    test!(passthru_is_refused_naming_the_macvlans_on_the_parent),
    test!(add_waits_for_a_passthru_macvlan_that_is_being_removed),
    test!(an_invalid_mac_is_refused),
    test!(the_parents_own_mac_is_refused),
    test!(a_mac_that_stays_in_use_is_refused_naming_its_holder),
    test!(add_waits_for_the_mac_of_a_container_that_is_being_removed),
    test!(a_too_small_mtu_is_refused_with_the_kernels_message),
    test!(an_interface_that_has_the_name_already_is_left_alone),
    test!(with_its_parent_down_a_lease_is_refused_at_once),
    test!(with_its_parent_down_an_interface_without_dhcp_is_made_with_a_warning)
        .needs(&[packages::GO_PLUGINS]),
    test!(a_missing_carrier_is_reported_when_ipam_fails),
    test!(a_kernel_without_vlans_is_named_by_add_as_by_status),
];

/// An ADD with these keys in a new container, and how long it took.
fn add(lan: &Lan, container: &Node, keys: Value) -> Result<Outcome> {
    let attachment = network::Attachment::new(container);
    Network::new(&lan.host, conflist(keys))
        .prepare("ADD", 0, &attachment, None)?
        .run(&lan.host)
}

/// On a kernel with VLANs neither fails.
fn a_kernel_without_vlans_is_named_by_add_as_by_status(_: &World) -> Result {
    let lan = Lan::new()?;
    let mut conflist = conflist(json!({ "vlan": 228 }));
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::new(&lan.host, conflist);
    let has_vlans = network.status().is_ok();
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    if has_vlans {
        network.add(&attachment)?;
        return network.del(&attachment);
    }
    let error = network::cni_error(network.status());
    ensure!(error.msg.contains("no VLANs"), "{error:?}");
    let error = network::cni_error(network.add(&attachment));
    ensure!(
        error.code == 112 && error.msg.contains("no VLANs"),
        "{error:?}"
    );
    ensure_nothing_left(&container)
}

/// The error of an ADD that is refused at once and leaves nothing.
fn refusal(lan: &Lan, keys: Value) -> Result<CniError> {
    let container = lan.container("refused")?;
    let outcome = add(lan, &container, keys)?;
    ensure!(
        outcome.took < deadline(Duration::from_millis(1500)),
        "{outcome:?}"
    );
    let error = outcome.error()?;
    ensure_nothing_left(&container)?;
    container.remove()?;
    Ok(error)
}

fn loopback_is_refused_as_a_parent(_: &World) -> Result {
    let error = refusal(&Lan::new()?, json!({ "master": "lo" }))?;
    ensure!(
        error.code == 7 && error.msg.contains("lo is the loopback device"),
        "{error:?}"
    );
    Ok(())
}

fn a_bridge_port_is_refused_as_a_parent_naming_the_bridge(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host.add_bridge("br0")?;
    lan.host.add_bridge_port("br0", Lan::MASTER)?;
    let error = refusal(&lan, json!({}))?;
    ensure!(
        error.code == 7 && error.msg.contains("eth1 is a port of bridge br0"),
        "{error:?}"
    );
    ensure!(
        error.details.contains("use br0 as master") && error.details.contains("EBUSY"),
        "{error:?}"
    );
    // Which is good advice.
    let container = lan.container("c1")?;
    add(&lan, &container, json!({ "master": "br0" }))?.success()?;
    Ok(())
}

fn a_passthru_macvlan_that_occupies_the_parent_is_named(_: &World) -> Result {
    let lan = Lan::new()?;
    let holder = lan.container("c1")?;
    add(&lan, &holder, json!({ "mode": "passthru" }))?.success()?;
    for mode in ["bridge", "passthru"] {
        let error = refusal(&lan, json!({ "mode": mode }))?;
        ensure!(
            error.code == 7 && error.msg.contains("eth0 in /run/netns/c1"),
            "{mode}: {error:?}"
        );
        ensure!(error.msg.contains("passthru"), "{mode}: {error:?}");
    }
    Ok(())
}

fn passthru_is_refused_naming_the_macvlans_on_the_parent(_: &World) -> Result {
    let lan = Lan::new()?;
    for name in ["c1", "c2"] {
        add(&lan, &lan.container(name)?, json!({}))?.success()?;
    }
    let error = refusal(&lan, json!({ "mode": "passthru" }))?;
    ensure!(
        error.code == 7 && error.msg.contains("needs eth1 to itself"),
        "{error:?}"
    );
    ensure!(
        error.msg.contains("/run/netns/c1") && error.msg.contains("/run/netns/c2"),
        "{error:?}"
    );
    Ok(())
}

fn add_waits_for_a_passthru_macvlan_that_is_being_removed(_: &World) -> Result {
    let lan = Lan::new()?;
    let dying = nameless_holder(&lan, json!({ "mode": "passthru" }))?;
    let container = lan.container("c2")?;
    let end = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        drop(dying);
    });
    add(&lan, &container, json!({ "mode": "passthru" }))?.success()?;
    end.join().ok().context("the other thread")?;
    Ok(())
}

fn an_invalid_mac_is_refused(_: &World) -> Result {
    let lan = Lan::new()?;
    for (mac, word) in [
        ("01:00:5e:00:00:01", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "multicast"),
        ("00:00:00:00:00:00", "00:00:00:00:00:00"),
        ("02:00:00:00:00", "02:00:00:00:00"),
    ] {
        let error = refusal(&lan, json!({ "mac": mac }))?;
        ensure!(
            error.code == 7 && error.msg.contains(word),
            "{mac}: {error:?}"
        );
    }
    Ok(())
}

fn the_parents_own_mac_is_refused(_: &World) -> Result {
    let lan = Lan::new()?;
    let mac = lan
        .host
        .link(Lan::MASTER)?
        .mac
        .context("a MAC")?
        .to_string();
    let error = refusal(&lan, json!({ "mac": mac }))?;
    ensure!(
        error.code == 7 && error.msg.contains(&mac) && error.msg.contains("eth1 itself"),
        "{error:?}"
    );
    Ok(())
}

const MAC: &str = "02:00:00:00:00:17";

fn a_mac_that_stays_in_use_is_refused_naming_its_holder(_: &World) -> Result {
    let lan = Lan::new()?;
    let holder = lan.container("c1")?;
    add(&lan, &holder, json!({ "mac": MAC }))?.success()?;
    let container = lan.container("c2")?;
    let outcome = add(&lan, &container, json!({ "mac": MAC }))?;
    let took = outcome.took;
    ensure!(
        took > Duration::from_secs(1) && took < deadline(Duration::from_secs(20)),
        "{took:?}"
    );
    let error = outcome.error()?;
    ensure!(error.code == 11 && error.msg.contains(MAC), "{error:?}");
    ensure!(error.msg.contains("eth0 in /run/netns/c1"), "{error:?}");
    ensure_nothing_left(&container)
}

fn add_waits_for_the_mac_of_a_container_that_is_being_removed(_: &World) -> Result {
    let lan = Lan::new()?;
    let dying = nameless_holder(&lan, json!({ "mac": MAC }))?;
    let container = lan.container("c2")?;
    let (started, lifetime) = (Instant::now(), Duration::from_secs(3));
    let end = thread::spawn(move || {
        thread::sleep(lifetime);
        drop(dying);
    });
    add(&lan, &container, json!({ "mac": MAC }))?.success()?;
    ensure!(started.elapsed() >= lifetime, "it was waited for");
    end.join().ok().context("the other thread")?;
    Ok(())
}

/// A container whose namespace has no name any more, and exists as long as the returned handle.
fn nameless_holder(lan: &Lan, keys: Value) -> Result<linknet::Netns> {
    let holder = lan.container("c1")?;
    add(lan, &holder, keys)?.success()?;
    let netns = holder.netns().try_clone()?;
    holder.remove()?;
    Ok(netns)
}

fn a_too_small_mtu_is_refused_with_the_kernels_message(_: &World) -> Result {
    let error = refusal(&Lan::new()?, json!({ "mtu": 60 }))?;
    ensure!(
        error.code == 7 && error.details.contains("mtu less than device minimum"),
        "{error:?}"
    );
    Ok(())
}

fn an_interface_that_has_the_name_already_is_left_alone(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let veth = plug(&lan, &container, "eth0")?;
    let error = add(&lan, &container, json!({}))?.error()?;
    ensure!(
        error.code == 4 && error.msg.contains("eth0 (veth)"),
        "{error:?}"
    );
    ensure!(
        container.link("eth0")?.index == veth.index,
        "it is still there"
    );

    // Another network's interface is not ours either.
    let other = lan.container("c2")?;
    let attachment = network::Attachment::new(&other);
    let mut elsewhere = conflist(json!({}));
    elsewhere["name"] = json!("wan");
    Network::new(&lan.host, elsewhere).add(&attachment)?;
    let first = other.link("eth0")?;
    let error = add(&lan, &other, json!({}))?.error()?;
    ensure!(
        error.code == 4 && error.msg.contains("belongs to another attachment"),
        "{error:?}"
    );
    let now = other.link("eth0")?;
    ensure!(
        (now.index, now.alias, now.up) == (first.index, first.alias, first.up),
        "it is as it was"
    );
    Ok(())
}

fn with_its_parent_down_a_lease_is_refused_at_once(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host.set_down(Lan::MASTER)?;
    let error = refusal(&lan, json!({ "ipam": { "type": "dhcp" } }))?;
    ensure!(
        error.code == 11 && error.msg.contains("ip link set eth1 up"),
        "{error:?}"
    );
    Ok(())
}

fn with_its_parent_down_an_interface_without_dhcp_is_made_with_a_warning(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.host.set_down(Lan::MASTER)?;
    let container = lan.container("c1")?;
    let keys = json!({ "ipam": addresses(&["10.99.0.60/24", "fd99::60/64"]) });
    let network = Network::new(&lan.host, conflist(keys.clone()));
    let attachment = network::Attachment::new(&container);
    let outcome = add(&lan, &container, keys)?;
    ensure!(outcome.stderr.contains("eth1 is down"), "{outcome:?}");
    ensure!(
        outcome.took < deadline(Duration::from_secs(3)),
        "nobody waits for duplicates that cannot be looked for: {outcome:?}"
    );
    let result = outcome.success()?;

    // CHECK does not demand more than ADD did.
    let check = network
        .prepare("CHECK", 0, &attachment, Some(&result))?
        .run(&lan.host)?;
    ensure!(check.stderr.contains("eth1 is down"), "{check:?}");
    check.success()?;
    lan.host.set_up(Lan::MASTER)?;
    until("the LAN is reached", SOON, || {
        container
            .is_answered(Lan::ADDRESS.into(), Duration::from_millis(100))
            .is_ok_and(|answered| answered)
    })?;
    network
        .prepare("CHECK", 0, &attachment, Some(&result))?
        .run(&lan.host)?
        .success()?;
    Ok(())
}

fn a_missing_carrier_is_reported_when_ipam_fails(_: &World) -> Result {
    let lan = Lan::new()?;
    lan.lan.set_down(Lan::SERVER_LINK)?;
    until("the carrier is gone", SOON, || {
        lan.host.link(Lan::MASTER).is_ok_and(|link| !link.carrier)
    })?;
    // No daemon answers at this path; what matters is that its words are not all.
    let error = refusal(
        &lan,
        json!({ "ipam": { "type": "dhcp", "daemonSocketPath": "/run/cni/nobody.sock" } }),
    )?;
    ensure!(error.details.contains("eth1 has no carrier"), "{error:?}");
    Ok(())
}
