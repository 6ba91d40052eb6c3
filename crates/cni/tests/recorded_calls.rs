//! Calls recorded from Podman 4.3, containerd 1.6 and Multus, with the answers of the Go plugins.
//! This library must accept every request, and write every result as it read it.

use cni::delegate::Ipam;
use cni::{CniResult, Env, KnownArgs, Request, Verb};
use serde_json::{Value, json};

struct Call {
    plugin: String,
    env: Env,
    stdin: String,
    stdout: String,
}

impl Call {
    fn request(&self) -> Request {
        // The Go macvlan knows MAC; the other plugins know no key.
        Request::parse(&self.env, self.stdin.as_bytes(), KnownArgs::Only(&["MAC"]))
            .unwrap_or_else(|error| panic!("{} {:?}: {error}", self.plugin, self.env))
    }

    fn is(&self, verb: &str) -> bool {
        self.env
            .get("CNI_COMMAND")
            .is_some_and(|command| command == verb)
    }
}

/// Parses a log. Each block begins with `=== plugin VERB …`; lines with variables, `stdin: ` and
/// `stdout: ` follow.
fn calls(log: &str) -> Vec<Call> {
    let parse = |block: &str| {
        let (head, rest) = block.split_once('\n').unwrap();
        let plugin = head.split(' ').next().unwrap().to_owned();
        let (variables, rest) = rest.split_once("stdin: ").unwrap();
        let (stdin, stdout) = rest.split_once("stdout: ").unwrap();
        let env = variables
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        Call {
            plugin,
            env,
            stdin: stdin.to_owned(),
            stdout: stdout.to_owned(),
        }
    };
    log.split("=== ")
        .filter(|block| !block.is_empty())
        .map(parse)
        .collect()
}

fn podman() -> Vec<Call> {
    calls(include_str!("recorded/podman.log"))
}

fn containerd() -> Vec<Call> {
    calls(include_str!("recorded/containerd.log"))
}

fn multus() -> Vec<Call> {
    calls(include_str!("recorded/multus.log"))
}

#[test]
fn every_recorded_request_is_accepted() {
    let all = [podman(), containerd(), multus()].into_iter().flatten();
    for call in all.filter(|call| !call.is("VERSION")) {
        let request = call.request();
        assert!(request.config.ipam_type().is_some());
        assert_eq!(
            Value::from(request.config.raw),
            serde_json::from_str::<Value>(&call.stdin).unwrap()
        );
    }
}

#[test]
fn every_recorded_result_is_written_as_it_was_read() {
    let mut results = 0;
    for call in [podman(), containerd(), multus()]
        .into_iter()
        .flatten()
        .filter(|call| call.is("ADD"))
    {
        let document: Value = serde_json::from_str(&call.stdout).unwrap();
        let version = call.request().config.version;
        let result = CniResult::from_value(document.clone(), version).unwrap();
        assert_eq!(result.to_value(version), document);
        results += 1;
    }
    assert_eq!(results, 14);
}

#[test]
fn a_recorded_previous_result_equals_the_result_of_its_add() {
    let calls = podman();
    let added = calls
        .iter()
        .find(|call| call.is("ADD") && call.plugin == "macvlan")
        .unwrap();
    let added = CniResult::from_value(
        serde_json::from_str(&added.stdout).unwrap(),
        cni::Version::LATEST,
    )
    .unwrap();
    let deleted = calls
        .iter()
        .filter(|call| call.is("DEL"))
        .map(Call::request);
    assert!(
        deleted
            .into_iter()
            .any(|request| request.config.prev_result.as_ref() == Some(&added))
    );
}

#[test]
fn the_mac_address_that_podman_sends_in_cni_args_is_found() {
    let macs: Vec<_> = podman()
        .iter()
        .filter(|call| call.is("ADD") && call.plugin == "macvlan")
        .map(|call| call.request().requested_mac().unwrap().map(str::to_owned))
        .collect();
    assert_eq!(
        macs,
        [None, Some("02:11:22:33:44:55".to_owned()), None, None]
    );
}

#[test]
fn dels_of_containerd_may_lack_the_namespace_and_the_previous_result() {
    let dels: Vec<Request> = containerd()
        .iter()
        .filter(|call| call.is("DEL") && call.plugin == "macvlan")
        .map(Call::request)
        .collect();
    let known: Vec<_> = dels
        .iter()
        .map(|del| (del.netns.is_some(), del.config.prev_result.is_some()))
        .collect();
    assert_eq!(known, [(true, true), (false, false), (false, false)]);
}

#[test]
fn repeated_args_and_folders_of_multus_are_accepted() {
    let calls = multus();
    let add = calls
        .iter()
        .find(|call| call.is("ADD") && call.plugin == "macvlan")
        .unwrap()
        .request();
    assert_eq!(add.verb, Verb::Add);
    let not_found = Ipam::find(&add).unwrap_err();
    assert_eq!(not_found.details, "looked in /run/lab/bin");
    assert_eq!(add.args.get("K8S_POD_NAME"), Some("p1"));
    assert_eq!(add.requested_mac().unwrap(), Some("02:00:00:00:00:77"));
    assert_eq!(
        add.config.raw["capabilities"],
        json!({ "ips": true, "mac": true })
    );
}
