//! Names that others choose, and names as long as they can be: no verb and no daemon fails over
//! them, and nothing is left behind because of them.

use std::path::Path;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::plugin::{Call, Outcome};
use lab::serde_json::{Value, json};
use lab::suite::plugin_dir;
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};

use crate::limits::{add_request, ask};
use crate::macvlan::{given, script};
use crate::scenario::{SOON, Scenario, conflist, ensure_nothing_left, reported};

pub(crate) const TESTS: &[Test] = &[
    test!(names_that_are_not_utf_8_disturb_no_verb),
    test!(an_interface_that_its_container_spoilt_is_removed),
    test!(a_daemon_starts_on_a_host_with_names_that_are_not_utf_8),
    test!(names_and_ids_of_any_length_are_found_again),
    test!(names_and_ids_of_any_length_get_a_lease),
    test!(a_name_cannot_forge_a_line_on_stderr),
    test!(no_error_of_a_plugin_controls_the_terminal_that_shows_it),
    test!(no_request_controls_the_terminal_that_shows_the_log),
    test!(a_stderr_that_cannot_be_written_changes_nothing),
    test!(an_add_whose_warnings_cannot_be_written_succeeds),
];

/// Gives a node a link, an alternative name, aliases, an address label and a rule that are not
/// UTF-8, or as long as they can be.
fn spoil(node: &Node) -> Result {
    let commands = r"
        link=$(printf 'l\377') && ip link add $link type bridge &&
        ip link property add dev $link altname $(printf 'a\377') &&
        ip link set $link alias $(printf 'B\374ro') &&
        ip addr add 192.0.2.1/32 dev $link label $link:$(printf '\377') &&
        ip link add fifteen-letters type bridge &&
        ip link set fifteen-letters alias $(printf '\377%0254d' 0) &&
        ip rule add from 192.0.2.1 iif $link lookup 77
    ";
    node.output(&["sh", "-c", commands]).map(drop)
}

/// Fails unless the container has only the interfaces of [`spoil`].
fn ensure_only_spoilt(container: &Node) -> Result {
    let links = container.links()?;
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    ensure!(names == ["lo", "l\u{fffd}", "fifteen-letters"], "{names:?}");
    Ok(())
}

/// Every verb once, for `container` on `network`.
fn every_verb(network: &Network, container: &Node) -> Result {
    let attachment = network::Attachment::new(container);
    network.status().context("STATUS")?;
    network.add(&attachment).context("ADD")?;
    network.check(&attachment).context("CHECK")?;
    network.gc(&[&attachment]).context("GC")?;
    network.check(&attachment).context("CHECK after GC")?;
    network.del(&attachment).context("DEL")
}

fn names_that_are_not_utf_8_disturb_no_verb(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    spoil(&container)?;
    spoil(&scenario.lan.host)?;
    let mut conflist = scenario.dhcp();
    conflist["cniVersion"] = json!("1.1.0");
    conflist["plugins"][0]["hostAccess"] = json!(["10.99.0.0/24"]);
    conflist["plugins"][0]["sourceRouting"] = json!(true);
    let network = Network::new(&scenario.lan.host, conflist);
    every_verb(&network, &container)?;
    ensure_only_spoilt(&container)?;
    // GC removes it too.
    network.add(&network::Attachment::new(&container))?;
    network.gc(&[]).context("GC of an invalid attachment")?;
    ensure_only_spoilt(&container)
}

fn an_interface_that_its_container_spoilt_is_removed(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    for spoilt in [
        r"odd=$(printf '\377')
          ip link set eth0 down && ip link set eth0 name $odd && ip link set $odd up",
        r"ip link set eth0 alias $(printf '\377')",
        r"ip link property add dev eth0 altname $(printf '\377')",
    ] {
        network.add(&attachment)?;
        container.output(&["sh", "-c", spoilt])?;
        network.del(&attachment).context(spoilt)?;
        ensure_nothing_left(&container).context(spoilt)?;
        until("the lease is given back", SOON, || {
            server.leases().is_empty()
        })?;
    }
    Ok(())
}

fn a_daemon_starts_on_a_host_with_names_that_are_not_utf_8(world: &World) -> Result {
    let lan = Lan::new()?;
    spoil(&lan.host)?;
    Daemon::start(world, &lan.host)?.stop()
}

