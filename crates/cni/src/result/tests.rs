use proptest::collection::vec;
use proptest::option;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::error::code;
use crate::version::Version;

/// A result in which every field is set.
fn full() -> CniResult {
    let unknown = |key: &str| {
        json!({ key: { "kept": true } })
            .as_object()
            .unwrap()
            .clone()
    };
    CniResult {
        interfaces: vec![
            Interface {
                name: "eth1".into(),
                mac: "52:54:00:00:00:01".into(),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                mac: "02:00:00:00:00:01".into(),
                mtu: Some(1400),
                sandbox: "/run/netns/c1".into(),
                socket_path: "/run/vhost/1".into(),
                pci_id: "0000:00:1f.6".into(),
                extra: unknown("metadata"),
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(1),
                gateway: Some("10.99.0.1".parse().unwrap()),
                extra: unknown("label"),
                ..IpConfig::new("10.99.0.7/24".parse().unwrap())
            },
            IpConfig {
                interface: Some(1),
                ..IpConfig::new("10.99.0.8/24".parse().unwrap())
            },
            IpConfig {
                interface: Some(1),
                ..IpConfig::new("2001:db8::7/64".parse().unwrap())
            },
        ],
        routes: vec![
            Route {
                gw: Some("10.99.0.1".parse().unwrap()),
                ..Route::new("0.0.0.0/0".parse().unwrap())
            },
            Route {
                mtu: Some(1300),
                advmss: Some(1260),
                priority: Some(100),
                table: Some(0),
                scope: Some(253),
                extra: unknown("proto"),
                ..Route::new("2001:db8:1::/48".parse().unwrap())
            },
        ],
        dns: Dns {
            nameservers: vec!["10.99.0.1".into()],
            domain: "lan".into(),
            search: vec!["lan".into(), "example.org".into()],
            options: vec!["ndots:2".into()],
            extra: unknown("port"),
        },
        extra: unknown("vendor"),
    }
}

/// `dns` of [`full`], which every version writes alike.
fn golden_dns() -> Value {
    json!({
        "nameservers": ["10.99.0.1"], "domain": "lan", "search": ["lan", "example.org"], "options": ["ndots:2"],
        "port": { "kept": true },
    })
}

fn golden_by_family(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "ip4": {
            "ip": "10.99.0.7/24", "gateway": "10.99.0.1", "label": { "kept": true },
            "routes": [{ "dst": "0.0.0.0/0", "gw": "10.99.0.1" }],
        },
        "ip6": { "ip": "2001:db8::7/64", "routes": [{ "dst": "2001:db8:1::/48", "proto": { "kept": true } }] },
        "dns": golden_dns(),
        "vendor": { "kept": true },
    })
}

fn golden_with_ip_version(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": [
            { "name": "eth1", "mac": "52:54:00:00:00:01" },
            { "name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/c1", "metadata": { "kept": true } },
        ],
        "ips": [
            {
                "version": "4", "address": "10.99.0.7/24", "gateway": "10.99.0.1", "interface": 1,
                "label": { "kept": true },
            },
            { "version": "4", "address": "10.99.0.8/24", "interface": 1 },
            { "version": "6", "address": "2001:db8::7/64", "interface": 1 },
        ],
        "routes": [
            { "dst": "0.0.0.0/0", "gw": "10.99.0.1" },
            { "dst": "2001:db8:1::/48", "proto": { "kept": true } },
        ],
        "dns": golden_dns(),
        "vendor": { "kept": true },
    })
}

fn golden_1_0_0() -> Value {
    let mut document = golden_with_ip_version("1.0.0");
    for ip in document["ips"].as_array_mut().unwrap() {
        ip.as_object_mut().unwrap().remove("version");
    }
    document
}

fn golden_1_1_0() -> Value {
    let mut document = golden_1_0_0();
    document["cniVersion"] = "1.1.0".into();
    document["interfaces"][1] = json!({
        "name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1400, "sandbox": "/run/netns/c1",
        "socketPath": "/run/vhost/1", "pciID": "0000:00:1f.6", "metadata": { "kept": true },
    });
    document["routes"][1] = json!({
        "dst": "2001:db8:1::/48", "mtu": 1300, "advmss": 1260, "priority": 100, "table": 0, "scope": 253,
        "proto": { "kept": true },
    });
    document
}

