use std::cell::RefCell;

use super::*;
use crate::request::KnownArgs;
use crate::result::{CniResult, Interface, IpConfig, Route};

/// A plugin that answers ADD from a function and records its calls.
struct Fake {
    add: fn(&Request) -> Result<CniResult, Error>,
    calls: RefCell<Vec<&'static str>>,
}

impl Fake {
    fn new(add: fn(&Request) -> Result<CniResult, Error>) -> Fake {
        Fake {
            add,
            calls: RefCell::default(),
        }
    }

    fn record(&self, verb: &'static str) -> Result<(), Error> {
        self.calls.borrow_mut().push(verb);
        Ok(())
    }
}

impl Plugin for Fake {
    fn about(&self) -> About {
        About {
            name: "fake",
            version: "1.2.3",
            summary: "does nothing",
            usage: "More about it.\n",
            known_args: KnownArgs::Only(&["MAC"]),
        }
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        self.record("ADD")?;
        (self.add)(request)
    }

    fn on_committed(&self, _: &Request) {
        self.calls.borrow_mut().push("committed");
    }

    fn check(&self, _: &Request) -> Result<(), Error> {
        self.record("CHECK")
    }

    fn del(&self, _: &Request) -> Result<(), Error> {
        self.record("DEL")
    }

    fn status(&self, _: &Request) -> Result<(), Error> {
        self.record("STATUS")?;
        Err(Error::new(code::PLUGIN_NOT_AVAILABLE, "no free address"))
    }

    fn gc(&self, _: &Request) -> Result<(), Error> {
        self.record("GC")
    }
}

/// The outcome of one invocation.
struct Outcome {
    status: u8,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The one document on stdout.
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }
}

fn invoke(plugin: &Fake, verb: &str, stdin: &[u8]) -> Outcome {
    let env = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
    ];
    invoke_in(plugin, &env.into_iter().collect(), stdin)
}

fn invoke_in(plugin: &Fake, env: &Env, stdin: &[u8]) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = run(plugin, env, stdin, &mut stdout, &mut stderr);
    Outcome {
        status,
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// A stream whose reader has closed it.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn config(version: &str) -> Vec<u8> {
    json!({ "cniVersion": version, "name": "lan", "type": "fake", "prevResult": {} })
        .to_string()
        .into_bytes()
}

fn l2_only(_: &Request) -> Result<CniResult, Error> {
    Ok(CniResult {
        interfaces: vec![Interface {
            name: "eth0".into(),
            ..Interface::default()
        }],
        ..CniResult::default()
    })
}

fn with_ip(_: &Request) -> Result<CniResult, Error> {
    Ok(CniResult {
        ips: vec![IpConfig::new("10.0.0.2/24".parse().unwrap())],
        ..CniResult::default()
    })
}

#[test]
fn on_committed_is_called_after_a_successful_add_but_not_after_a_failed_one() {
    let fake = Fake::new(with_ip);
    invoke(&fake, "ADD", &config("1.0.0"));
    assert_eq!(*fake.calls.borrow(), ["ADD", "committed"]);
    let fake = Fake::new(|_| Err(Error::new(code::TRY_AGAIN_LATER, "not now")));
    invoke(&fake, "ADD", &config("1.0.0"));
    assert_eq!(*fake.calls.borrow(), ["ADD"]);
}

#[test]
fn an_add_whose_result_cannot_be_written_is_undone() {
    let fake = Fake::new(with_ip);
    let env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/n"),
        ("CNI_IFNAME", "eth0"),
    ];
    let stdin = config("1.0.0");
    let status = run(
        &fake,
        &env.into_iter().collect(),
        stdin.as_slice(),
        Closed,
        io::sink(),
    );
    assert_eq!(
        (status, fake.calls.borrow().as_slice()),
        (FAILURE, ["ADD", "DEL"].as_slice())
    );
}

