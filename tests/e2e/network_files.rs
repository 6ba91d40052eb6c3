//! The files of networks, for callers that cannot pass keys: their keys lie beneath the caller's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lab::anyhow::ensure;
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use lab::network::cni_error;
use lab::serde_json::{Value, json};
use lab::suite::plugin_dir;
use lab::{Attachment, DhcpServer, Lan, Network, Result, Test, World, test, until};
use linknet::ArpSocket;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::scenario::{SOON, Scenario, address, conflist, ensure_nothing_left};

pub(crate) const TESTS: &[Test] = &[
    test!(keys_of_a_networks_file_lie_beneath_the_callers),
    test!(a_file_that_is_edited_counts_at_the_next_add),
    test!(a_bad_file_fails_add_and_status_and_is_named_and_del_succeeds),
    test!(the_daemons_socket_may_be_in_the_file),
    test!(keys_in_the_file_that_concern_macvlan_reach_it),
    test!(a_misspelt_key_in_the_file_is_warned_about),
    test!(a_key_of_macvlan_in_the_file_is_warned_about_by_add_and_status),
    test!(dhcp_status_names_every_bad_file),
];

/// The world's own /etc/leasehold/networks.d.
struct Files(&'static Path);

impl Files {
    fn new() -> Result<Files> {
        // The machine may have no such directory, and its /etc is not ours to change.
        let none = None::<&str>;
        mount(none, "/etc", Some("tmpfs"), MsFlags::empty(), none)?;
        let directory = Path::new("/etc/leasehold/networks.d");
        fs::create_dir_all(directory)?;
        Ok(Files(directory))
    }

    fn path(&self, network: &str) -> PathBuf {
        self.0.join(format!("{network}.json"))
    }

    fn write(&self, network: &str, content: &Value) -> Result {
        Ok(fs::write(self.path(network), content.to_string())?)
    }
}

/// The conflist with the version of CNI that has STATUS.
fn with_status(mut conflist: Value) -> Value {
    conflist["cniVersion"] = json!("1.1.0");
    conflist
}

fn hostname(server: &DhcpServer, nth: usize) -> Result<Option<String>> {
    let discover = server.wait_for(MessageType::Discover, nth, SOON)?;
    Ok(match discover.option(OptionCode::Hostname) {
        Some(DhcpOption::Hostname(name)) => Some(name.clone()),
        _ => None,
    })
}

fn keys_of_a_networks_file_lie_beneath_the_callers(world: &World) -> Result {
    let files = Files::new()?;
    files.write("lan", &json!({ "hostname": "of-file", "priority": 77 }))?;
    files.write("other", &json!({ "hostname": "of-other", "priority": 88 }))?;
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let containers = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    for (nth, keys, expected) in [
        (1, json!({}), "of-file"),
        (2, json!({ "Hostname": "of-caller" }), "of-caller"),
    ] {
        let container = &containers[nth - 1];
        let network = Network::new(&scenario.lan.host, scenario.dhcp_with(keys));
        let attachment = Attachment::new(container);
        network.add(&attachment)?;
        ensure!(hostname(&server, nth)?.as_deref() == Some(expected));
        let routes = container.routes()?;
        let default = routes.iter().find(|route| route.dst.prefix_len() == 0);
        ensure!(
            default.is_some_and(|route| route.metric == 77),
            "{routes:?}"
        );
        network.check(&attachment)?;
        network.del(&attachment)?;
        ensure_nothing_left(container)?;
    }
    Ok(())
}

fn a_file_that_is_edited_counts_at_the_next_add(world: &World) -> Result {
    let files = Files::new()?;
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    for (nth, name) in [(1, None), (2, Some("one")), (3, Some("two")), (4, None)] {
        match name {
            Some(name) => files.write("lan", &json!({ "hostname": name }))?,
            None if nth == 1 => {}
            None => fs::remove_file(files.path("lan"))?,
        }
        network.add(&attachment)?;
        ensure!(hostname(&server, nth)?.as_deref() == name);
        network.del(&attachment)?;
    }
    Ok(())
}

fn a_bad_file_fails_add_and_status_and_is_named_and_del_succeeds(world: &World) -> Result {
    let files = Files::new()?;
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let [leased, refused] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let network = Network::new(&scenario.lan.host, with_status(scenario.dhcp()));
    let path = files.path("lan");
    let write = |content: &str| Ok(fs::write(&path, content)?);
    let bad: [(&dyn Fn() -> Result, &str); 7] = [
        (
            &|| write(r#"{ "hostname": "a b" }"#),
            "lan.json: hostname: ",
        ),
        (
            &|| write(r#"{ "priority": "low" }"#),
            "lan.json: priority: ",
        ),
        (&|| write("[]"), "no JSON object"),
        (&|| write("{"), "line 1 column 1"),
        (&|| write(&" ".repeat(70_000)), "longer than 64 KiB"),
        (&|| Ok(mkfifo(&path, Mode::S_IRWXU)?), "not a regular file"),
        (&|| Ok(symlink("/dev/zero", &path)?), "not a regular file"),
    ];
    for (create, words) in bad {
        network.status()?;
        network.add(&Attachment::new(&leased))?;
        create()?;
        let added = network.add(&Attachment::new(&refused));
        for error in [cni_error(added), cni_error(network.status())] {
            let is_named = error.msg.contains(&path.display().to_string());
            ensure!(
                error.code == 7 && is_named && error.msg.contains(words),
                "{error:?}"
            );
        }
        ensure_nothing_left(&refused)?;
        for container in [&leased, &refused] {
            network.del(&Attachment::new(container))?;
            ensure_nothing_left(container)?;
        }
        network.gc(&[])?;
        until("the address is released", SOON, || {
            server.leases().is_empty()
        })?;
        fs::remove_file(&path)?;
    }
    Ok(())
}

fn the_daemons_socket_may_be_in_the_file(world: &World) -> Result {
    let files = Files::new()?;
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let file = json!({ "daemonSocketPath": scenario.daemon.socket() });
    files.write("lan", &file)?;
    let conflist = with_status(conflist(json!({ "ipam": { "type": "dhcp" } })));
    let network = Network::new(&scenario.lan.host, conflist);
    let attachment = Attachment::new(&container);
    network.status()?;
    network.add(&attachment)?;
    network.check(&attachment)?;
    // DEL needs no other key.
    let mut worse = file;
    worse["hostname"] = json!(5);
    files.write("lan", &worse)?;
    let error = cni_error(network.check(&attachment));
    ensure!(
        error.code == 7 && error.msg.contains("lan.json: hostname"),
        "{error:?}"
    );
    network.del(&attachment)?;
    until("the address is released", SOON, || {
        server.leases().is_empty()
    })
}

/// `macvlan` announces addresses, and applies routes: a bad one of the configuration's is an error.
fn keys_in_the_file_that_concern_macvlan_reach_it(world: &World) -> Result {
    let files = Files::new()?;
    files.write("lan", &json!({ "announce": false }))?;
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let index = scenario.lan.lan.link(Lan::SERVER_LINK)?.index;
    let tap = scenario.lan.lan.run(|| ArpSocket::open(index))??;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let quiet = scenario.lan.container("c1")?;
    let result = network.add(&Attachment::new(&quiet))?;
    let silent = address(&quiet)?;
    ensure!(tap.contender(silent)?.is_none(), "{silent} was announced");
    ensure!(!result.to_string().contains("leasehold"), "{result}");

    let broadcast = json!({ "dst": "10.5.0.0/16", "gw": "10.99.0.255" });
    files.write("lan", &json!({ "routes": [broadcast] }))?;
    let refused = scenario.lan.container("c2")?;
    let error = cni_error(network.add(&Attachment::new(&refused)));
    ensure!(
        error.code == 7 && error.msg.contains("10.5.0.0/16"),
        "{error:?}"
    );
    ensure_nothing_left(&refused)
}

fn a_misspelt_key_in_the_file_is_warned_about(world: &World) -> Result {
    let files = Files::new()?;
    files.write("lan", &json!({ "type": "dhcp", "suppres": ["dns"] }))?;
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let outcome = Network::new(&scenario.lan.host, scenario.dhcp())
        .prepare("ADD", 0, &Attachment::new(&container), None)?
        .run(&scenario.lan.host)?;
    let words = format!(
        r#"{}: there is no key "suppres"; did you mean "suppress"?"#,
        files.path("lan").display()
    );
    ensure!(outcome.stderr.contains(&words), "{outcome:?}");
    outcome.success().map(drop)
}

fn a_key_of_macvlan_in_the_file_is_warned_about_by_add_and_status(world: &World) -> Result {
    let files = Files::new()?;
    files.write("lan", &json!({ "mtu": 1400 }))?;
    let scenario = Scenario::new(world)?;
    let _server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let attachment = Attachment::new(&container);
    let network = Network::new(&scenario.lan.host, with_status(scenario.dhcp()));
    let words = format!(
        r#"{}: there is no key "mtu" of dhcp; a key of macvlan belongs in"#,
        files.path("lan").display()
    );
    for verb in ["ADD", "STATUS"] {
        let outcome = network
            .prepare(verb, 0, &attachment, None)?
            .run(&scenario.lan.host)?;
        ensure!(outcome.stderr.contains(&words), "{outcome:?}");
        outcome.success()?;
    }
    // Runtimes show the error of a STATUS that fails, and nothing else.
    scenario.daemon.stop()?;
    let error = cni_error(network.status());
    ensure!(
        error.code == 50 && error.details.contains(&words),
        "{error:?}"
    );
    Ok(())
}

fn dhcp_status_names_every_bad_file(world: &World) -> Result {
    let files = Files::new()?;
    let scenario = Scenario::new(world)?;
    let status = || -> Result<Output> {
        let mut command = Command::new(plugin_dir().join("dhcp"));
        command.args(["status", "--socketpath"]);
        command.arg(scenario.daemon.socket());
        Ok(scenario.lan.host.run(|| command.output())??)
    };
    files.write("good", &json!({ "hostname": "web" }))?;
    fs::write(files.path("good").with_extension("json~"), "not read")?;
    ensure!(status()?.stderr.is_empty(), "{:?}", status()?);
    files.write("bad", &json!({ "hostname": 5 }))?;
    files.write("misspelt", &json!({ "hostnam": "web" }))?;
    files.write("macvlans", &json!({ "master": "eth1" }))?;
    files.write(".hidden", &json!({}))?;
    symlink("/dev/zero", files.path("device"))?;
    let output = status()?;
    // A probe must not restart a daemon because of a file that the daemon does not read.
    ensure!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8(output.stderr)?;
    for words in [
        "bad.json: hostname: ",
        "misspelt.json: there is no key \"hostnam\"",
        "macvlans.json: there is no key \"master\" of dhcp; ",
        ".hidden.json: it is no network's: ",
        "device.json: it is not a regular file",
    ] {
        ensure!(stderr.contains(words), "{stderr}");
    }
    ensure!(stderr.lines().count() == 5, "{stderr}");
    Ok(())
}