#[test]
fn a_result_is_written_and_read_in_the_format_of_every_version() {
    let golden = |version: Version| match version {
        Version::V0_1_0 | Version::V0_2_0 => golden_by_family(version.as_str()),
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => {
            golden_with_ip_version(version.as_str())
        }
        Version::V1_0_0 => golden_1_0_0(),
        Version::V1_1_0 => golden_1_1_0(),
    };
    for version in Version::ALL {
        assert_eq!(full().to_value(version), golden(version), "as {version}");
        let read = CniResult::from_value(golden(version), Version::LATEST).unwrap();
        assert_eq!(read, expressible_in(full(), version), "from {version}");
    }
}

#[test]
fn a_calling_plugin_gets_route_metrics_in_every_version() {
    for version in Version::ALL
        .into_iter()
        .filter(|version| version.has_lists())
    {
        let document = full().to_value_for_caller(version);
        assert_eq!(document["cniVersion"], version.as_str());
        assert_eq!(document["routes"][1]["priority"], 100, "{document}");
        assert_eq!(CniResult::from_value(document, version).unwrap(), full());
    }
}

#[test]
fn an_empty_result_is_written_as_a_version_and_before_1_0_0_an_empty_dns() {
    let written = |version| CniResult::default().to_value(version);
    assert_eq!(written(Version::V1_1_0), json!({ "cniVersion": "1.1.0" }));
    assert_eq!(written(Version::V1_0_0), json!({ "cniVersion": "1.0.0" }));
    assert_eq!(
        written(Version::V0_4_0),
        json!({ "cniVersion": "0.4.0", "dns": {} })
    );
}

#[test]
fn a_result_without_an_address_is_empty_before_0_3_0() {
    let l2_only = CniResult {
        interfaces: full().interfaces,
        ..CniResult::default()
    };
    assert_eq!(
        l2_only.to_value(Version::V0_2_0),
        json!({ "cniVersion": "0.2.0", "dns": {} })
    );
}

#[test]
fn a_result_without_a_known_version_is_read_in_the_default_one() {
    for version in [json!(null), json!(""), json!("2.0.0")] {
        let old = json!({ "cniVersion": version, "ip4": { "ip": "10.0.0.2/24" } });
        let new = json!({ "cniVersion": version, "ips": [{ "address": "10.0.0.2/24" }] });
        assert_eq!(
            CniResult::from_value(old, Version::V0_1_0)
                .unwrap()
                .ips
                .len(),
            1
        );
        assert_eq!(
            CniResult::from_value(new, Version::V1_0_0)
                .unwrap()
                .ips
                .len(),
            1
        );
    }
}

#[test]
fn fields_of_1_1_0_are_read_in_a_document_of_1_0_0_but_not_written_to_one() {
    let document = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "mtu": 1400 }],
        "routes": [{ "dst": "0.0.0.0/0", "priority": 5 }],
    });
    let result = CniResult::from_value(document, Version::LATEST).unwrap();
    assert_eq!(
        (result.interfaces[0].mtu, result.routes[0].priority),
        (Some(1400), Some(5))
    );
    let again = result.to_value(Version::V1_0_0);
    assert_eq!(again["interfaces"][0], json!({ "name": "eth0" }));
    assert_eq!(again["routes"][0], json!({ "dst": "0.0.0.0/0" }));
}

#[test]
fn null_empty_text_and_zero_count_as_absent() {
    let document = json!({
        "cniVersion": "0.4.0", "interfaces": null, "dns": null,
        "ips": [{ "version": "4", "address": "10.0.0.2/24", "gateway": "", "interface": null }],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "", "mtu": 0, "advmss": 0, "priority": 0 }],
    });
    let result = CniResult::from_value(document, Version::LATEST).unwrap();
    assert_eq!(result.ips, [IpConfig::new("10.0.0.2/24".parse().unwrap())]);
    assert_eq!(result.routes, [Route::new("0.0.0.0/0".parse().unwrap())]);
}