#[test]
fn add_answers_in_the_version_of_the_configuration() {
    for version in Version::ALL {
        let outcome = invoke(&Fake::new(with_ip), "ADD", &config(version.as_str()));
        assert_eq!(
            (outcome.status, outcome.document()["cniVersion"].as_str()),
            (0, Some(version.as_str()))
        );
    }
    let document = invoke(&Fake::new(with_ip), "ADD", br#"{ "name": "lan" }"#).document();
    assert_eq!(
        document,
        json!({ "cniVersion": "0.1.0", "ip4": { "ip": "10.0.0.2/24" }, "dns": {} })
    );
}

#[test]
fn a_delegating_plugin_gets_the_route_fields_of_every_version() {
    fn with_route(_: &Request) -> Result<CniResult, Error> {
        let mut route = Route::new("10.1.0.0/16".parse().unwrap());
        route.mtu = Some(1400);
        Ok(CniResult {
            routes: vec![route],
            ..CniResult::default()
        })
    }
    for (plugin_type, mtu) in [("fake", None), ("bridge", Some(1400))] {
        let config = json!({ "cniVersion": "1.0.0", "name": "lan", "type": plugin_type });
        let config = config.to_string().into_bytes();
        let document = invoke(&Fake::new(with_route), "ADD", &config).document();
        assert_eq!(document["routes"][0]["mtu"].as_u64(), mtu, "{plugin_type}");
    }
}

#[test]
fn verbs_without_a_result_print_nothing_when_they_succeed() {
    for verb in ["CHECK", "DEL", "GC"] {
        let plugin = Fake::new(l2_only);
        let outcome = invoke(&plugin, verb, &config("1.1.0"));
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
        assert_eq!(*plugin.calls.borrow(), [verb]);
    }
}

#[test]
fn the_error_of_a_plugin_is_written_to_stdout() {
    let outcome = invoke(&Fake::new(l2_only), "STATUS", &config("1.1.0"));
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.document(),
        json!({ "cniVersion": "1.1.0", "code": 50, "msg": "no free address" })
    );
}

