use attachment::SourceRouting;
use cni::{CniResult, Env, IpConfig, KnownArgs, code};
use dhcp4::RawOption;
use serde_json::{Value, json};

use super::*;
use crate::protocol::ClientId;

const NAMED: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web_0";

fn request(config: Value, args: &str) -> Request {
    let env: Env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
    ]
    .into_iter()
    .collect();
    Request::parse(&env, config.to_string().as_bytes(), KnownArgs::Any).expect("a valid request")
}

fn with_ipam(mut ipam: Value, args: &str) -> Request {
    ipam["type"] = json!("dhcp");
    request(
        json!({ "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "ipam": ipam }),
        args,
    )
}

fn params(ipam: Value, args: &str) -> LeaseParams {
    let request = with_ipam(ipam, args);
    Config::with_content(&request, None)
        .and_then(|config| config.lease_params(&request))
        .expect("valid parameters")
}

/// The message that these keys are refused with, from the key on.
fn refused(ipam: Value) -> String {
    let error = Config::with_content(&with_ipam(ipam, NAMED), None).expect_err("bad keys");
    assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
    error
        .msg
        .strip_prefix("invalid network configuration: ipam.")
        .expect("its path")
        .to_owned()
}

fn sent(params: &LeaseParams) -> Vec<(u8, &[u8])> {
    params
        .provide
        .iter()
        .map(|option| (option.code, option.data.as_slice()))
        .collect()
}

#[test]
fn values_of_one_container_come_from_args_cni_too() {
    let keys = json!({
        "type": "dhcp", "hostname": { "fromArg": "HOST" }, "clientId": { "fromArg": "ID" },
        "provide": [{ "option": "60", "fromArg": "VENDOR" }],
    });
    let config = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "ipam": keys,
        "args": { "cni": { "HOST": "db-1", "ID": "db", "VENDOR": "x" } },
    });
    let request = request(config, "IgnoreUnknown=1;HOST=other");
    let params =
        Config::with_content(&request, None).and_then(|config| config.lease_params(&request));
    let params = params.expect("valid parameters");
    assert_eq!(sent(&params), [(60, &b"x"[..]), (12, &b"db-1"[..])]);
    assert_eq!(params.client_id, ClientId::Sent(b"\0db"[..].into()));
}

#[test]
fn arguments_that_are_too_long_are_neither_cut_short_nor_the_same_identifier() {
    let of = |argument: &str| {
        let keys = json!({
            "clientId": { "fromArg": "ID" }, "hostname": false,
            "provide": [{ "option": 60, "fromArg": "ID", "value": "x" }],
        });
        params(keys, &format!("ID={argument}"))
    };
    let [one, other] = ["1", "2"].map(|end| of(&("a".repeat(300) + end)));
    assert_ne!(one.client_id, other.client_id);
    assert!(one.provide.is_empty());
    assert_eq!(sent(&of("db")), [(60, &b"db"[..])]);
}

#[test]
fn no_pod_takes_the_name_of_another_in_args_cni() {
    let name = json!({ "fromArg": "K8S_POD_NAME" });
    let config = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": "macvlan",
        "ipam": {
            "type": "dhcp", "clientId": name, "fqdn": false, "hostname": name,
            "provide": [{ "option": "60", "fromArg": "K8S_POD_NAMESPACE" }],
        },
        "args": { "cni": { "K8S_POD_NAMESPACE": "bank", "K8S_POD_NAME": "vault" } },
    });
    let request = request(config, NAMED);
    let params =
        Config::with_content(&request, None).and_then(|config| config.lease_params(&request));
    let params = params.expect("valid parameters");
    assert_eq!(sent(&params), [(60, &b"shop"[..]), (12, b"web-0")]);
    assert_eq!(params.client_id, ClientId::Sent(b"\0web_0"[..].into()));
}

