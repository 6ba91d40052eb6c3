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
    let result = Dhcp::<Executable>::default().add(&request(plugin_type, &socket, &json!({})));
    answering.join().expect("the daemon has answered");
    result.expect("a lease").ips.remove(0)
}

/// The environment of a call for this verb.
fn environment(verb: &str) -> Env {
    [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
    ]
    .into_iter()
    .collect()
}

/// The configuration of a plugin of this type, with these keys in its `ipam` section.
fn config(plugin_type: &str, socket: &Path, keys: &Value) -> Value {
    let mut ipam = json!({ "type": "dhcp", "daemonSocketPath": socket });
    if let (Value::Object(ipam), Value::Object(keys)) = (&mut ipam, keys) {
        ipam.extend(keys.clone());
    }
    json!({
        "cniVersion": "1.1.0", "name": "lan", "type": plugin_type, "ipam": ipam,
        "prevResult": { "ips": [] }, "cni.dev/valid-attachments": [],
    })
}

/// An ADD of a plugin of this type, with these keys in its `ipam` section.
fn request(plugin_type: &str, socket: &Path, keys: &Value) -> Request {
    let config = config(plugin_type, socket, keys).to_string();
    Request::parse(&environment("ADD"), config.as_bytes(), KnownArgs::Any).expect("a valid request")
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
    let error = Dhcp::<Executable>::default()
        .add(&request)
        .expect_err("no daemon");
    let waited = start.elapsed();
    assert_eq!(error.code, code::PLUGIN_NOT_AVAILABLE, "{error:?}");
    assert!(
        waited >= Duration::from_millis(100) && waited < MAX_WAIT,
        "{waited:?}"
    );
}

/// A call of the plugin within another program, to a daemon that answers with this line, if it
/// listens.
fn embedded(verb: &str, daemon: Option<&str>) -> Option<(bool, String)> {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let socket = scratch.path().join("dhcp.sock");
    let answering = daemon.map(|answer| {
        let (daemon, answer) = (
            UnixListener::bind(&socket).expect("a socket"),
            answer.to_owned(),
        );
        thread::spawn(move || {
            let (mut caller, _) = daemon.accept().expect("a caller");
            let mut request = String::new();
            BufReader::new(&caller)
                .read_line(&mut request)
                .expect("a request");
            caller.write_all(answer.as_bytes()).expect("a caller");
        })
    });
    // Were it not embedded, it would wait for a daemon here, and then end the lease on disk.
    let state = json!({ "stateDir": scratch.path() });
    let config = config("macvlan", &socket, &state).to_string();
    let answer = ask_daemon(&environment(verb), config.as_bytes());
    if let Some(answering) = answering {
        answering.join().expect("the daemon has answered");
    }
    answer.map(|answer| {
        let stdout = String::from_utf8(answer.stdout).expect("text");
        (answer.is_success, stdout)
    })
}

const VERBS: [&str; 4] = ["ADD", "CHECK", "DEL", "GC"];

#[test]
fn the_embedded_plugin_answers_as_the_executable_would() {
    let lease = r#"{"lease":{"cniVersion":"1.1.0","ips":[{"address":"10.99.0.7/24"}]}}"#;
    let (is_success, document) = embedded("ADD", Some(&format!("{lease}\n"))).expect("an answer");
    assert!(
        is_success && document.contains("10.99.0.7/24"),
        "{document}"
    );
    for verb in VERBS {
        let refusal = "{\"error\":{\"code\":111,\"msg\":\"no lease\",\"details\":\"\"}}\n";
        let (is_success, document) = embedded(verb, Some(refusal)).expect("an answer");
        assert!(!is_success && document.contains("no lease"), "{document}");
    }
    let done = (true, String::new());
    assert_eq!(embedded("DEL", Some("\"done\"\n")), Some(done));
}

#[test]
fn the_embedded_plugin_leaves_a_call_to_the_executable_if_no_daemon_answers() {
    for verb in VERBS {
        assert_eq!(embedded(verb, None), None, "{verb}");
        assert_eq!(embedded(verb, Some("")), None, "{verb}: it exits");
        let of_go = "HTTP/1.0 400 Bad Request\n";
        assert_eq!(embedded(verb, Some(of_go)), None, "{verb}: Go's");
    }
}
