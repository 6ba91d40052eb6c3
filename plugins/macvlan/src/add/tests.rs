use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::catch_unwind;
use std::process::Command;

use attachment::SourceRouting;
use cni::{Dns, Env, KnownArgs, Route};
use serde_json::{Value, json};

use super::*;
use crate::testing::macvlan;

/// Set where a test is in a namespace of its own.
const INSIDE: &str = "LEASEHOLD_TEST_IN_NETNS";

/// Runs a test of this module again, alone, as root in new user and network namespaces.
fn run_in_netns(test: &str) {
    let program = env::current_exe().expect("this program");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(program)
        .args(["--exact", &format!("add::tests::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (of util-linux)");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}\n{stderr}"
    );
}

#[test]
fn a_panic_during_an_add_leaves_neither_interface_nor_lease() {
    if env::var_os(INSIDE).is_none() {
        return run_in_netns("a_panic_during_an_add_leaves_neither_interface_nor_lease");
    }
    let parent = "link add up0 type veth peer name far0";
    let created = Command::new("ip").args(parent.split(' ')).status();
    assert!(created.expect("ip (of iproute2)").success());

    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (script, calls) = (scratch.path().join("noting"), scratch.path().join("calls"));
    let body = format!(
        "#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >>{}\n",
        calls.display()
    );
    fs::write(&script, body).expect("writing");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a program");

    let path = scratch.path().display().to_string();
    let env: Env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_NETNS_OVERRIDE", "1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", &path),
    ]
    .into_iter()
    .collect();
    let config = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": "macvlan",
        "master": "up0", "linkInContainer": true, "ipam": { "type": "noting" },
    });
    let request = Request::parse(&env, config.to_string().as_bytes(), KnownArgs::Any);
    let request = request.expect("a valid request");
    let config = Config::read(&request).expect("a valid configuration");
    let namespaces = Namespaces::open(&request, true).expect("this namespace");
    let attachment = request.attachment().expect("an attachment");
    let ipam = Ipam::find(&request).expect("a plugin");
    let context = AttachContext {
        config: &config,
        attachment,
        mark: &OwnerMark::new(attachment),
        ipam: ipam.as_ref(),
        parent: &parent::find(&namespaces.inside, &config).expect("a parent"),
        namespaces: &namespaces,
    };
    let link = context.create().expect("an interface").link;
    let exists = || !is_gone(&namespaces.inside, link.index);

    assert_eq!(or_clean_up(&context, &link, || "no panic"), "no panic");
    assert!(exists() && !calls.exists());
    let panicking = || or_clean_up(&context, &link, || panic!("a step panics"));
    let panic = catch_unwind(AssertUnwindSafe(panicking)).expect_err("it goes on");
    assert_eq!(panic.downcast_ref(), Some(&"a step panics"));
    assert!(!exists());
    assert_eq!(fs::read_to_string(&calls).expect("a call"), "DEL\n");
}

/// The request of an ADD for eth0 of c1 with this configuration.
fn request(config: &Value) -> Request {
    let env: Env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
    ]
    .into_iter()
    .collect();
    let config = config.to_string();
    Request::parse(&env, config.as_bytes(), KnownArgs::Any).expect("a valid request")
}

fn dns(server: &str) -> Dns {
    Dns {
        nameservers: vec![server.to_owned()],
        ..Dns::default()
    }
}

#[test]
fn the_result_is_that_of_earlier_plugins_and_then_the_interface_with_ipams_addresses() {
    let previous = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "lo" }],
        "ips": [{ "address": "127.0.0.2/8", "interface": 0 }],
        "dns": { "nameservers": ["10.0.0.1"] },
    });
    let mut config =
        json!({ "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "prevResult": previous });
    let mut from_ipam = CniResult {
        ips: vec![IpConfig::new("10.99.0.7/24".parse().expect("a prefix"))],
        routes: vec![Route::new("10.98.0.0/16".parse().expect("a prefix"))],
        ..CniResult::default()
    };
    from_ipam.extra.insert("more".to_owned(), json!(1));
    let whole = |config: &Value, dns: Dns| {
        let from_ipam = CniResult {
            dns,
            ..from_ipam.clone()
        };
        complete(&request(config), from_ipam, &macvlan("eth0"))
    };

    let result = whole(&config, Dns::default());
    let interface = Interface {
        name: "eth0".to_owned(),
        mac: "02:00:00:00:00:07".to_owned(),
        mtu: Some(1500),
        sandbox: "/run/netns/c1".to_owned(),
        ..Interface::default()
    };
    assert_eq!(result.interfaces[0].name, "lo");
    assert_eq!(result.interfaces[1..], [interface]);
    let ips: Vec<_> = result.ips.iter().map(|ip| ip.interface).collect();
    assert_eq!(ips, [Some(0), Some(1)]);
    assert_eq!(result.ips[1].address, from_ipam.ips[0].address);
    assert_eq!(result.routes, from_ipam.routes);
    assert_eq!(result.extra["more"], 1);

    assert_eq!(result.dns, dns("10.0.0.1"), "an earlier plugin's");
    let result = whole(&config, dns("10.0.0.2"));
    assert_eq!(result.dns, dns("10.0.0.2"), "IPAM's");
    config["dns"] = json!({ "nameservers": ["10.0.0.3"] });
    let result = whole(&config, dns("10.0.0.2"));
    assert_eq!(result.dns, dns("10.0.0.3"), "the configuration's");
}

#[test]
fn routes_in_the_interfaces_table_are_reported_since_version_1_1_0() {
    let from_ipam = CniResult {
        ips: vec![IpConfig::new("10.99.0.7/24".parse().expect("a prefix"))],
        routes: vec![Route::new("10.98.0.0/16".parse().expect("a prefix"))],
        ..CniResult::default()
    };
    let config = Config {
        source_routing: SourceRouting::Table(50),
        ..Config::default()
    };
    let reported = |version| {
        let reported = as_reported(from_ipam.clone(), version, &config, &macvlan("eth0"));
        assert_eq!(reported.ips, from_ipam.ips);
        reported.routes
    };
    assert_eq!(reported(Version::V1_0_0), from_ipam.routes);
    let in_table = |route: &&Route| route.table == Some(50);
    assert!(reported(Version::V1_1_0).iter().filter(in_table).count() > 1);
}
