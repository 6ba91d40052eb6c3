use cni::Version;

use super::*;

/// Serves a command without a plugin directory; returns the exit status and the document on stdout.
fn serve_command(command: Command, document: &Value) -> (u8, Value) {
    let process = Process {
        built_in: &[],
        variables: vec![("CNI_ARGS".into(), "inherited".into())],
        program: "/usr/lib/cni/macvlan".into(),
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let netns = OsStr::new("/run/netns/no-such-container");
    let stdin = document.to_string();
    let status = run(
        &process,
        (command, netns),
        stdin.as_bytes(),
        &mut stdout,
        &mut stderr,
    );
    assert!(stdout.ends_with(b"\n") || stdout.is_empty());
    (status, serde_json::from_slice(&stdout).unwrap_or_default())
}

/// What the plugin is called with for `setup`.
fn translated(network: Value, container: Value) -> Result<Call, Error> {
    let mut document = json!({
        "container_id": "bb3c7f7483f0aaaaaaaa",
        "container_name": "web",
        "network": { "name": "lan", "options": { "parent": "eth1" } },
        "network_options": { "interface_name": "eth0" },
    });
    merge(&mut document["network"], network);
    merge(&mut document["network_options"], container);
    let exec = Exec::read(document.as_object().unwrap()).unwrap();
    translate::setup(&exec, OsStr::new("/run/netns/c1"))
}

fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn config(network: Value, container: Value) -> Value {
    translated(network, container).expect("a valid call").config
}

#[test]
fn info_names_the_versions() {
    let (status, document) = serve_command(Command::Info, &json!({}));
    assert_eq!(status, 0);
    assert_eq!(document["api_version"], "1.0.0");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn setup_is_an_add_with_the_keys_that_cni_has() {
    let call = translated(json!({}), json!({})).expect("a valid call");
    assert_eq!(
        call.config,
        json!({
            "cniVersion": Version::LATEST.as_str(), "name": "lan", "type": "macvlan",
            "master": "eth1",
            "ipam": { "type": "dhcp", "timeout": "10s" },
            "args": { "cni": { "K8S_POD_NAME": "web" } },
            "runtimeConfig": { "ips": [] },
        })
    );
    assert_eq!(call.assigned, None);
    let process = Process {
        built_in: &[],
        variables: vec![
            ("CNI_ARGS".into(), "inherited".into()),
            ("HOME".into(), "/root".into()),
        ],
        program: "/usr/lib/cni/macvlan".into(),
    };
    let env = process.env(call.env);
    for (name, value) in [
        ("CNI_COMMAND", Some("ADD")),
        ("CNI_CONTAINERID", Some("bb3c7f7483f0aaaaaaaa")),
        ("CNI_NETNS", Some("/run/netns/c1")),
        ("CNI_IFNAME", Some("eth0")),
        ("CNI_PATH", Some("/usr/lib/cni")),
        ("CNI_ARGS", None),
        ("HOME", Some("/root")),
    ] {
        assert_eq!(env.get(name), value.map(OsStr::new), "{name}");
    }
    let elsewhere = Process {
        variables: vec![("CNI_PATH".into(), "/opt/cni/bin".into())],
        ..process
    };
    let path = elsewhere.env(Vec::new());
    assert_eq!(path.get("CNI_PATH"), Some(OsStr::new("/opt/cni/bin")));
}

#[test]
fn the_parent_is_an_option_or_the_networks_interface() {
    for (network, master) in [
        (json!({ "network_interface": "eth2" }), json!("eth1")),
        (
            json!({ "network_interface": "eth2", "options": null }),
            json!("eth2"),
        ),
        (json!({ "options": null }), Value::Null),
    ] {
        assert_eq!(config(network, json!({}))["master"], master);
    }
}

#[test]
fn what_is_one_containers_is_where_a_runtime_puts_it() {
    let container = json!({
        "aliases": ["www", "bb3c7f7483f0", "webhost.example"],
        "static_ips": ["10.99.0.150", "10.99.0.151"],
        "static_mac": "02:11:22:33:44:55",
        "options": { "hostAccess": "true", "clientId": "name" },
    });
    let config = config(json!({}), container);
    let runtime = json!({ "mac": "02:11:22:33:44:55", "ips": ["10.99.0.150", "10.99.0.151"] });
    assert_eq!(config["runtimeConfig"], runtime);
    assert_eq!(config["hostAccess"], true);
    assert_eq!(config["ipam"]["clientId"], "name");
    assert_eq!(config["ipam"]["hostname"], json!({ "fromArg": "HOSTNAME" }));
    let args = json!({
        "K8S_POD_NAME": "web", "HOSTNAME": "webhost", "FQDN": "webhost.example",
    });
    assert_eq!(config["args"]["cni"], args);
}

#[test]
fn a_host_name_of_the_users_replaces_the_containers_name_and_nothing_else() {
    let with = |options: Value| {
        let aliases = json!(["bb3c7f7483f0", "webhost"]);
        let container = json!({ "aliases": aliases, "options": options });
        config(json!({}), container)["ipam"].clone()
    };
    let from_arg = json!({ "fromArg": "HOSTNAME" });
    assert_eq!(with(json!({ "hostname": "true" }))["hostname"], from_arg);
    assert_eq!(with(json!({ "hostname": "false" }))["hostname"], false);
    assert_eq!(with(json!({ "hostname": "db" }))["hostname"], "db");
    let whole = json!({ "fromArg": "FQDN" });
    assert_eq!(with(json!({ "fqdn": "true" }))["fqdn"], whole);
    assert_eq!(with(json!({}))["fqdn"], Value::Null);
}

#[test]
fn parts_of_the_servers_answer_can_be_left_out() {
    for (network, suppressed) in [
        (json!({}), Value::Null),
        (json!({ "internal": true }), json!(["gateway", "routes"])),
        (json!({ "options": { "dns": "false" } }), json!(["dns"])),
        (json!({ "options": { "dns": "true" } }), Value::Null),
        (
            json!({ "options": { "no_default_route": "true", "suppress": "[\"mtu\"]" } }),
            json!(["mtu", "gateway"]),
        ),
        // The dhcp plugin refuses it.
        (
            json!({ "internal": true, "options": { "suppress": "mtu" } }),
            json!("mtu"),
        ),
    ] {
        let config = config(network.clone(), json!({}));
        assert_eq!(config["ipam"]["suppress"], suppressed, "{network}");
        assert_eq!(config["dns"], Value::Null);
    }
    let own = json!({ "options": { "dns": "{\"nameservers\":[\"10.0.0.1\"]}" } });
    let config = config(own, json!({}));
    assert_eq!(config["dns"]["nameservers"][0], "10.0.0.1");
}

#[test]
fn the_networks_routes_are_added_to_the_options() {
    let network = json!({
        "routes": [
            { "destination": "10.1.0.0/16", "gateway": "10.99.0.2", "metric": 7 },
            { "destination": "10.2.0.0/16", "gateway": "10.99.0.3" },
        ],
        "options": { "routes": "[{\"dst\":\"10.3.0.0/16\"}]", "metric": "50" },
    });
    let ipam = config(network, json!({}))["ipam"].clone();
    assert_eq!(
        ipam["routes"],
        json!([
            { "dst": "10.3.0.0/16" },
            { "dst": "10.1.0.0/16", "gw": "10.99.0.2", "priority": 7 },
            { "dst": "10.2.0.0/16", "gw": "10.99.0.3" },
        ])
    );
    assert_eq!(ipam["priority"], 50);
}

#[test]
fn routes_that_refuse_packets_are_a_key_of_the_plugin() {
    for (subnets, container) in [
        (json!(null), json!({})),
        (
            json!([{ "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" }]),
            json!({ "static_ips": ["10.99.0.7"] }),
        ),
    ] {
        let network = json!({
            "subnets": subnets,
            "routes": [
                { "destination": "10.1.0.0/16", "route_type": "blackhole" },
                { "destination": "fd01::/64", "route_type": "prohibit", "metric": 7 },
                { "destination": "10.2.0.0/16", "gateway": "10.99.0.3", "route_type": "unicast" },
            ],
        });
        let call = translated(network, container).expect("a valid call");
        assert_eq!(
            call.config["refusedRoutes"],
            json!([
                { "dst": "10.1.0.0/16", "type": "blackhole", "priority": 0 },
                { "dst": "fd01::/64", "type": "prohibit", "priority": 7 },
            ])
        );
        let through_gateways = match call.assigned {
            Some(assigned) => assigned.to_value(Version::V1_1_0)["routes"][1].clone(),
            None => call.config["ipam"]["routes"][0].clone(),
        };
        let expected = json!({ "dst": "10.2.0.0/16", "gw": "10.99.0.3" });
        assert_eq!(through_gateways, expected);
    }
}

#[test]
fn addresses_that_podman_allocates_are_the_result_of_ipam() {
    let network = json!({
        "subnets": [{ "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" }],
        "routes": [
            { "destination": "10.1.0.0/16", "gateway": "10.99.0.2", "metric": 7 },
            { "destination": "10.2.0.0/16", "gateway": "10.99.0.3" },
        ],
        "options": { "metric": "50", "hostAccess": "true" },
    });
    let call = translated(network, json!({ "static_ips": ["10.99.0.7"] })).expect("valid");
    assert_eq!(call.config["ipam"], json!({ "type": "host-local" }));
    assert_eq!(call.config["hostAccess"], true);
    assert_eq!(call.config["runtimeConfig"], json!({}));
    let result = call.assigned.expect("addresses");
    assert_eq!(
        result.to_value(Version::V1_1_0),
        json!({
            "cniVersion": "1.1.0",
            "ips": [{ "address": "10.99.0.7/24", "gateway": "10.99.0.1" }],
            "routes": [
                { "dst": "0.0.0.0/0", "priority": 50 },
                { "dst": "10.1.0.0/16", "gw": "10.99.0.2", "priority": 7 },
                { "dst": "10.2.0.0/16", "gw": "10.99.0.3", "priority": 50 },
            ],
        })
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let pool = json!({ "subnets": [{ "subnet": "10.99.0.0/24" }], "options": { "fqdn": "true" } });
    let none = |more: Value| {
        let mut network = json!({ "ipam_options": { "driver": "none" }, "options": null });
        merge(&mut network, more);
        network
    };
    let route = json!([{ "destination": "10.1.0.0/16", "gateway": "10.99.0.2" }]);
    for (network, container, words) in [
        (
            pool,
            json!({ "static_ips": ["10.99.0.7"] }),
            "fqdn needs the IPAM driver dhcp, but the network's is host-local",
        ),
        (
            json!({ "subnets": [{ "subnet": "10.99.0.0/24" }] }),
            json!({}),
            "has allocated no address",
        ),
        (
            json!({ "subnets": [{ "subnet": "10.99.0.0/24" }], "options": { "metric": "x" } }),
            json!({ "static_ips": ["10.99.0.7"] }),
            "ipam.priority: expected a number",
        ),
        (
            none(json!({})),
            json!({ "static_ips": ["10.99.0.7"] }),
            "10.99.0.7 was requested, but",
        ),
        (
            none(json!({ "options": { "metric": "5" } })),
            json!({}),
            "priority needs the IPAM driver dhcp, but the network's is none",
        ),
        (
            none(json!({ "routes": route })),
            json!({}),
            "routes need an address",
        ),
        (
            json!({ "ipam_options": { "driver": "host-local" } }),
            json!({}),
            "needs a subnet",
        ),
        (
            json!({ "ipam_options": { "driver": "static" } }),
            json!({}),
            "none of dhcp, host-local and none",
        ),
        (
            json!({}),
            json!({ "options": { "gaurd": "true" } }),
            "did you mean \"guard\"?",
        ),
    ] {
        let error = translated(network, container).expect_err("they do not fit");
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
        assert!(error.msg.contains(words), "{error}");
    }
}

#[test]
fn a_failure_is_one_key_and_the_status_1() {
    for (command, document, words) in [
        (Command::Setup, json!({ "container_id": 7 }), "container_id"),
        (Command::Setup, json!([]), "not netavark's"),
        (Command::Setup, json!({}), "CNI_CONTAINERID"),
        (Command::Create, json!({ "subnets": 7 }), "subnets"),
        (
            Command::Create,
            json!({ "name": "lan", "options": { "vlan": "5000" } }),
            "vlan: 5000 is not a VLAN identifier",
        ),
        (
            Command::Create,
            json!({ "name": "lan", "options": { "masterr": "eth1" } }),
            "did you mean \"master\"?",
        ),
        (Command::Create, json!({}), "name: is empty"),
        (
            Command::Create,
            json!({ "name": "lan", "routes": [
                { "destination": "10.1.0.0/16", "route_type": "throw" },
            ] }),
            "refusedRoutes[0].type: \"throw\"",
        ),
    ] {
        let (status, answer) = serve_command(command, &document);
        assert_eq!(status, 1, "{document}");
        let answer = answer.as_object().expect("an object");
        assert_eq!(answer.len(), 1, "{answer:?}");
        let error = answer["error"].as_str().expect("a text");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_network_is_completed_and_otherwise_echoed() {
    let network = json!({
        "name": "lan", "id": "0123", "driver": "leasehold", "dns_enabled": true,
        "created": "2026-01-01T00:00:00Z", "labels": { "a": "b" }, "ipv6_enabled": false,
        "network_interface": "no-such-device", "from the future": [1],
    });
    let (status, mut answer) = serve_command(Command::Create, &network);
    assert_eq!(status, 0, "{answer}");
    assert_eq!(answer["ipam_options"], json!({ "driver": "dhcp" }));
    assert_eq!(answer["dns_enabled"], false);
    let answer = answer.as_object_mut().expect("an object");
    answer.remove("ipam_options");
    answer.insert("dns_enabled".to_owned(), true.into());
    assert_eq!(Value::from(answer.clone()), network);
    let pool = json!({
        "name": "lan", "ipam_options": null,
        "subnets": [{ "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" }],
    });
    let (_, answer) = serve_command(Command::Create, &pool);
    assert_eq!(answer["ipam_options"], json!({ "driver": "host-local" }));
    assert_eq!(answer["subnets"], pool["subnets"]);
}

#[test]
fn a_teardown_ignores_what_setup_refuses() {
    for network in [
        json!({ "name": "lan", "options": { "gaurd": "true", "metric": "x", "vlan": "x" } }),
        json!({ "name": "lan", "ipam_options": { "driver": "static" } }),
        json!({ "name": "lan", "ipam_options": { "driver": "none" }, "options": { "fqdn": "x" } }),
        json!({ "name": "lan", "subnets": [{ "subnet": "10.99.0.0/24" }] }),
        json!({
            "name": "lan", "ipam_options": { "driver": "none" },
            "routes": [{ "destination": "10.1.0.0/16", "route_type": "from the future" }],
        }),
    ] {
        let document = json!({
            "container_id": "c1", "network": network,
            "network_options": { "interface_name": "eth0" },
        });
        let exec = Exec::read(document.as_object().unwrap()).unwrap();
        let call = translate::teardown(&exec, OsStr::new(""));
        assert_eq!(call.config["name"], "lan");
        assert_eq!(call.env[0].1, "DEL");
    }
}