fn names_and_ids_of_any_length_are_found_again(world: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    for (id, length) in [(64, 64), (64, 200), (255, 10), (255, 255), (1000, 1000)] {
        let mut conflist = with_version_1_1(conflist(json!({ "hostAccess": ["10.99.0.0/24"] })));
        conflist["name"] = json!("n".repeat(length));
        let result = json!({ "ips": [{ "address": "10.99.0.60/24" }] });
        let network = given(world, &lan, conflist, &result)?;
        let attachment = network::Attachment {
            container_id: "c".repeat(id),
            ifname: "fifteen-letters".to_owned(),
            ..network::Attachment::new(&container)
        };
        let another = network::Attachment {
            container_id: "d".repeat(id),
            ..attachment.clone()
        };
        let verbs = || {
            network.add(&attachment).context("ADD")?;
            let error = network::cni_error(network.add(&attachment));
            ensure!(error.msg.contains("an earlier ADD created it"), "{error:?}");
            network.check(&attachment).context("CHECK")?;
            network.gc(&[&attachment, &another]).context("GC")?;
            network.check(&attachment).context("CHECK after GC")?;
            network.del(&another).context("DEL of another container")?;
            network
                .check(&attachment)
                .context("CHECK after DEL of another")?;
            network.del(&attachment).context("DEL")?;
            ensure_nothing_left(&container)?;
            network.add(&attachment).context("ADD after DEL")?;
            network.gc(&[&another]).context("GC without it")?;
            ensure_nothing_left(&container)
        };
        verbs().with_context(|| format!("an ID of {id} octets, a network of {length}"))?;
    }
    Ok(())
}

fn names_and_ids_of_any_length_get_a_lease(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    for (id, length) in [(64, 64), (64, 200), (255, 255), (1000, 1000)] {
        let mut conflist = with_version_1_1(scenario.dhcp());
        conflist["name"] = json!("n".repeat(length));
        let network = Network::new(&scenario.lan.host, conflist);
        let attachment = network::Attachment {
            container_id: "c".repeat(id),
            ifname: "fifteen-letters".to_owned(),
            ..network::Attachment::new(&container)
        };
        let verbs = || {
            network.add(&attachment).context("ADD")?;
            network.check(&attachment).context("CHECK")?;
            network.gc(&[&attachment]).context("GC")?;
            network.check(&attachment).context("CHECK after GC")?;
            network.del(&attachment).context("DEL")?;
            ensure_nothing_left(&container)?;
            until("the lease is given back", SOON, || {
                server.leases().is_empty()
            })
        };
        verbs().with_context(|| format!("an ID of {id} octets, a network of {length}"))?;
    }
    Ok(())
}

fn a_name_cannot_forge_a_line_on_stderr(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let conflist = with_version_1_1(conflist(json!({})));
    let mut config = conflist["plugins"][0].clone();
    config["cniVersion"] = json!("1.1.0");
    config["name"] = json!("lan");
    config["cni.dev/valid-attachments"] = json!([]);
    Network::new(&lan.host, conflist).add(&network::Attachment::new(&container))?;
    container.set_down("eth0")?;
    container.rename("eth0", "a\u{1b}[31mb")?;
    let outcome = Call::new("macvlan", "GC").config(&config).run(&lan.host)?;
    ensure!(
        outcome.stderr.contains(r"removing a\u{1b}[31mb of c1"),
        "{outcome:?}"
    );
    outcome.success()?;
    ensure_nothing_left(&container)
}

/// Octets that mean something to a terminal or a log, of each kind: C0, C1, a line's end, and a mark
/// that turns the direction of writing.
const VENOM: &str = "a\u{1b}[2J\u{7}\u{9b}31m\u{202e}\nFORGED\r";

/// Whether a terminal shows this text as it is, on one line.
fn is_harmless(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}'))
}

/// Fails unless all texts of an error are harmless.
fn ensure_harmless(outcome: &Outcome) -> Result {
    let texts = outcome.document.iter().flat_map(|document| {
        let of = |key| document.get(key).and_then(Value::as_str);
        [of("msg"), of("details")].into_iter().flatten()
    });
    let mut shown = texts.chain(outcome.stderr.lines());
    ensure!(shown.all(is_harmless), "{outcome:?}");
    ensure!(!outcome.stderr.contains("\nFORGED"), "{outcome:?}");
    Ok(())
}

fn no_error_of_a_plugin_controls_the_terminal_that_shows_it(_: &World) -> Result {
    let lan = Lan::new()?;
    let container = lan.container("c1")?;
    let ipam = json!({ "type": "dhcp", "daemonSocketPath": "/run/nothing.sock" });
    let config = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": Lan::MASTER, "ipam": ipam,
        "cni.dev/valid-attachments": [],
    });
    let mut configs: Vec<Value> = [
        "name",
        "type",
        "master",
        "mode",
        "mac",
        "vlan",
        "mtu",
        "cniVersion",
    ]
    .iter()
    .map(|key| {
        let mut config = config.clone();
        config[key] = json!(VENOM);
        config
    })
    .collect();
    for key in [
        "type",
        "daemonSocketPath",
        "stateDir",
        "clientId",
        "hostname",
        "timeout",
        "routes",
    ] {
        let mut config = config.clone();
        config["ipam"][key] = json!(VENOM);
        configs.push(config);
    }
    for key in ["mac", "ips", VENOM] {
        let mut config = config.clone();
        config["runtimeConfig"] = json!({ key: [VENOM] });
        configs.push(config);
    }
    let mut result = config.clone();
    result["prevResult"] = json!({ "cniVersion": "1.1.0", "ips": [{ "address": VENOM }] });
    configs.push(result);
    let call = |plugin: &str, verb: &str| {
        Call::new(plugin, verb)
            .container(container.name())
            .netns(container.path())
            .ifname("eth0")
            .config(&config)
    };
    for plugin in ["macvlan", "dhcp"] {
        for verb in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
            for config in &configs {
                ensure_harmless(&call(plugin, verb).config(config).run(&lan.host)?)?;
            }
            for name in [
                "CNI_CONTAINERID",
                "CNI_IFNAME",
                "CNI_NETNS",
                "CNI_ARGS",
                "CNI_PATH",
            ] {
                let call = call(plugin, verb).env(name, VENOM);
                ensure_harmless(&call.run(&lan.host)?)?;
            }
            let args = format!("IgnoreUnknown=1;MAC={VENOM};IP={VENOM};{VENOM}=1");
            ensure_harmless(&call(plugin, verb).args(&args).run(&lan.host)?)?;
            let octets = [b"{ \"name\": \"\xff", VENOM.as_bytes(), b"\" }"].concat();
            ensure_harmless(&call(plugin, verb).stdin(octets).run(&lan.host)?)?;
        }
    }
    let mut status = std::process::Command::new(plugin_dir().join("dhcp"));
    let status = status.args(["status", "--socketpath", VENOM]);
    let output = lan.host.run(|| status.output())??;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success(), "{stderr}");
    ensure!(
        stderr.lines().count() == 1 && stderr.lines().all(is_harmless),
        "{stderr:?}"
    );
    Ok(())
}