#[test]
fn addresses_that_were_requested_for_one_container_and_not_leased_are_named() {
    let leased = CniResult {
        ips: vec![IpConfig::new("10.0.0.7/24".parse().expect("a network"))],
        ..CniResult::default()
    };
    let with_keys = |keys, args| {
        let request = with_ipam(keys, args);
        let config = Config::with_content(&request, None).expect("valid keys");
        ungranted(&request, config.requested_address(), &leased).expect("valid")
    };
    let ungranted = |args| with_keys(json!({}), args);
    assert_eq!(ungranted(""), [""; 0]);
    assert_eq!(ungranted("IP=10.0.0.7/24"), [""; 0]);
    let other = ungranted("IP=10.0.0.8");
    assert!(
        other[0].contains("10.0.0.8") && other[0].contains("10.0.0.7"),
        "{other:?}"
    );
    let further = ungranted("IP=10.0.0.7,10.0.0.9,fd99::1");
    assert!(
        further[0].contains("10.0.0.9") && further[1].contains("fd99::1"),
        "{further:?}"
    );
    let key = |args| with_keys(json!({ "requestedAddress": "10.0.0.5" }), args);
    let of_key = "10.0.0.5 was requested, but the DHCP server has leased 10.0.0.7";
    assert_eq!(key(""), [of_key]);
    assert_eq!(key("IP=10.0.0.7"), [""; 0]);
    // A key counts if the runtime requests no IPv4 address.
    assert_eq!(key("IP=fd99::1").last().map(String::as_str), Some(of_key));
}

#[test]
fn without_keys_the_request_is_the_go_plugins_with_a_longer_list_and_a_name() {
    let params = params(json!({}), NAMED);
    assert_eq!(
        params.client_id,
        ClientId::Sent(b"\0c1/lan/eth0"[..].into())
    );
    assert_eq!(sent(&params), [(12, &b"web-0"[..])]);
    assert_eq!(
        params.request,
        [1, 121, 33, 3, 6, 15, 26, 28, 42, 51, 54, 58, 59, 119]
    );
    assert!(params.announce && params.rapid_commit && !params.broadcast);
    assert_eq!(params.conflict_detection, ConflictDetection::Off);
}

#[test]
fn an_option_takes_the_argument_then_hex_or_text_and_is_left_out_without_any() {
    let provide = |option: Value| json!({ "hostname": false, "provide": [option] });
    for (option, args, expected) in [
        (
            json!({ "option": "60", "value": "leasehold" }),
            "",
            Some((60, &b"leasehold"[..])),
        ),
        (
            json!({ "option": "vendor-encapsulated-options", "hex": "01:02ff" }),
            "",
            Some((43, &[1, 2, 255])),
        ),
        (
            json!({ "option": 43, "hex": "00", "fromArg": "X" }),
            "X=arg",
            Some((43, b"arg")),
        ),
        (
            json!({ "option": "host-name", "fromArg": "X" }),
            "X=arg",
            Some((12, b"arg")),
        ),
        (
            json!({ "option": "host-name", "fromArg": "X", "value": "v" }),
            "",
            Some((12, b"v")),
        ),
        (json!({ "option": "host-name", "fromArg": "X" }), "", None),
        (json!({ "option": "host-name", "fromArg": "X" }), "X=", None),
        (json!({ "option": "host-name", "value": "" }), "", None),
        (
            json!({ "option": "user-class", "value": "pod" }),
            "",
            Some((77, b"\x03pod")),
        ),
        (
            json!({ "option": "user-class", "hex": "0341424301 44" }),
            "",
            Some((77, b"\x03ABC\x01D")),
        ),
    ] {
        let params = params(provide(option.clone()), args);
        assert_eq!(sent(&params).first().copied(), expected, "{option}");
    }
    let twice = json!([{ "option": "60", "value": "a" }, { "option": "60", "value": "b" }]);
    assert_eq!(
        sent(&params(json!({ "provide": twice }), "")),
        [(60, &b"b"[..])]
    );
}

#[test]
fn requested_options_extend_the_default_list_or_replace_it() {
    let list = |request: Value| {
        params(json!({ "request": request, "hostname": false }), NAMED)
            .request
            .clone()
    };
    let mut longer = dhcp4::DEFAULT_REQUEST.to_vec();
    longer.push(66);
    assert_eq!(
        list(json!([{ "option": "tftp-server-name" }, { "option": "3" }])),
        longer
    );
    assert_eq!(
        list(json!([{ "skipDefault": true, "option": "routers" }, { "option": "subnet-mask" }])),
        [3, 1]
    );
    assert_eq!(list(json!([{ "skipDefault": true }])), [0; 0]);
    // As Go's structs are written.
    assert_eq!(list(json!([{ "skipDefault": true, "option": "" }])), [0; 0]);
}

