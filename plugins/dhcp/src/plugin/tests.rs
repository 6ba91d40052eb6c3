use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Instant;

use cni::{Env, IpConfig};
use serde_json::{Value, json};

use super::*;

/// The address in the answer to an ADD of a plugin of this type, from a daemon that gives it a
/// lifetime of 120 s.
fn add(plugin_type: &str) -> IpConfig {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let socket = scratch.path().join("dhcp.sock");
    let daemon = UnixListener::bind(&socket).expect("a socket");
    let answering = thread::spawn(move || {
        let (mut caller, _) = daemon.accept().expect("a caller");
        let mut request = String::new();
        BufReader::new(&caller)
            .read_line(&mut request)
            .expect("a request");
        let ip = json!({ "address": "10.99.0.7/24", "leasehold/validLifetime": 120 });
        let reply = json!({ "lease": { "cniVersion": "1.1.0", "ips": [ip] } });
        writeln!(caller, "{reply}").expect("a caller that waits");
    });
    let result = Dhcp::default().add(&request(plugin_type, &socket, &json!({})));
    answering.join().expect("the daemon has answered");
    result.expect("a lease").ips.remove(0)
}

/// An ADD of a plugin of this type, with these keys in its `ipam` section.
fn request(plugin_type: &str, socket: &Path, keys: &Value) -> Request {
    let env: Env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
    ]
    .into_iter()
    .collect();
    let mut ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
    if let (Value::Object(ipam), Value::Object(keys)) = (&mut ipam, keys) {
        ipam.extend(keys.clone());
    }
    let config = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": plugin_type, "ipam": ipam,
    });
    Request::parse(&env, config.to_string().as_bytes(), KnownArgs::Any).expect("a valid request")
}

#[test]
fn only_a_delegating_plugin_gets_the_lifetime_of_the_address() {
    assert_eq!(take_valid_lifetime(&mut add("macvlan")), Some(120));
    assert_eq!(add("dhcp"), IpConfig::new("10.99.0.7/24".parse().unwrap()));
}

#[test]
fn add_waits_for_a_daemon_no_longer_than_its_timeout() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let socket = scratch.path().join("dhcp.sock");
    // The socket of a daemon that was killed.
    drop(UnixListener::bind(&socket).expect("a socket"));
    let request = request("macvlan", &socket, &json!({ "timeout": "100ms" }));
    let start = Instant::now();
    let error = Dhcp::default().add(&request).expect_err("no daemon");
    let waited = start.elapsed();
    assert_eq!(error.code, code::PLUGIN_NOT_AVAILABLE, "{error:?}");
    assert!(
        waited >= Duration::from_millis(100) && waited < absence::MAX_WAIT,
        "{waited:?}"
    );
}
