use serde_json::json;

use super::*;

fn parse(document: Value, verb: Verb) -> Result<(NetworkConfig, Vec<String>), Error> {
    NetworkConfig::parse(serde_json::from_value(document).unwrap(), verb)
}

fn config(document: Value) -> NetworkConfig {
    parse(document, Verb::Add).unwrap().0
}

#[test]
fn common_fields_are_read_and_the_whole_configuration_is_kept() {
    let document = json!({
        "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "eth1",
        "ipam": { "type": "dhcp", "dataDir": "/run/x" },
        "dns": { "nameservers": ["9.9.9.9"] },
        "runtimeConfig": { "mac": "02:00:00:00:00:01" },
        "args": { "labels": {}, "cni": { "ips": ["10.0.0.5"] } },
        "capabilities": { "mac": true },
    });
    let config = config(document.clone());
    assert_eq!(config.version, Version::V1_1_0);
    assert_eq!(
        (config.name.as_str(), config.plugin_type.as_str()),
        ("lan", "macvlan")
    );
    assert_eq!(config.ipam_type(), Some("dhcp"));
    assert_eq!(config.dns.nameservers, ["9.9.9.9"]);
    assert_eq!(config.runtime_config["mac"], "02:00:00:00:00:01");
    assert_eq!(config.cni_args["ips"], json!(["10.0.0.5"]));
    assert_eq!(Value::from(config.raw), document);
}

#[test]
fn keys_match_in_any_case() {
    let config =
        config(json!({ "CNIVersion": "0.4.0", "Name": "lan", "IPAM": { "Type": "static" } }));
    assert_eq!(
        (config.version, config.name.as_str()),
        (Version::V0_4_0, "lan")
    );
    assert_eq!(config.ipam_type(), Some("static"));
}

#[test]
fn an_absent_or_empty_ipam_type_means_no_ipam() {
    for ipam in [
        json!(null),
        json!({}),
        json!({ "type": "" }),
        json!({ "type": null }),
    ] {
        assert_eq!(
            config(json!({ "name": "lan", "ipam": ipam })).ipam_type(),
            None,
            "{ipam}"
        );
    }
}

#[test]
fn an_absent_or_empty_version_means_0_1_0() {
    assert_eq!(config(json!({ "name": "lan" })).version, Version::V0_1_0);
    assert_eq!(
        config(json!({ "name": "lan", "cniVersion": "" })).version,
        Version::V0_1_0
    );
}

#[test]
fn a_verb_is_refused_in_versions_before_the_one_that_added_it() {
    for verb in [Verb::Add, Verb::Check, Verb::Del, Verb::Gc, Verb::Status] {
        for version in Version::ALL {
            let document =
                json!({ "cniVersion": version.as_str(), "name": "lan", "prevResult": {} });
            match parse(document, verb) {
                Ok(_) => assert!(version >= verb.since(), "{verb} in {version}"),
                Err(error) => {
                    assert!(version < verb.since(), "{verb} in {version}: {error}");
                    assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
                    assert!(error.msg.contains(verb.as_str()), "{error}");
                }
            }
        }
    }
}

#[test]
fn an_error_names_the_field_and_what_is_wrong_with_it() {
    let cases = [
        (
            json!({ "name": "lan", "cniVersion": "1.2.0" }),
            code::INCOMPATIBLE_VERSION,
            "unsupported cniVersion \"1.2.0\"",
        ),
        (
            json!({ "name": "lan", "cniVersion": 1 }),
            code::INVALID_NETWORK_CONFIG,
            "cniVersion: expected a string, found 1",
        ),
        (json!({}), code::INVALID_NETWORK_CONFIG, "name: is empty"),
        (
            json!({ "name": "../lan" }),
            code::INVALID_NETWORK_CONFIG,
            "name: \"../lan\" starts with '.'",
        ),
        (
            json!({ "name": "lan", "ipam": "dhcp" }),
            code::INVALID_NETWORK_CONFIG,
            "ipam: expected an object",
        ),
        (
            json!({ "name": "lan", "ipam": { "type": 1 } }),
            code::INVALID_NETWORK_CONFIG,
            "ipam.type: expected a string",
        ),
        (
            json!({ "name": "lan", "args": { "cni": [] } }),
            code::INVALID_NETWORK_CONFIG,
            "args.cni: expected an object",
        ),
        (
            json!({ "name": "lan", "dns": { "search": "a" } }),
            code::INVALID_NETWORK_CONFIG,
            "dns.search: expected a list",
        ),
        (
            json!({ "name": "lan", "runtimeConfig": 1 }),
            code::INVALID_NETWORK_CONFIG,
            "runtimeConfig: expected an object",
        ),
        (
            json!({ "name": "lan", "cniVersion": "1.0.0", "prevResult": { "ips": [{}] } }),
            code::INVALID_NETWORK_CONFIG,
            "prevResult.ips[0].address: is missing",
        ),
    ];
    for (document, code, expected) in cases {
        let error = parse(document.clone(), Verb::Add).unwrap_err();
        assert_eq!(error.code, code, "{document}: {error}");
        assert!(error.msg.contains(expected), "{document}: {error}");
    }
}