#[test]
fn a_name_is_sent_once_and_then_not_requested() {
    for (keys, expected) in [
        (json!({}), Some((12, &b"web-0"[..]))),
        (json!({ "hostname": true }), Some((12, b"web-0"))),
        (json!({ "hostname": "db" }), Some((12, b"db"))),
        (
            json!({ "hostname": { "fromArg": "K8S_POD_NAMESPACE" } }),
            Some((12, b"shop")),
        ),
        (json!({ "hostname": { "fromArg": "NOSUCH" } }), None),
        (json!({ "hostname": false }), None),
        (json!({ "fqdn": true }), Some((81, b"\x05\0\0\x05web-0"))),
        (
            json!({ "fqdn": "web.lan" }),
            Some((81, b"\x05\0\0\x03web\x03lan\0")),
        ),
        (json!({ "fqdn": false }), Some((12, b"web-0"))),
        (
            json!({ "provide": [{ "option": "host-name", "value": "As Is" }] }),
            Some((12, b"As Is")),
        ),
    ] {
        let asked = json!([{ "option": "host-name" }]);
        let mut ipam = keys.clone();
        ipam["request"] = asked;
        let params = params(ipam, NAMED);
        assert_eq!(sent(&params).first().copied(), expected, "{keys}");
        assert!(params.provide.len() <= 1, "{keys}");
        assert_eq!(params.request.contains(&12), expected.is_none(), "{keys}");
    }
    assert!(
        params(json!({}), "").provide.is_empty(),
        "the runtime passes no name"
    );
}

#[test]
fn the_client_identifier_takes_every_form() {
    let id = |key: Value| params(json!({ "clientId": key }), NAMED).client_id;
    let body = |octets: &[u8]| ClientId::Sent(octets.into());
    assert_eq!(id(json!("container")), body(b"\0c1/lan/eth0"));
    assert_eq!(id(json!("name")), body(b"\0shop/web_0/lan/eth0"));
    assert_eq!(id(json!("mac")), ClientId::Mac);
    assert_eq!(id(json!("none")), ClientId::None);
    assert_eq!(id(json!({ "text": "db" })), body(b"\0db"));
    assert_eq!(id(json!({ "hex": "ff:00:01" })), body(&[255, 0, 1]));
    assert_eq!(
        id(json!({ "fromArg": "K8S_POD_NAMESPACE" })),
        body(b"\0shop")
    );
    assert_eq!(id(json!({ "fromArg": "NOSUCH" })), body(b"\0c1/lan/eth0"));
    let provided =
        json!({ "provide": [{ "option": "dhcp-client-identifier", "value": "\u{1}x" }] });
    assert_eq!(
        params(provided, "").client_id,
        body(b"\x01x"),
        "as with the Go plugin"
    );
    let mac = linknet::Mac([2, 0, 0, 0, 0, 1]);
    assert_eq!(
        ClientId::Mac.body(mac),
        Some([1, 2, 0, 0, 0, 0, 1][..].into())
    );
    assert_eq!(ClientId::None.body(mac), None);
}

#[test]
fn an_address_is_released_by_default_unless_another_container_may_have_the_identity() {
    let release = |keys: Value| params(keys, NAMED).release;
    for key in ["container", "mac", "none"] {
        let keys = json!({ "clientId": key });
        assert_eq!(release(keys), ReleasePolicy::Always, "{key}");
    }
    assert_eq!(release(json!({})), ReleasePolicy::Always);
    for key in [
        json!("name"),
        json!({ "text": "db" }),
        json!({ "hex": "ff:00:01" }),
        json!({ "fromArg": "K8S_POD_NAME" }),
    ] {
        let keys = json!({ "clientId": key });
        assert_eq!(release(keys), ReleasePolicy::IfUnused, "{key}");
    }
    let provided = json!({ "provide": [{ "option": 61, "value": "\u{1}x" }] });
    assert_eq!(release(provided), ReleasePolicy::IfUnused);
    for (key, expected) in [
        (json!(true), ReleasePolicy::Always),
        (json!("ifUnused"), ReleasePolicy::IfUnused),
        (json!(false), ReleasePolicy::Never),
    ] {
        for id in ["name", "container"] {
            let keys = json!({ "clientId": id, "release": key });
            assert_eq!(release(keys), expected, "{id}: {key}");
        }
    }
}

#[test]
fn a_client_id_by_name_without_a_name_fails_add_only() {
    let nameless = with_ipam(json!({ "clientId": "name" }), "");
    let config = Config::with_content(&nameless, None).expect("STATUS and CHECK need no name");
    let error = config.lease_params(&nameless).expect_err("ADD does");
    assert!(
        error.msg.contains("ipam.clientId") && error.msg.contains("K8S_POD_NAME"),
        "{error:?}"
    );
}