#[test]
fn an_error_has_the_version_of_the_configuration_or_the_latest_if_that_is_unknown() {
    let version = |verb: &str, stdin: &[u8]| {
        let outcome = invoke(&Fake::new(l2_only), verb, stdin);
        assert_eq!(outcome.status, 1);
        outcome.document()["cniVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(version("ADD", br#"{ "cniVersion": "0.4.0" }"#), "0.4.0");
    assert_eq!(
        version("GC", br#"{ "cniVersion": "1.0.0", "name": "lan" }"#),
        "1.0.0"
    );
    assert_eq!(
        version("FOO", br#"{ "cniVersion": "0.3.1", "name": "lan" }"#),
        "0.3.1"
    );
    assert_eq!(version("ADD", b"{}"), "0.1.0");
    assert_eq!(version("ADD", b"no JSON"), "1.1.0");
    assert_eq!(version("ADD", br#"{ "cniVersion": "9.0.0" }"#), "1.1.0");
}

#[test]
fn a_panic_of_the_plugin_becomes_an_error_document() {
    let outcome = invoke(
        &Fake::new(|_| panic!("index {} out of {}", 3, 2)),
        "ADD",
        &config("0.4.0"),
    );
    assert_eq!(outcome.status, 1);
    let document = outcome.document();
    assert_eq!(
        (&document["cniVersion"], &document["code"]),
        (&json!("0.4.0"), &json!(code::INTERNAL))
    );
    assert_eq!(document["msg"], "fake panicked: index 3 out of 2");
}

#[test]
fn version_is_answered_in_the_version_that_stdin_names() {
    for (stdin, version) in [
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (
            r#"{"cniVersion":"1.0.0"} and what follows is not read"#,
            "1.0.0",
        ),
        (r#"{"cniVersion":"2.0.0"}"#, "2.0.0"),
        (r#"{"cniVersion":""}"#, "1.1.0"),
        ("{}", "1.1.0"),
        ("", "1.1.0"),
    ] {
        // The environment that Podman sets.
        let env = [
            ("CNI_COMMAND", "VERSION"),
            ("CNI_NETNS", "dummy"),
            ("CNI_IFNAME", "dummy"),
            ("CNI_PATH", "dummy"),
        ];
        let outcome = invoke_in(
            &Fake::new(l2_only),
            &env.into_iter().collect(),
            stdin.as_bytes(),
        );
        let supported = [
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
        ];
        assert_eq!(
            outcome.document(),
            json!({ "cniVersion": version, "supportedVersions": supported })
        );
        assert_eq!(outcome.status, 0);
    }
    assert_eq!(
        invoke(&Fake::new(l2_only), "VERSION", b"{ no").document()["code"],
        code::DECODING_FAILURE
    );
}

#[test]
fn stdin_beyond_the_limit_is_refused() {
    let mut stdin = config("1.0.0");
    stdin.resize(MAX_STDIN, b' ');
    assert_eq!(invoke(&Fake::new(with_ip), "ADD", &stdin).status, 0);
    stdin.push(b' ');
    let document = invoke(&Fake::new(with_ip), "ADD", &stdin).document();
    assert_eq!(document["code"], code::IO_FAILURE);
}

#[test]
fn an_unreadable_stdin_is_an_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let env = [("CNI_COMMAND", "STATUS")].into_iter().collect();
    let mut stdout = Vec::new();
    assert_eq!(
        run(&Fake::new(l2_only), &env, Broken, &mut stdout, io::sink()),
        1
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&stdout).unwrap()["code"],
        code::IO_FAILURE
    );
}

#[test]
fn only_a_closed_stdout_and_not_a_closed_stderr_makes_the_plugin_fail() {
    let env: Env = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
    ]
    .into_iter()
    .collect();
    let stdin = br#"{ "cniVersion": "1.0.0", "name": "lan", "prevResult": 5 }"#;
    assert_eq!(
        run(&Fake::new(l2_only), &env, &stdin[..], Vec::new(), Closed),
        0
    );
    assert_eq!(
        run(
            &Fake::new(l2_only),
            &Env::default(),
            io::empty(),
            Vec::new(),
            Closed
        ),
        0
    );
    assert_eq!(
        run(
            &Fake::new(l2_only),
            &[("CNI_COMMAND", "VERSION")].into_iter().collect(),
            io::empty(),
            Closed,
            Closed
        ),
        1
    );
}

#[test]
fn warnings_go_to_stderr() {
    let outcome = invoke(
        &Fake::new(l2_only),
        "DEL",
        br#"{ "cniVersion": "1.0.0", "name": "lan", "prevResult": 5 }"#,
    );
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
    assert!(
        outcome.stderr.starts_with("fake: ignored: prevResult"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_error_has_the_warnings_that_were_written_before_it() {
    let fails = Fake::new(|_| {
        warnings::keep("eth0 has no carrier".to_owned());
        Err(Error::new(code::TRY_AGAIN_LATER, "not now").details("try again"))
    });
    let outcome = invoke(&fails, "ADD", &config("1.0.0"));
    let document = outcome.document();
    assert_eq!(
        document["details"], "try again; warning: eth0 has no carrier",
        "{document}"
    );
}

#[test]
fn a_plugin_run_by_hand_describes_itself_on_stderr() {
    let env = [("HOME", "/root"), ("CNI_PATH", "/opt/cni/bin")]
        .into_iter()
        .collect();
    let outcome = invoke_in(&Fake::new(l2_only), &env, b"");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
    for text in [
        "fake 1.2.3: does nothing\n",
        "CNI protocol versions supported: 0.1.0, ",
        "1.1.0\n",
        "\nMore about it.\n",
    ] {
        assert!(outcome.stderr.contains(text), "{}", outcome.stderr);
    }
}

#[test]
fn a_missing_command_is_an_error_if_other_cni_variables_are_set() {
    let env = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")]
        .into_iter()
        .collect();
    let outcome = invoke_in(&Fake::new(l2_only), &env, &config("1.0.0"));
    assert_eq!(
        (outcome.status, &outcome.document()["code"]),
        (1, &json!(code::INVALID_ENVIRONMENT))
    );
    assert!(
        outcome.document()["msg"]
            .as_str()
            .unwrap()
            .contains("CNI_COMMAND")
    );
}

#[test]
fn help_and_version_go_to_stdout_and_an_unknown_argument_is_refused() {
    let ask = |argument: &str| {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = by_hand(
            &Fake::new(l2_only).about(),
            OsStr::new(argument),
            &mut stdout,
            &mut stderr,
        );
        (
            status,
            String::from_utf8(stdout).unwrap(),
            String::from_utf8(stderr).unwrap(),
        )
    };
    assert_eq!(ask("--version"), (0, "fake 1.2.3\n".into(), String::new()));
    let (status, stdout, stderr) = ask("--help");
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains("CNI_COMMAND=VERSION fake"), "{stdout}");
    let (status, stdout, stderr) = ask("serve");
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(stderr.contains("\"serve\""), "{stderr}");
}