#[test]
fn check_without_a_previous_result_is_refused() {
    let error = parse(json!({ "cniVersion": "1.0.0", "name": "lan" }), Verb::Check).unwrap_err();
    assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
    assert!(error.msg.contains("prevResult"), "{error}");
}

#[test]
fn a_previous_result_without_a_known_version_is_read_in_that_of_the_configuration() {
    for version in [json!(null), json!("7.0.0")] {
        let prev = json!({ "cniVersion": version, "ip4": { "ip": "10.0.0.2/24" } });
        let config = config(json!({ "cniVersion": "0.2.0", "name": "lan", "prevResult": prev }));
        assert_eq!(config.prev_result.unwrap().ips.len(), 1);
    }
}

#[test]
fn del_ignores_an_invalid_previous_result_with_a_warning() {
    let document = json!({ "cniVersion": "1.0.0", "name": "lan", "prevResult": { "ips": 5 } });
    let (config, warnings) = parse(document, Verb::Del).unwrap();
    assert_eq!(config.prev_result, None);
    assert!(warnings[0].contains("prevResult.ips"), "{warnings:?}");
}

#[test]
fn an_ipam_section_with_keys_needs_a_type() {
    let of = |ipam: Value, verb| {
        parse(
            json!({ "cniVersion": "1.0.0", "name": "lan", "ipam": ipam }),
            verb,
        )
    };
    for plain in [
        json!(null),
        json!({}),
        json!({ "type": "" }),
        json!({ "type": null, "routes": [] }),
    ] {
        let (config, _) = of(plain.clone(), Verb::Add).unwrap();
        assert_eq!(config.ipam_type(), None, "{plain}");
    }
    let misspelt = json!({ "typ": "dhcp" });
    let error = of(misspelt.clone(), Verb::Add).unwrap_err();
    assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
    assert!(
        error.msg.contains("did you mean \"type\" by \"typ\"?"),
        "{error}"
    );
    let error = of(json!({ "subnet": "10.0.0.0/24" }), Verb::Add).unwrap_err();
    assert!(error.msg.ends_with("ipam: has keys but no type"), "{error}");
    let (_, warnings) = of(misspelt, Verb::Del).unwrap();
    assert!(warnings[0].contains("no type"), "{warnings:?}");
}

#[test]
fn a_configuration_list_is_recognised() {
    let list = json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [{ "type": "macvlan" }] });
    let error = parse(list, Verb::Add).unwrap_err();
    assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
    assert!(error.msg.contains("a configuration list"), "{error}");
}

#[test]
fn a_missing_list_of_valid_attachments_is_not_an_empty_one() {
    let list = |document: Value| valid_attachments(document.as_object().unwrap(), "lan").unwrap();
    assert_eq!(list(json!({})), None);
    assert_eq!(list(json!({ "cni.dev/valid-attachments": null })), None);
    assert_eq!(
        list(json!({ "cni.dev/valid-attachments": [] })),
        Some(BTreeSet::new())
    );
    assert_eq!(
        list(json!({ "cni.dev/attachments": [] })),
        Some(BTreeSet::new())
    );
}

#[test]
fn the_lists_under_both_keys_for_valid_attachments_count() {
    let attachment = |container_id| Attachment::new(container_id, "lan", "eth0").unwrap();
    let document = json!({
        "cni.dev/valid-attachments": [{ "containerID": "a", "ifname": "eth0" }],
        "cni.dev/attachments": [{ "containerID": "a", "ifname": "eth0" }, { "containerid": "b", "ifName": "eth0" }],
    });
    let list = valid_attachments(document.as_object().unwrap(), "lan").unwrap();
    assert_eq!(
        list,
        Some(BTreeSet::from([attachment("a"), attachment("b")]))
    );
}

#[test]
fn an_invalid_list_of_valid_attachments_is_an_error_and_not_a_shorter_list() {
    for (list, place) in [
        (json!({}), "cni.dev/valid-attachments: expected a list"),
        (
            json!(["a"]),
            "cni.dev/valid-attachments[0]: expected an object",
        ),
        (
            json!([{ "containerID": "a" }]),
            "cni.dev/valid-attachments[0].ifname: is missing",
        ),
        (
            json!([{ "containerID": 1, "ifname": "eth0" }]),
            "cni.dev/valid-attachments[0].containerID: expected a string",
        ),
    ] {
        let document = json!({ "cni.dev/valid-attachments": list });
        let error = valid_attachments(document.as_object().unwrap(), "lan").unwrap_err();
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
        assert!(error.msg.contains(place), "{error}");
    }
}