#[test]
fn the_runtimes_address_overrides_the_configurations() {
    let requested = |config: Value, args: &str| {
        let request = request(config, args);
        Config::with_content(&request, None)
            .and_then(|config| config.lease_params(&request))
            .expect("valid parameters")
            .requested_address
    };
    let config =
        json!({ "name": "lan", "ipam": { "type": "dhcp", "requestedAddress": "10.0.0.5" } });
    assert_eq!(requested(config.clone(), ""), Some([10, 0, 0, 5].into()));
    assert_eq!(
        requested(config.clone(), "IP=10.0.0.6/24"),
        Some([10, 0, 0, 6].into())
    );
    let mut both = config;
    both["runtimeConfig"] = json!({ "ips": ["fd00::1/64", "10.0.0.7/24"] });
    assert_eq!(requested(both, "IP=10.0.0.6"), Some([10, 0, 0, 7].into()));
}

#[test]
fn a_configured_mtu_overrides_the_servers() {
    for (key, mtu, expected) in [
        ("mtu", json!(1400), &[Suppress::Mtu][..]),
        ("MTU", json!(1400), &[Suppress::Mtu]),
        ("mtu", json!(0), &[]),
    ] {
        let request = request(json!({ "name": "lan", key: mtu, "ipam": {} }), "");
        let params = Config::with_content(&request, None)
            .and_then(|config| config.lease_params(&request))
            .expect("valid parameters");
        assert_eq!(params.suppress, expected, "{key}");
    }
}

#[test]
fn parameters_are_read_as_they_were_written() {
    let all = params(
        json!({
            "clientId": "mac", "servers": { "allow": ["10.0.0.1"], "deny": ["10.0.0.2"] }, "broadcast": true,
            "rapidCommit": false, "conflictDetection": "rfc5227", "announce": false, "timeout": "20s",
            "suppress": ["gateway", "dns"], "priority": 100, "requestedAddress": "10.0.0.5",
            "routes": [{ "dst": "10.0.0.0/8", "gw": "10.0.0.1", "mtu": 1400, "table": 5, "scope": 0 }],
            "provide": [{ "option": 43, "hex": "0102" }], "release": false,
            "onChange": "down",
        }),
        NAMED,
    );
    for params in [all, params(json!({}), "")] {
        let text = serde_json::to_string(&params).expect("parameters can be written");
        assert_eq!(
            serde_json::from_str::<LeaseParams>(&text).expect("and read"),
            params,
            "{text}"
        );
    }
}

#[test]
fn options_reach_the_client_unchanged() {
    let params = params(
        json!({ "provide": [{ "option": 43, "hex": "0102" }], "servers": { "deny": ["10.0.0.2"] } }),
        "",
    );
    let config = params.client_config(linknet::Mac([2, 0, 0, 0, 0, 1]));
    assert_eq!(config.options, [RawOption::new(43, [1, 2])]);
    assert_eq!(
        config.servers.deny,
        ["10.0.0.2".parse::<Ipv4Addr>().expect("an address")]
    );
    assert!(config.rapid_commit);
}

#[test]
fn a_declined_address_is_replaced_soon_unless_the_rfc_is_followed_to_the_letter() {
    let pause = |detection: &str| {
        let params = params(json!({ "conflictDetection": detection }), "");
        let config = params.client_config(linknet::Mac([2, 0, 0, 0, 0, 1]));
        config.retry.after_decline.as_secs()
    };
    assert_eq!(["off", "fast", "rfc5227"].map(pause), [1, 1, 10]);
}