#[test]
fn keys_match_in_any_case() {
    let document = json!({ "cniVersion": "1.1.0", "IPs": [{ "Address": "10.0.0.2/24" }], "DNS": { "Domain": "lan" } });
    let result = CniResult::from_value(document, Version::LATEST).unwrap();
    assert_eq!((result.ips.len(), result.dns.domain.as_str()), (1, "lan"));
    assert!(result.extra.is_empty());
}

#[test]
fn keys_of_another_version_are_not_kept_as_unknown_fields() {
    let document = json!({ "cniVersion": "1.0.0", "ip4": { "ip": "10.9.9.9/8" }, "ips": [{ "address": "10.0.0.2/24" }] });
    let result = CniResult::from_value(document, Version::LATEST).unwrap();
    let written = result.to_value(Version::V0_2_0);
    assert_eq!(written["ip4"], json!({ "ip": "10.0.0.2/24" }));
}

#[test]
fn an_error_names_the_field_by_its_path() {
    let cases = [
        (json!([]), "expected an object, found []"),
        (json!({ "ips": {} }), "ips: expected a list, found {}"),
        (json!({ "ips": [{}] }), "ips[0].address: is missing"),
        (
            json!({ "ips": [{ "address": "10.0.0.1" }] }),
            "ips[0].address: \"10.0.0.1\": invalid IP address syntax",
        ),
        (
            json!({ "interfaces": [{}, { "name": 5 }] }),
            "interfaces[1].name: expected a string, found 5",
        ),
        (
            json!({ "interfaces": [{ "mtu": -1 }] }),
            "interfaces[0].mtu: expected a whole number in range, found -1",
        ),
        (
            json!({ "routes": [{ "dst": "::/0", "scope": 256 }] }),
            "routes[0].scope: expected a whole number in range, found 256",
        ),
        (
            json!({ "dns": { "search": ["a", null] } }),
            "dns.search[1]: expected a string, found null",
        ),
        (
            json!({ "cniVersion": "0.2.0", "ip6": { "ip": "x" } }),
            "ip6.ip: \"x\": invalid IP address syntax",
        ),
    ];
    for (document, expected) in cases {
        let error = CniResult::from_value(document.clone(), Version::LATEST).unwrap_err();
        assert_eq!(error.code, code::DECODING_FAILURE);
        assert_eq!(
            error.msg,
            format!("invalid CNI result: {expected}"),
            "{document}"
        );
    }
}

proptest! {
    /// Writing any result in any version and reading it again keeps all that the version can
    /// express.
    #[test]
    fn conversion_loses_only_what_the_version_cannot_express(result in any_result()) {
        for version in Version::ALL {
            let document = result.to_value(version);
            let back = CniResult::from_value(document, Version::LATEST).unwrap();
            let expected = expressible_in(result.clone(), version);
            prop_assert_eq!(back, expected, "through {}", version);
        }
    }

    /// A document that was written once is the same after it is read and written again.
    #[test]
    fn reading_and_writing_again_changes_nothing(
        result in any_result(),
        from in any_version(),
        to in any_version(),
    ) {
        let document = result.to_value(from);
        let read = CniResult::from_value(document.clone(), Version::LATEST).unwrap();
        prop_assert_eq!(read.to_value(from), document);
        let converted = read.to_value(to);
            let again = CniResult::from_value(converted.clone(), Version::LATEST).unwrap();
            prop_assert_eq!(again.to_value(to), converted);
    }
}

