//! Every version, in every mode, with addresses and without, on a parent of the host's and of the
//! container's own.

use lab::anyhow::{Context, ensure};
use lab::plugin::Call;
use lab::serde_json::{Value, json};
use lab::{Lan, Network, Node, Result, Test, World, network, test};

use super::{given, plug};
use crate::scenario::conflist;

pub(super) const TESTS: &[Test] = &[
    test!(older_versions_and_modes_on_a_parent_of_the_host),
    test!(older_versions_and_modes_on_a_parent_in_the_container),
    test!(the_newest_version_and_mode_on_a_parent_of_the_host),
    test!(the_newest_version_and_mode_on_a_parent_in_the_container),
    test!(an_interface_without_an_address_is_made_in_versions_that_cannot_report_it),
    test!(version_answers_in_the_requested_version),
];

const OLD_VERSIONS: &[&str] = &["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];
const OLD_MODES: &[&str] = &["bridge", "private", "vepa", "passthru"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Parent {
    Host,
    Container,
}

fn older_versions_and_modes_on_a_parent_of_the_host(world: &World) -> Result {
    every(world, &cases(OLD_VERSIONS, OLD_MODES), Parent::Host)
}

fn older_versions_and_modes_on_a_parent_in_the_container(world: &World) -> Result {
    every(world, &cases(OLD_VERSIONS, OLD_MODES), Parent::Container)
}

fn the_newest_version_and_mode_on_a_parent_of_the_host(world: &World) -> Result {
    every(world, &newest(), Parent::Host)
}

fn the_newest_version_and_mode_on_a_parent_in_the_container(world: &World) -> Result {
    every(world, &newest(), Parent::Container)
}

type Case = (&'static str, &'static str);

fn cases(versions: &[&'static str], modes: &[&'static str]) -> Vec<Case> {
    versions
        .iter()
        .flat_map(|&version| modes.iter().map(move |&mode| (version, mode)))
        .collect()
}

fn newest() -> Vec<Case> {
    [
        cases(&["1.1.0"], OLD_MODES),
        cases(OLD_VERSIONS, &["source"]),
        cases(&["1.1.0"], &["source"]),
    ]
    .concat()
}

fn every(world: &World, cases: &[Case], parent: Parent) -> Result {
    let lan = Lan::new()?;
    for (number, (version, mode)) in cases.iter().enumerate() {
        // Before 0.3.0 a result is addresses and nothing else.
        let with_and_without: &[bool] = if *version < "0.3.0" {
            &[true]
        } else {
            &[true, false]
        };
        for &ipam in with_and_without {
            let case = format!("{version} {mode} {parent:?} ipam={ipam}");
            let container = lan.container(&format!("c{number}-{}", u8::from(ipam)))?;
            one(world, &lan, container, version, mode, parent, ipam).context(case)?;
        }
    }
    Ok(())
}

/// The whole life of one attachment.
fn one(
    world: &World,
    lan: &Lan,
    container: Node,
    version: &str,
    mode: &str,
    parent: Parent,
    ipam: bool,
) -> Result {
    let mut keys = json!({ "mode": mode });
    if parent == Parent::Container {
        plug(lan, &container, "up0")?;
        keys["master"] = json!("up0");
        keys["linkInContainer"] = json!(true);
    }
    let before = names(&container)?;
    let mut conflist = conflist(keys);
    conflist["cniVersion"] = json!(version);
    let network = match ipam {
        true => given(
            world,
            lan,
            conflist,
            &json!({ "ips": [{ "address": "10.99.0.60/24" }] }),
        )?,
        false => Network::new(&lan.host, conflist),
    };
    let attachment = network::Attachment::new(&container);

    let result = network.add(&attachment)?;
    ensure_result(&result, version, ipam, &container)?;
    let made = container.link("eth0")?;
    let made_mode = made.macvlan.as_ref().and_then(|macvlan| macvlan.mode);
    ensure!(
        made.up && made_mode.is_some_and(|made| made.to_string() == mode),
        "{made:?}"
    );
    let check = network.check(&attachment);
    match version {
        "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1" => ensure!(network::cni_error(check).code == 1),
        _ => check?,
    }
    network.del(&attachment)?;
    ensure!(
        names(&container)? == before,
        "left behind: {:?}",
        names(&container)?
    );
    container.remove()
}

/// The result as its version has it: no field that came later, none that went.
fn ensure_result(result: &Value, version: &str, ipam: bool, container: &Node) -> Result {
    ensure!(result["cniVersion"] == version, "{result}");
    if version < "0.3.0" {
        ensure!(
            result["ip4"]["ip"] == "10.99.0.60/24" && result.get("interfaces").is_none(),
            "{result}"
        );
        return Ok(());
    }
    let made = container.link("eth0")?;
    let mut interface = json!({ "name": "eth0", "sandbox": container.path() });
    interface["mac"] = json!(made.mac.context("a MAC")?.to_string());
    if version >= "1.1.0" {
        interface["mtu"] = json!(made.mtu);
    }
    ensure!(result["interfaces"] == json!([interface]), "{result}");
    if ipam {
        let mut ip = json!({ "interface": 0, "address": "10.99.0.60/24" });
        if version < "1.0.0" {
            ip["version"] = json!("4");
        }
        ensure!(result["ips"] == json!([ip]), "{result}");
    }
    Ok(())
}

fn an_interface_without_an_address_is_made_in_versions_that_cannot_report_it(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    for version in ["", "0.1.0", "0.2.0"] {
        let mut conflist = conflist(json!({}));
        conflist["cniVersion"] = json!(version);
        let network = Network::new(&lan.host, conflist);
        let attachment = network::Attachment::new(&container);
        let result = network.add(&attachment)?;
        let reported = if version.is_empty() { "0.1.0" } else { version };
        ensure!(
            result == json!({ "cniVersion": reported, "dns": {} }),
            "{version:?}: {result}"
        );
        ensure!(names(&container)? == ["lo", "eth0"], "{version:?}");
        network.del(&attachment)?;
        ensure!(names(&container)? == ["lo"], "{version:?}");
    }
    Ok(())
}

fn names(container: &Node) -> Result<Vec<String>> {
    Ok(container
        .links()?
        .into_iter()
        .map(|link| link.name)
        .collect())
}

fn version_answers_in_the_requested_version(_: &World) -> Result {
    let lan = Lan::new()?;
    for plugin in ["macvlan", "dhcp"] {
        for version in OLD_VERSIONS.iter().chain(&["1.1.0"]) {
            let stdin = json!({ "cniVersion": version });
            let answer = Call::new(plugin, "VERSION")
                .config(&stdin)
                .run(&lan.host)?
                .success()?;
            ensure!(answer["cniVersion"] == *version, "{answer}");
            let supported = answer["supportedVersions"].as_array().context("a list")?;
            ensure!(supported.contains(&json!(version)), "{answer}");
        }
    }
    Ok(())
}