#[test]
fn a_bad_value_is_refused_naming_its_key() {
    for (keys, expected) in [
        (json!({ "clientId": "hostname" }), "clientId"),
        (json!({ "clientId": { "hex": "0" } }), "clientId"),
        (
            json!({ "clientId": { "text": "" } }),
            "clientId: it has 1 octets",
        ),
        (
            json!({ "clientId": "mac", "provide": [{ "option": 61, "value": "x" }] }),
            "clientId: ipam.provide has option 61 too",
        ),
        (json!({ "hostname": "no name" }), "hostname: \"no name\""),
        (json!({ "hostname": 5 }), "hostname"),
        (json!({ "fqdn": "a..b" }), "fqdn"),
        (json!({ "suppress": ["everything"] }), "suppress[0]"),
        (json!({ "conflictDetection": "slow" }), "conflictDetection"),
        (
            json!({ "servers": { "deny": ["server"] } }),
            "servers.deny[0]",
        ),
        (
            json!({ "servers": { "alow": ["10.0.0.1"] } }),
            "servers: there is no key \"alow\"",
        ),
        (
            json!({ "routes": [{ "dst": "10.0.0.0/33" }] }),
            "routes[0].dst",
        ),
        (json!({ "routes": [{ "gw": "10.0.0.1" }] }), "routes[0]"),
        (json!({ "requestedAddress": "fd00::1" }), "requestedAddress"),
        (
            json!({ "provide": [{ "option": "53", "value": "x" }] }),
            "provide[0].option: option 53",
        ),
        (
            json!({ "provide": [{ "option": "nosuch" }] }),
            "provide[0].option: \"nosuch\"",
        ),
        (
            json!({ "provide": [{ "option": "60", "value": "x", "hex": "00" }] }),
            "provide[0]: value and hex",
        ),
        (
            json!({ "provide": [{ "option": "60", "hex": "0g" }] }),
            "provide[0].hex",
        ),
        (
            json!({ "provide": [{ "option": "60", "value": "x".repeat(256) }] }),
            "provide[0]: it has 256 octets",
        ),
        (json!({ "request": [{ "option": 0 }] }), "request[0].option"),
        (json!({ "release": "never" }), "release"),
        (
            json!({ "onChange": "stay" }),
            "onChange: \"stay\" is none of \"follow\", \"keep\", \"down\"",
        ),
        (json!({ "timeout": "2h" }), "timeout"),
    ] {
        let problem = refused(keys.clone());
        assert!(problem.starts_with(expected), "{keys}: {problem}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_what_is_expected() {
    for (keys, expected) in [
        (json!({ "timeout": true }), "a duration such as \"30s\""),
        (
            json!({ "provide": [{ "option": true }] }),
            "the name or the number of a DHCP option",
        ),
        (
            json!({ "request": [{ "option": true }] }),
            "the name or the number of a DHCP option",
        ),
    ] {
        let problem = refused(keys.clone());
        assert!(problem.contains(expected), "{keys}: {problem}");
    }
}

#[test]
fn an_option_has_255_octets_at_most() {
    let longest = json!({ "provide": [{ "option": 60, "value": "x".repeat(255) }] });
    let params = params(longest, NAMED);
    assert!(sent(&params).contains(&(60, &[b'x'; 255][..])));
}

#[test]
fn a_timeout_is_a_duration_or_a_number_of_seconds() {
    let timeout = |value: Value| params(json!({ "timeout": value }), NAMED).timeout;
    assert_eq!(timeout(json!("1m30s")), Some(Duration::from_secs(90)));
    assert_eq!(timeout(json!(110)), Some(Duration::from_secs(110)));
    for outside in [json!(0), json!(111), json!("0s"), json!("111s")] {
        let problem = refused(json!({ "timeout": outside }));
        assert!(problem.contains("at most 110 s"), "{problem}");
    }
}

#[test]
fn source_routing_of_the_calling_plugin_is_read_and_an_invalid_value_is_left_to_it() {
    let source_routing = |value: Value| {
        let config = json!({
            "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "ipam": {}, "sourceRouting": value,
        });
        let request = request(config, NAMED);
        Config::with_content(&request, None)
            .and_then(|config| config.lease_params(&request))
            .expect("valid parameters")
            .source_routing
    };
    assert_eq!(source_routing(json!(true)), SourceRouting::Own);
    assert_eq!(source_routing(json!(50)), SourceRouting::Table(50));
    assert_eq!(source_routing(Value::Null), SourceRouting::Off);
    assert_eq!(source_routing(json!("main")), SourceRouting::Off);
}

/// The keys of the network's file beneath those of an `ipam` section.
fn with_file(ipam: Value, file: &Value) -> Result<LeaseParams, Error> {
    let request = with_ipam(ipam, "");
    let file = file.to_string();
    let config = Config::with_content(&request, Some(file.as_bytes()))?;
    config.lease_params(&request)
}

#[test]
fn a_key_of_the_networks_file_counts_if_the_caller_does_not_give_it() {
    let file = json!({
        "type": "dhcp", "Hostname": "of-file", "priority": 5, "suppress": ["dns"], "clientId": "mac",
    });
    let params = with_file(json!({ "HOSTNAME": "of-caller", "priority": null }), &file);
    let params = params.expect("valid keys");
    assert_eq!(sent(&params), [(12, &b"of-caller"[..])]);
    assert_eq!(params.priority, Some(5));
    assert_eq!(params.suppress, [Suppress::Dns]);
    assert_eq!(params.client_id, ClientId::Mac);
    let empty = with_file(json!({ "suppress": [] }), &file).expect("valid keys");
    assert_eq!(empty.suppress, []);
}

#[test]
fn the_networks_file_says_where_the_daemon_is() {
    let request = with_ipam(json!({ "stateDir": "/of/caller" }), "");
    let file =
        br#"{ "daemonSocketPath": "/run/d.sock", "stateDir": "/of/file", "autostart": true }"#;
    let config = Config::with_content(&request, Some(file)).expect("valid keys");
    assert_eq!(config.daemon.socket.as_os_str(), "/run/d.sock");
    assert_eq!(config.daemon.state.path().as_os_str(), "/of/caller");
    assert!(config.daemon.autostart);
}

#[test]
fn an_error_about_a_key_names_where_the_key_is() {
    for (ipam, file, expected) in [
        (
            json!({}),
            json!({ "hostname": "a b" }),
            "network.json: hostname: \"a b\" is not a valid name",
        ),
        (
            json!({ "hostname": "a b" }),
            json!({ "hostname": "a" }),
            "ipam.hostname: \"a b\" is not a valid name",
        ),
        (
            json!({ "hostname": "a" }),
            json!({ "hostname": 5 }),
            "network.json: hostname: expected true, false, a name, or {\"fromArg\": …}, found 5",
        ),
        (
            json!({}),
            json!({ "daemonSocketPath": 5 }),
            "network.json: daemonSocketPath: expected a string, found 5",
        ),
        (
            json!({}),
            json!({ "clientId": "name" }),
            "network.json: clientId: the runtime does not name",
        ),
        (
            json!({ "clientId": "mac" }),
            json!({ "provide": [{ "option": 61, "value": "x" }] }),
            "ipam.clientId: network.json: provide has option 61 too",
        ),
        (
            json!({ "provide": [{ "option": 61, "value": "x" }] }),
            json!({ "clientId": "mac" }),
            "network.json: clientId: ipam.provide has option 61 too",
        ),
    ] {
        let error = with_file(ipam, &file).expect_err("a bad key");
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
        let prefix = "invalid network configuration: ";
        let problem = error.msg.strip_prefix(prefix).expect("its prefix");
        assert!(problem.starts_with(expected), "{file}: {problem}");
    }
}

#[test]
fn a_key_of_the_networks_file_without_effect_is_named_with_the_file() {
    let content =
        br#"{ "type": "dhcp", "hostnam": "web", "note": "", "request": [{ "optoin": 6 }] }"#;
    let file = NetworkFile::parse("lan.json".into(), content).expect("an object");
    assert_eq!(
        file.keys_without_effect(),
        [
            r#"lan.json: there is no key "hostnam"; did you mean "hostname"?"#,
            r#"lan.json: there is no key "note" of dhcp; a key of macvlan belongs in the network's configuration"#,
            r#"lan.json: there is no key "request[0].optoin"; did you mean "option"?"#,
        ]
    );
    let content = br#"{ "MTU": 1400, "routes": [{ "dst": "10.0.0.0/8", "gateway": "10.0.0.1" }] }"#;
    let file = NetworkFile::parse("lan.json".into(), content).expect("an object");
    let named = file.keys_without_effect();
    assert_eq!(named.len(), 2, "{named:?}");
    for (sentence, key) in named.iter().zip(["\"MTU\"", "\"routes[0].gateway\""]) {
        assert!(sentence.contains(key), "{sentence}");
    }
    let content = br#"{ "ipam": { "suppress": ["dns"] } }"#;
    let file = NetworkFile::parse("lan.json".into(), content).expect("an object");
    assert_eq!(
        file.keys_without_effect(),
        [
            r#"lan.json: "ipam" has no effect; the keys of the ipam section belong at the top of this file"#
        ]
    );
}

#[test]
fn a_misspelt_key_of_servers_in_the_networks_file_is_refused_even_if_the_caller_overrides_it() {
    let file = NetworkFile::parse("lan.json".into(), br#"{ "servers": { "alow": [] } }"#);
    let error = file.expect("an object").verify().expect_err("a bad key");
    let problem = r#"lan.json: servers: there is no key "alow"; did you mean "allow"?"#;
    assert!(error.msg.ends_with(problem), "{error}");
}