fn no_request_controls_the_terminal_that_shows_the_log(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let request = add_request(&scenario, Path::new("/run/netns/none"))?;
    let mut requests = vec![request.clone()];
    for key in ["verb", "traceparent", "netns", "terms", "protocol", VENOM] {
        let mut request = request.clone();
        request[key] = json!(VENOM);
        requests.push(request);
    }
    for key in ["containerID", "network", "ifname"] {
        let mut request = request.clone();
        request["attachment"][key] = json!(VENOM);
        requests.push(request);
    }
    let mut request = request;
    request["terms"]["clientId"] = json!({ VENOM: VENOM });
    requests.push(request);
    for request in requests {
        ask(scenario.daemon.socket(), &request, None)?;
    }
    let log = scenario.daemon.log();
    ensure!(log.contains("request refused"), "{log}");
    ensure!(
        log.lines()
            .all(|line| line.starts_with("20") && is_harmless(line)),
        "{log:?}"
    );
    Ok(())
}

fn a_stderr_that_cannot_be_written_changes_nothing(world: &World) -> Result {
    let lan = Lan::new()?;
    let real = plugin_dir().join("macvlan");
    let body = format!("exec {} 2>/dev/full\n", real.display());
    let mut path = script(world, "macvlan", &body)?;
    path.swap(0, 1);
    let conflist = with_version_1_1(conflist(json!({})));
    let network = Network::with_path(&lan.host, conflist, path);
    let (c1, c2) = (lan.container("c1")?, lan.container("c2")?);
    let attachments = [&c1, &c2].map(network::Attachment::new);
    for attachment in &attachments {
        network.add(attachment)?;
    }
    // It says what it removes.
    network.gc(&[&attachments[1]])?;
    ensure_nothing_left(&c1)?;
    c2.link("eth0")?;
    // It says what it leaves alone.
    c1.add_bridge("eth0")?;
    network.del(&attachments[0])?;
    c1.link("eth0").map(drop)?;
    let status = format!(
        "{} status >/dev/full 2>&1",
        plugin_dir().join("dhcp").display()
    );
    let outcome = lan
        .host
        .output(&["sh", "-c", &format!("{status}; echo $?")])?;
    ensure!(outcome == "1\n", "no daemon listens: {outcome}");
    Ok(())
}

fn an_add_whose_warnings_cannot_be_written_succeeds(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    // Each plugin warns of a misspelt key.
    let mut conflist = scenario.dhcp_with(json!({ "hostnam": "c1" }));
    conflist["plugins"][0]["hostAcces"] = json!(["10.99.0.0/24"]);
    let host = &scenario.lan.host;
    let network = Network::new(host, conflist.clone());
    let outcome = network.prepare("ADD", 0, &attachment, None)?.run(host)?;
    for key in ["hostnam", "hostAcces"] {
        ensure!(outcome.stderr.contains(key), "{outcome:?}");
    }
    outcome.success()?;
    network.del(&attachment)?;

    let real = plugin_dir().join("macvlan");
    for redirection in ["2>/dev/full", "2>&-"] {
        let body = format!("exec {} {redirection}\n", real.display());
        let mut path = script(world, "macvlan", &body)?;
        path.swap(0, 1);
        let network = Network::with_path(host, conflist.clone(), path);
        let result = network.add(&attachment).context(redirection)?;
        reported(&result, &container).context(redirection)?;
        network.check(&attachment).context(redirection)?;
        network.del(&attachment).context(redirection)?;
        ensure_nothing_left(&container)?;
    }
    Ok(())
}

fn with_version_1_1(mut conflist: Value) -> Value {
    conflist["cniVersion"] = json!("1.1.0");
    conflist
}
