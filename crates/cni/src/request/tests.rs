use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::*;

const CONFIG: &[u8] =
    br#"{ "cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "prevResult": {} }"#;

/// A complete environment in which the given variables are changed. An empty value removes one.
fn env(changes: &[(&str, &str)]) -> Env {
    let complete = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    complete.iter().chain(changes).copied().collect()
}

fn parse(changes: &[(&str, &str)]) -> Result<Request, Error> {
    Request::parse(&env(changes), CONFIG, KnownArgs::Only(&["MAC"]))
}

#[test]
fn all_variables_of_an_invocation_are_read() {
    let request = parse(&[
        ("CNI_ARGS", "MAC=02:00:00:00:00:01"),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni::/opt/cni/bin"),
        ("CNI_NETNS_OVERRIDE", "TRUE"),
        (
            "TRACEPARENT",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ])
    .unwrap();
    assert_eq!(request.verb, Verb::Add);
    assert_eq!(
        request.attachment().unwrap(),
        &Attachment::new("c1", "lan", "eth0").unwrap()
    );
    assert_eq!(request.netns, Some("/run/netns/c1".into()));
    assert!(request.netns_override);
    assert_eq!(request.args.get("MAC"), Some("02:00:00:00:00:01"));
    assert_eq!(
        request.path,
        [PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")]
    );
    assert!(request.traceparent.unwrap().ends_with("-01"));
    assert_eq!(request.stdin, CONFIG);
}

#[test]
fn an_error_names_all_missing_variables_that_the_verb_requires() {
    let nothing = [
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
        ("CNI_PATH", ""),
    ];
    for (verb, missing) in [
        ("ADD", Some("CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME")),
        ("CHECK", Some("CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME")),
        ("DEL", Some("CNI_CONTAINERID, CNI_IFNAME")),
        ("GC", None),
        ("STATUS", None),
    ] {
        let mut changes = nothing.to_vec();
        changes.push(("CNI_COMMAND", verb));
        match (parse(&changes), missing) {
            (Ok(_), None) => {}
            (Err(error), Some(missing)) => {
                assert_eq!(error.code, code::INVALID_ENVIRONMENT);
                assert_eq!(error.msg, format!("missing for {verb}: {missing}"));
            }
            (other, _) => panic!("{verb}: {other:?}"),
        }
    }
}

#[test]
fn an_unknown_or_absent_command_is_refused() {
    for (command, text) in [
        ("FOO", "unknown CNI_COMMAND \"FOO\""),
        ("add", "\"add\""),
        ("", "missing: CNI_COMMAND"),
    ] {
        let error = parse(&[("CNI_COMMAND", command)]).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
        assert!(error.msg.contains(text), "{error}");
    }
}

#[test]
fn all_invalid_variables_are_named_in_one_message() {
    let error = parse(&[
        ("CNI_CONTAINERID", "../c1"),
        ("CNI_IFNAME", "a-name-of-sixteen"),
    ])
    .unwrap_err();
    assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    assert!(
        error
            .msg
            .contains("CNI_CONTAINERID \"../c1\" starts with '.'"),
        "{error}"
    );
    assert!(
        error
            .msg
            .contains("CNI_IFNAME \"a-name-of-sixteen\" is longer than 15 bytes"),
        "{error}"
    );
}

#[test]
fn a_variable_that_is_not_utf8_is_refused_by_name() {
    let mut variables: Vec<(OsString, OsString)> = env(&[])
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    variables.push(("CNI_ARGS".into(), OsString::from_vec(b"MAC=\xff".to_vec())));
    let error =
        Request::parse(&variables.into_iter().collect(), CONFIG, KnownArgs::Any).unwrap_err();
    assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    assert!(error.msg.starts_with("CNI_ARGS"), "{error}");
}

#[test]
fn variables_that_the_verb_does_not_use_may_be_invalid() {
    // Podman sets them to "dummy" for VERSION, so other runtimes may set them to anything for
    // STATUS.
    let request = parse(&[
        ("CNI_COMMAND", "STATUS"),
        ("CNI_IFNAME", "not/a/name"),
        ("CNI_CONTAINERID", "?"),
    ])
    .unwrap();
    assert_eq!(request.attachment, None);
    assert_eq!(request.attachment().unwrap_err().code, code::INTERNAL);
}

#[test]
fn del_is_accepted_without_a_namespace_and_with_unknown_args() {
    let request = parse(&[
        ("CNI_COMMAND", "DEL"),
        ("CNI_NETNS", ""),
        ("CNI_ARGS", "FOO=1"),
    ])
    .unwrap();
    assert_eq!(request.netns, None);
    for verb in ["ADD", "CHECK"] {
        parse(&[("CNI_COMMAND", verb), ("CNI_ARGS", "FOO=1")]).unwrap_err();
        parse(&[("CNI_COMMAND", verb), ("CNI_ARGS", "FOO=1;IgnoreUnknown=1")]).unwrap();
    }
}

#[test]
fn del_works_with_what_it_can_read_of_cni_args() {
    for (args, mac) in [
        ("MAC", None),
        ("=x", None),
        ("a;MAC=02:00:00:00:00:01;b=c", Some("02:00:00:00:00:01")),
    ] {
        let request = parse(&[("CNI_COMMAND", "DEL"), ("CNI_ARGS", args)]).unwrap();
        assert_eq!(request.args.get("MAC"), mac, "{args}");
        assert!(
            request.warnings[0].starts_with("invalid CNI_ARGS: "),
            "{:?}",
            request.warnings
        );
        let error = parse(&[("CNI_ARGS", args)]).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT, "ADD refuses {args}");
    }
    let not_utf8 = OsString::from_vec(b"\xff;MAC=x".to_vec());
    let del = env(&[("CNI_COMMAND", "DEL")]);
    let variables = del.iter().chain([("CNI_ARGS".as_ref(), not_utf8.as_ref())]);
    let env: Env = variables.collect();
    let request = Request::parse(&env, CONFIG, KnownArgs::Any).unwrap();
    assert_eq!(request.args.get("MAC"), Some("x"));
}

#[test]
fn del_works_with_what_it_can_read_of_the_configuration() {
    let config = br#"{
        "cniVersion": "1.1.0", "name": "lan", "type": 1, "ipam": "none", "dns": [], "args": [],
        "runtimeConfig": "x", "prevResult": 5
    }"#;
    let parse = |verb: &str, config: &[u8]| {
        Request::parse(&env(&[("CNI_COMMAND", verb)]), config, KnownArgs::Any)
    };
    let request = parse("DEL", config).unwrap();
    assert_eq!(request.warnings.len(), 6, "{:?}", request.warnings);
    assert_eq!(
        (request.config.prev_result, request.config.ipam),
        (None, None)
    );
    for (field, value) in [("args", "5"), ("args", r#"{ "cni": 5 }"#), ("ipam", "[]")] {
        let config = format!(r#"{{ "cniVersion": "1.1.0", "name": "lan", "{field}": {value} }}"#);
        parse("DEL", config.as_bytes()).unwrap();
        let error = parse("ADD", config.as_bytes()).unwrap_err();
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG, "{error}");
        assert!(error.msg.contains(field), "{error}");
    }
}

#[test]
fn only_gc_gets_the_list_of_valid_attachments() {
    let config = br#"{ "cniVersion": "1.1.0", "name": "lan", "cni.dev/valid-attachments": [] }"#;
    let parse =
        |verb| Request::parse(&env(&[("CNI_COMMAND", verb)]), config, KnownArgs::Any).unwrap();
    assert_eq!(parse("GC").valid_attachments, Some(BTreeSet::new()));
    assert_eq!(parse("ADD").valid_attachments, None);
}

#[test]
fn invalid_json_is_reported_with_line_and_column() {
    for (stdin, text) in [
        (&b""[..], "no network configuration on stdin"),
        (b" \n", "no network configuration on stdin"),
        (b"[]", "not a JSON object"),
        (b"{\n  \"name\": lan\n}", "at line 2 column"),
        (b"{} {}", "trailing characters at line 1 column 4"),
        (b"{\"name\": \"\xff\"}", "not valid JSON"),
    ] {
        let error = Request::parse(&env(&[]), stdin, KnownArgs::Any).unwrap_err();
        assert_eq!(error.code, code::DECODING_FAILURE);
        assert!(error.msg.contains(text), "{error}");
    }
}

#[test]
fn a_malformed_traceparent_is_dropped() {
    for text in ["x\ny", "00-abc\u{1b}[31m", &"a".repeat(300)] {
        assert_eq!(
            parse(&[("TRACEPARENT", text)]).unwrap().traceparent,
            None,
            "{text:?}"
        );
    }
}
