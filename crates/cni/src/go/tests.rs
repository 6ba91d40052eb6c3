use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::error::code;

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Conf {
    master: String,
    mtu: Option<u32>,
    link_in_container: bool,
    mode: Mode,
    ipam: Ipam,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Bridge,
    Private,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    data_dir: String,
    ranges: Vec<Range>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Range {
    #[serde(default)]
    exclusive: bool,
    range_start: String,
}

fn read(document: Value) -> Result<Conf, Error> {
    decode(&serde_json::from_value(document).unwrap())
}

#[test]
fn the_keys_of_a_struct_are_its_fields_as_json_spells_them() {
    assert_eq!(
        field_names::<Conf>(),
        ["master", "mtu", "linkInContainer", "mode", "ipam", "labels"]
    );
    assert!(field_names::<Mode>().is_empty(), "an enum has no keys");
}

#[test]
fn keys_match_in_any_case_at_every_depth() {
    let conf = read(json!({
        "MASTER": "eth1", "Mtu": 1400, "linkincontainer": true, "mode": "private",
        "IPAM": { "DataDir": "/run/x", "Ranges": [{ "RANGESTART": "10.99.0.2", "Exclusive": true }] },
    }))
    .unwrap();
    assert_eq!(
        conf,
        Conf {
            master: "eth1".into(),
            mtu: Some(1400),
            link_in_container: true,
            mode: Mode::Private,
            ipam: Ipam {
                data_dir: "/run/x".into(),
                ranges: vec![Range {
                    exclusive: true,
                    range_start: "10.99.0.2".into()
                }],
            },
            labels: BTreeMap::new(),
        }
    );
}

#[test]
fn of_several_matching_keys_the_exact_one_wins() {
    assert_eq!(
        read(json!({ "MASTER": "a", "master": "b", "mASTER": "c" }))
            .unwrap()
            .master,
        "b"
    );
}

#[test]
fn the_keys_of_a_map_keep_their_case() {
    let conf = read(json!({ "labels": { "App": "x", "app": "y" } })).unwrap();
    assert_eq!(
        conf.labels,
        BTreeMap::from([("App".into(), "x".into()), ("app".into(), "y".into())])
    );
}

#[test]
fn null_and_unknown_keys_are_ignored() {
    let conf =
        read(json!({ "master": null, "mtu": null, "ipam": null, "isGateway": true })).unwrap();
    assert_eq!(conf, Conf::default());
}

#[test]
fn an_error_names_the_field_by_its_path() {
    let msg = |document| {
        let error = read(document).unwrap_err();
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
        error.msg
    };
    let of = |path: &str, what: &str| format!("invalid network configuration: {path}: {what}");
    assert_eq!(
        msg(json!({ "MTU": "big" })),
        of(
            "mtu",
            "expected a number from 0 to 4294967295, found \"big\""
        )
    );
    assert_eq!(
        msg(json!({ "mtu": -1 })),
        of("mtu", "expected a number from 0 to 4294967295, found -1")
    );
    assert_eq!(
        msg(json!({ "mode": "x" })),
        of("mode", r#""x" is none of "bridge", "private""#)
    );
    assert_eq!(
        msg(json!({ "labels": { "a": 1 } })),
        of("labels.a", "expected a string, found 1")
    );
    assert_eq!(
        msg(json!({ "ipam": { "ranges": [{ "rangeStart": "x" }, { "rangeStart": 3 }] } })),
        of("ipam.ranges[1].rangeStart", "expected a string, found 3")
    );
    assert_eq!(
        msg(json!({ "ipam": { "ranges": [{}] } })),
        of("ipam.ranges[0].rangeStart", "is missing")
    );
    let ipam = json!({ "ranges": 1 });
    let error = decode_under::<Ipam>("ipam", ipam.as_object().unwrap()).unwrap_err();
    assert_eq!(error.msg, of("ipam.ranges", "expected a list, found 1"));
}

/// As the ways in which a client can be identified.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Identity {
    Name,
    Text(String),
    FromArg(String),
}

#[derive(Debug, Deserialize)]
struct Client {
    identity: Identity,
    #[serde(default)]
    servers: Vec<std::net::Ipv4Addr>,
}

fn client(document: Value) -> Result<Client, Error> {
    decode(&serde_json::from_value(document).unwrap())
}

#[test]
fn an_enum_is_a_text_or_an_object_with_one_key_in_any_case() {
    for (document, expected) in [
        (json!("name"), Identity::Name),
        (json!({ "text": "x" }), Identity::Text("x".into())),
        (json!({ "FromArg": "X" }), Identity::FromArg("X".into())),
        (
            json!({ "fromarg": "X", "text": null }),
            Identity::FromArg("X".into()),
        ),
    ] {
        let client = client(json!({ "identity": document })).expect("valid");
        assert_eq!(client.identity, expected, "{document}");
        assert!(client.servers.is_empty());
    }
    for (document, problem) in [
        (
            json!({ "txt": "x" }),
            r#"identity: "txt" is none of "name", "text", "fromArg""#,
        ),
        (
            json!({ "text": "x", "fromArg": "X" }),
            r#"identity: expected an object with one key, found {"fromArg":"X","text":"x"}"#,
        ),
        (
            json!({ "text": null }),
            r#"identity: expected an object with one key, found {"text":null}"#,
        ),
        (
            json!({ "text": 5 }),
            "identity.text: expected a string, found 5",
        ),
        (
            json!(["text"]),
            r#"identity: expected a text, found ["text"]"#,
        ),
    ] {
        let error = client(json!({ "identity": document })).expect_err("invalid");
        assert!(error.msg.ends_with(problem), "{document}: {error}");
    }
}

#[test]
fn a_list_is_no_struct() {
    let error = read(json!({ "ipam": ["/run/x", []] })).unwrap_err();
    let problem = r#"ipam: expected an object, found ["/run/x",[]]"#;
    assert!(error.msg.ends_with(problem), "{error}");
}

#[test]
fn an_address_that_is_none_is_in_the_error() {
    let error = client(json!({ "identity": "name", "servers": ["10.0.0.0/8"] })).unwrap_err();
    let problem = r#"servers[0]: expected an IPv4 address, found "10.0.0.0/8""#;
    assert!(error.msg.ends_with(problem), "{error}");
}
