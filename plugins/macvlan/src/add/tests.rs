use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::catch_unwind;
use std::process::Command;

use cni::{Env, KnownArgs};
use serde_json::json;

use super::*;

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
