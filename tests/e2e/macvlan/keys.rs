//! The keys of the configuration, each by what comes of it.

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{self, Value, json};
use lab::suite::packages;
use lab::{DhcpServer, Lan, Network, Node, Result, Test, World, network, test};
use linknet::{Link, Mac};

use super::script;
use crate::scenario::{Scenario, conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(the_broadcast_queue_has_the_configured_length),
    test!(the_broadcast_cutoff_is_as_configured),
    test!(a_passthru_parent_is_promiscuous_unless_configured_otherwise)
        .needs(&[packages::IPROUTE2]),
    test!(a_passthru_interface_takes_its_parents_mac_or_changes_it),
    test!(the_runtimes_mac_overrides_the_users_and_that_the_configured_one),
    test!(the_runtimes_addresses_reach_ipam).needs(&[packages::GO_PLUGINS]),
    test!(the_mtu_is_the_parents_or_less),
    test!(the_result_has_the_mtu_that_ipam_has_set).needs(&[packages::IPROUTE2]),
    test!(keys_in_another_case_are_understood),
    test!(keys_without_effect_in_the_mode_are_refused),
    test!(a_misspelt_key_is_warned_about_naming_the_right_one),
    test!(an_error_has_the_warnings_of_both_plugins_once),
    test!(an_ipam_section_without_a_type_is_no_interface_without_an_address),
    test!(in_source_mode_the_kernel_has_the_configured_macs),
];

/// ADDs with these keys, and returns the interface and the result.
fn made(lan: &Lan, container: &Node, keys: Value) -> Result<(Link, Value)> {
    let mut conflist = conflist(keys);
    conflist["cniVersion"] = json!(if lab::suite::other_plugins() {
        "1.0.0"
    } else {
        "1.1.0"
    });
    let result = Network::new(&lan.host, conflist).add(&network::Attachment::new(container))?;
    Ok((container.link("eth0")?, result))
}

fn a_misspelt_key_is_warned_about_naming_the_right_one(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let mut conflist = scenario.dhcp_with(json!({ "suppres": ["dns"] }));
    conflist["plugins"][0]["nopromisk"] = json!(true);
    let outcome = Network::new(&scenario.lan.host, conflist)
        .prepare("ADD", 0, &network::Attachment::new(&container), None)?
        .run(&scenario.lan.host)?;
    for words in [
        r#"there is no key "nopromisk"; did you mean "nopromisc"?"#,
        r#"there is no key "ipam.suppres"; did you mean "suppress"?"#,
    ] {
        ensure!(outcome.stderr.contains(words), "{outcome:?}");
    }
    outcome.success().map(drop)
}

/// Runtimes drop the stderr of a plugin that fails.
fn an_error_has_the_warnings_of_both_plugins_once(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let container = scenario.lan.container("c1")?;
    // No server answers.
    let mut conflist = scenario.dhcp_with(json!({ "suppres": ["dns"], "timeout": 1 }));
    conflist["plugins"][0]["nopromisk"] = json!(true);
    let attachment = network::Attachment::new(&container);
    let error = network::cni_error(Network::new(&scenario.lan.host, conflist).add(&attachment));
    for words in [
        r#"there is no key "nopromisk"; did you mean "nopromisc"?"#,
        r#"there is no key "ipam.suppres"; did you mean "suppress"?"#,
    ] {
        ensure!(error.details.matches(words).count() == 1, "{error:?}");
    }
    ensure_nothing_left(&container)
}

