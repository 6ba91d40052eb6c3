use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use cni::{Env, IpConfig};
use serde_json::json;

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
    let result = Dhcp::default().add(&request(plugin_type, &socket));
    answering.join().expect("the daemon has answered");
    result.expect("a lease").ips.remove(0)
}

fn request(plugin_type: &str, socket: &Path) -> Request {
    let env: Env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
    ]
    .into_iter()
    .collect();
    let config = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": plugin_type,
        "ipam": { "type": "dhcp", "daemonSocketPath": socket },
    });
    Request::parse(&env, config.to_string().as_bytes(), KnownArgs::Any).expect("a valid request")
}

#[test]
fn only_a_delegating_plugin_gets_the_lifetime_of_the_address() {
    assert_eq!(take_valid_lifetime(&mut add("macvlan")), Some(120));
    assert_eq!(add("dhcp"), IpConfig::new("10.99.0.7/24".parse().unwrap()));
}