/// What a version can express of a result. Follows the specification's text, not the code.
fn expressible_in(mut result: CniResult, version: Version) -> CniResult {
    if version < Version::V1_1_0 {
        for interface in &mut result.interfaces {
            *interface = Interface {
                mtu: None,
                socket_path: String::new(),
                pci_id: String::new(),
                ..interface.clone()
            };
        }
        for route in &mut result.routes {
            *route = Route {
                gw: route.gw,
                extra: route.extra.clone(),
                ..Route::new(route.dst)
            };
        }
    }
    if version < Version::V0_3_0 {
        result.interfaces.clear();
        let family = |v4: bool| {
            result
                .ips
                .iter()
                .find(|ip| ip.address.addr().is_ipv4() == v4)
                .cloned()
        };
        let ips: Vec<IpConfig> = [family(true), family(false)]
            .into_iter()
            .flatten()
            .collect();
        let has = |v4: bool| ips.iter().any(|ip| ip.address.addr().is_ipv4() == v4);
        let routes = |v4: bool| {
            result
                .routes
                .iter()
                .filter(move |route| route.dst.addr().is_ipv4() == v4)
                .cloned()
        };
        result.routes = [true, false]
            .into_iter()
            .filter(|v4| has(*v4))
            .flat_map(routes)
            .collect();
        result.ips = ips
            .into_iter()
            .map(|ip| IpConfig {
                interface: None,
                ..ip
            })
            .collect();
    }
    result
}

fn any_version() -> impl Strategy<Value = Version> {
    (0..Version::ALL.len()).prop_map(|i| Version::ALL[i])
}

fn any_result() -> impl Strategy<Value = CniResult> {
    let parts = (
        vec(any_interface(), 0..3),
        vec(any_ip_config(), 0..4),
        vec(any_route(), 0..4),
        any_dns(),
        any_extra(),
    );
    parts.prop_map(|(interfaces, ips, routes, dns, extra)| CniResult {
        interfaces,
        ips,
        routes,
        dns,
        extra,
    })
}

fn any_interface() -> impl Strategy<Value = Interface> {
    let texts = (any_text(), any_text(), any_text(), any_text(), any_text());
    (texts, option::of(1..=u32::MAX), any_extra()).prop_map(
        |((name, mac, sandbox, socket_path, pci_id), mtu, extra)| Interface {
            name,
            mac,
            mtu,
            sandbox,
            socket_path,
            pci_id,
            extra,
        },
    )
}

fn any_ip_config() -> impl Strategy<Value = IpConfig> {
    (
        option::of(0..9usize),
        any_net(),
        option::of(any::<IpAddr>()),
        any_extra(),
    )
        .prop_map(|(interface, address, gateway, extra)| IpConfig {
            interface,
            gateway,
            extra,
            ..IpConfig::new(address)
        })
}

fn any_route() -> impl Strategy<Value = Route> {
    let numbers = (
        option::of(1..=u32::MAX),
        option::of(1..=u32::MAX),
        option::of(1..=u32::MAX),
    );
    let more = (option::of(any::<u32>()), option::of(any::<u8>()));
    (
        any_net(),
        option::of(any::<IpAddr>()),
        numbers,
        more,
        any_extra(),
    )
        .prop_map(
            |(dst, gw, (mtu, advmss, priority), (table, scope), extra)| Route {
                dst,
                gw,
                mtu,
                advmss,
                priority,
                table,
                scope,
                extra,
            },
        )
}

fn any_dns() -> impl Strategy<Value = Dns> {
    (
        vec(any_text(), 0..3),
        any_text(),
        vec(any_text(), 0..3),
        vec(any_text(), 0..3),
        any_extra(),
    )
        .prop_map(|(nameservers, domain, search, options, extra)| Dns {
            nameservers,
            domain,
            search,
            options,
            extra,
        })
}

fn any_net() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), 0..=128u8).prop_map(|(address, len)| {
        let max = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, len.min(max)).unwrap()
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z0-9:./]{1,12}", any::<String>()]
}

/// Unknown fields: names that no version uses, values of any shape.
fn any_extra() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..3).prop_map(Value::from),
        any::<bool>().prop_map(|flag| json!({ "name": flag, "ips": [null] })),
        Just(Value::Null),
    ];
    vec(("x-[a-z]{1,4}", value), 0..3).prop_map(|entries| entries.into_iter().collect())
}
