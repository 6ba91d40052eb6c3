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