fn an_ipam_section_without_a_type_is_no_interface_without_an_address(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let network = Network::new(&lan.host, conflist(json!({ "ipam": { "typ": "dhcp" } })));
    let attachment = network::Attachment::new(&container);
    let error = network::cni_error(network.add(&attachment));
    ensure!(
        error.code == 7 && error.msg.contains(r#"did you mean "type""#),
        "{error:?}"
    );
    ensure_nothing_left(&container)?;
    network.del(&attachment)
}

fn the_broadcast_queue_has_the_configured_length(_: &World) -> Result {
    let lan = Lan::new()?;
    let (link, _) = made(&lan, &lan.container("c1")?, json!({ "bcqueuelen": 3000 }))?;
    let macvlan = link.macvlan.context("a macvlan")?;
    ensure!(
        (macvlan.bc_queue_len, macvlan.bc_queue_len_used) == (Some(3000), Some(3000)),
        "{macvlan:?}"
    );
    // 0 is the Go plugin's word for the kernel's own choice.
    let (link, _) = made(&lan, &lan.container("c2")?, json!({ "bcqueuelen": 0 }))?;
    ensure!(link.macvlan.and_then(|macvlan| macvlan.bc_queue_len) == Some(1000));
    Ok(())
}

fn the_broadcast_cutoff_is_as_configured(_: &World) -> Result {
    let lan = Lan::new()?;
    let (link, _) = made(&lan, &lan.container("c1")?, json!({ "bclim": 7 }))?;
    ensure!(link.macvlan.and_then(|macvlan| macvlan.bc_cutoff) == Some(7));
    Ok(())
}

fn a_passthru_parent_is_promiscuous_unless_configured_otherwise(_: &World) -> Result {
    let lan = Lan::new()?;
    for (nopromisc, count) in [(false, 1), (true, 0)] {
        let container = lan.container(&format!("c{count}"))?;
        let keys = json!({ "mode": "passthru", "nopromisc": nopromisc });
        let network = Network::new(&lan.host, conflist(keys));
        let attachment = network::Attachment::new(&container);
        network.add(&attachment)?;
        let shown = lan
            .host
            .output(&["ip", "-d", "-json", "link", "show", Lan::MASTER])?;
        let shown: Value = serde_json::from_str(&shown)?;
        ensure!(
            shown[0]["promiscuity"] == count,
            "nopromisc={nopromisc}: {shown}"
        );
        network.del(&attachment)?;
    }
    Ok(())
}

fn a_passthru_interface_takes_its_parents_mac_or_changes_it(_: &World) -> Result {
    let lan = Lan::new()?;
    let original = lan.host.link(Lan::MASTER)?.mac;
    let other: Mac = "02:00:00:00:00:17".parse()?;
    for (keys, expected) in [
        (json!({ "mode": "passthru" }), original),
        (
            json!({ "mode": "passthru", "mac": original.context("a MAC")?.to_string() }),
            original,
        ),
        (
            json!({ "mode": "passthru", "mac": other.to_string() }),
            Some(other),
        ),
    ] {
        let container = lan.container("c1")?;
        let network = Network::new(&lan.host, conflist(keys));
        let attachment = network::Attachment::new(&container);
        let result = network.add(&attachment)?;
        let (inside, parent) = (container.link("eth0")?.mac, lan.host.link(Lan::MASTER)?.mac);
        ensure!(
            inside == expected && parent == expected,
            "{inside:?} {parent:?} {expected:?}"
        );
        ensure!(
            result["interfaces"][0]["mac"] == expected.context("a MAC")?.to_string(),
            "{result}"
        );
        network.check(&attachment)?;
        network.del(&attachment)?;
        ensure!(
            lan.host.link(Lan::MASTER)?.mac == original,
            "the parent has its own MAC again"
        );
        container.remove()?;
    }
    Ok(())
}

fn the_runtimes_mac_overrides_the_users_and_that_the_configured_one(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let keys = json!({ "mac": "02:00:00:00:00:01", "capabilities": { "mac": true } });
    let network = Network::new(&lan.host, conflist(keys));
    let mut attachment = network::Attachment::new(&container);
    let expect = |attachment: &network::Attachment, mac: &str| -> Result {
        let result = network.add(attachment)?;
        ensure!(result["interfaces"][0]["mac"] == mac, "{mac}: {result}");
        ensure!(container.link("eth0")?.mac == Some(mac.parse()?));
        network.del(attachment)
    };
    expect(&attachment, "02:00:00:00:00:01")?;
    attachment.args = "IgnoreUnknown=1;MAC=02-00-00-00-00-02;K8S_POD_NAME=web".to_owned();
    expect(&attachment, "02:00:00:00:00:02")?;
    attachment
        .capabilities
        .insert("mac".to_owned(), json!("02:00:00:00:00:03"));
    expect(&attachment, "02:00:00:00:00:03")
}

fn the_runtimes_addresses_reach_ipam(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let keys = json!({ "ipam": { "type": "static" }, "capabilities": { "ips": true } });
    let network = Network::new(&lan.host, conflist(keys));
    let mut attachment = network::Attachment::new(&container);
    attachment
        .capabilities
        .insert("ips".to_owned(), json!(["10.99.0.77/24"]));
    network.add(&attachment)?;
    ensure!(container.ipv4("eth0")? == ["10.99.0.77/24".parse()?]);
    Ok(())
}

fn the_mtu_is_the_parents_or_less(_: &World) -> Result {
    let lan = Lan::new()?;
    let host = lan.host.netlink()?;
    host.set_mtu(lan.host.link(Lan::MASTER)?.index, 1450)?;
    for (number, (asked, expected)) in [(0, 1450), (1450, 1450), (1300, 1300)]
        .into_iter()
        .enumerate()
    {
        let container = lan.container(&format!("c{number}"))?;
        let (link, _) = made(&lan, &container, json!({ "mtu": asked }))?;
        ensure!(link.mtu == expected, "{asked}: {link:?}");
    }
    let container = lan.container("c9")?;
    let network = Network::new(&lan.host, conflist(json!({ "mtu": 1451 })));
    let error = network::cni_error(network.add(&network::Attachment::new(&container)));
    ensure!(
        error.msg.contains("1450"),
        "it says what the parent has: {error:?}"
    );
    ensure_nothing_left(&container)
}

/// As the MTU of a lease (option 26).
fn the_result_has_the_mtu_that_ipam_has_set(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let answer = json!({ "cniVersion": "1.1.0", "ips": [{ "address": "10.99.0.60/24" }] });
    let body = format!(
        "cat >/dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\nip -n c1 link set eth0 mtu 1300\necho '{answer}'\n"
    );
    let path = script(world, "mtu-setter", &body)?;
    let mut conflist = conflist(json!({ "ipam": { "type": "mtu-setter" } }));
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::with_path(&lan.host, conflist, path);
    let attachment = network::Attachment::new(&container);
    let result = network.add(&attachment)?;
    ensure!(result["interfaces"][0]["mtu"] == 1300, "{result}");
    network.check(&attachment)
}

fn keys_in_another_case_are_understood(_: &World) -> Result {
    let lan = Lan::new()?;
    let keys = json!({ "MODE": "private", "Mtu": 1400 });
    let mut conflist = conflist(keys);
    // `conflist` has the key in the usual case, which would come first.
    conflist["plugins"][0]
        .as_object_mut()
        .context("an object")?
        .remove("mode");
    let container = lan.container("c1")?;
    Network::new(&lan.host, conflist).add(&network::Attachment::new(&container))?;
    let link = container.link("eth0")?;
    let mode = link.macvlan.and_then(|macvlan| macvlan.mode);
    ensure!(link.mtu == 1400 && mode == Some(linknet::MacvlanMode::Private));
    Ok(())
}

fn keys_without_effect_in_the_mode_are_refused(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    for keys in [
        json!({ "sourceMacs": ["02:00:00:00:00:01"] }),
        json!({ "mode": "vepa", "nopromisc": true }),
    ] {
        let network = Network::new(&lan.host, conflist(keys.clone()));
        let error = network::cni_error(network.add(&network::Attachment::new(&container)));
        ensure!(
            error.code == 7 && error.msg.contains("mode"),
            "{keys}: {error:?}"
        );
    }
    ensure_nothing_left(&container)
}

fn in_source_mode_the_kernel_has_the_configured_macs(_: &World) -> Result {
    let lan = Lan::new()?;
    let macs = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
    let (link, _) = made(
        &lan,
        &lan.container("c1")?,
        json!({ "mode": "source", "sourceMacs": macs }),
    )?;
    let mut listed = link.macvlan.context("a macvlan")?.sources;
    listed.sort_unstable();
    ensure!(
        listed.iter().map(ToString::to_string).eq(macs),
        "{listed:?}"
    );
    Ok(())
}
