use std::ffi::OsStr;
use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::request::{Env, KnownArgs};
use crate::version::Version;

/// A folder with one delegate: a shell script that logs how it was called and then runs `body`.
struct Lab {
    folder: TempDir,
    stdin: Vec<u8>,
}

impl Lab {
    fn new(body: &str) -> Lab {
        let lab = Lab {
            folder: TempDir::new().unwrap(),
            stdin:
                br#"{ "cniVersion": "1.1.0", "name": "lan", "ipam": { "type": "pool" }, "prevResult": {} }"#
                    .to_vec(),
        };
        let script = format!(
            "#!/bin/sh\nfolder={}\necho \"$CNI_COMMAND $CNI_CONTAINERID ${{HOME-no home}}\" >> $folder/log\n\
             cat > $folder/stdin\n{body}\n",
            lab.path().display()
        );
        lab.put("pool", &script, 0o755);
        lab
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        let file = self.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn request(&self, verb: &str, path: &OsStr) -> Request {
        let env: Env = [
            (OsStr::new("CNI_COMMAND"), OsStr::new(verb)),
            (OsStr::new("CNI_CONTAINERID"), OsStr::new("c1")),
            (OsStr::new("CNI_NETNS"), OsStr::new("/run/netns/c1")),
            (OsStr::new("CNI_IFNAME"), OsStr::new("eth0")),
            (OsStr::new("CNI_PATH"), path),
            (OsStr::new("PATH"), &std::env::var_os("PATH").unwrap()),
        ]
        .into_iter()
        .collect();
        Request::parse(&env, &self.stdin, KnownArgs::Any).unwrap()
    }

    fn add(&self) -> Result<CniResult, Error> {
        let request = self.request("ADD", self.path().as_os_str());
        let ipam = Ipam::find(&request)?.unwrap();
        ipam.start_add().finish(|| drop(ipam.del()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }
}

#[test]
fn the_delegate_gets_the_environment_and_stdin_of_the_request() {
    let lab = Lab::new(
        r#"echo '{ "cniVersion": "0.4.0", "ips": [{ "version": "4", "address": "10.0.0.2/24" }] }'"#,
    );
    let result = lab.add().unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.2/24");
    // That HOME is not set shows that it is the environment of the request, not of this process.
    assert_eq!(lab.log(), "ADD c1 no home\n");
    assert_eq!(fs::read(lab.path().join("stdin")).unwrap(), lab.stdin);
}

#[test]
fn a_started_plugin_does_nothing_before_it_has_its_stdin_and_ends_with_its_caller() {
    let lab = Lab::new("echo {}; echo done >> $folder/log");
    let request = lab.request("ADD", lab.path().as_os_str());
    let ipam = Ipam::find(&request).unwrap().unwrap();

    // The script reads its stdin to the end, so one that is not killed ends like the other.
    drop(ipam.start_add());
    ipam.start_add().finish(|| unreachable!()).unwrap();
    let log = lab.log();
    assert_eq!(
        log.lines().filter(|line| *line == "done").count(),
        1,
        "{log}"
    );
}

#[test]
fn each_call_sets_cni_command_to_its_verb() {
    let lab = Lab::new("");
    let request = lab.request("DEL", lab.path().as_os_str());
    let ipam = Ipam::find(&request).unwrap().unwrap();
    for call in [Ipam::check, Ipam::del, Ipam::status, Ipam::gc] {
        call(&ipam).unwrap();
    }
    assert_eq!(
        lab.log(),
        "CHECK c1 no home\nDEL c1 no home\nSTATUS c1 no home\nGC c1 no home\n"
    );
}

#[test]
fn gc_succeeds_if_no_version_that_the_delegate_supports_has_gc() {
    let gc = |versions: &str| {
        let lab = Lab::new(&format!(
            r#"[ $CNI_COMMAND = VERSION ] && {{ echo '{versions}'; exit 0; }}
               echo '{{ "code": 3, "msg": "missing containerID" }}'; exit 1"#
        ));
        let request = lab.request("DEL", lab.path().as_os_str());
        let outcome = Ipam::find(&request).unwrap().unwrap().gc();
        (outcome, lab.log())
    };
    let refused = Err(Error::new(
        code::UNKNOWN_CONTAINER,
        "missing containerID".to_owned(),
    ));
    for (versions, expected) in [
        (r#"{ "supportedVersions": ["0.4.0", "1.0.0"] }"#, Ok(())),
        (
            r#"{ "supportedVersions": ["1.0.0", "1.1.0"] }"#,
            refused.clone(),
        ),
        (r#"{ "supportedVersions": ["1.2.0"] }"#, refused.clone()),
        (r#"{ "supportedVersions": [] }"#, refused.clone()),
        ("{}", refused.clone()),
        ("", refused.clone()),
    ] {
        let (outcome, log) = gc(versions);
        assert_eq!(outcome, expected, "{versions}");
        assert_eq!(log, "GC c1 no home\nVERSION c1 no home\n");
    }
}

#[test]
fn the_error_of_a_delegate_is_returned_unchanged_and_its_failed_add_is_undone() {
    let lab = Lab::new(
        r#"[ $CNI_COMMAND = DEL ] && { echo '{ "code": 99, "msg": "DEL failed too" }'; exit 1; }
           echo '{ "cniVersion": "1.0.0", "code": 11, "msg": "pool is full", "details": "10 of 10" }'; exit 3"#,
    );
    assert_eq!(
        lab.add(),
        Err(Error::new(code::TRY_AGAIN_LATER, "pool is full").details("10 of 10"))
    );
    assert_eq!(lab.log(), "ADD c1 no home\nDEL c1 no home\n");
}

#[test]
fn an_error_document_is_an_error_even_if_the_delegate_exits_with_zero() {
    let lab = Lab::new(r#"echo '{ "code": 11, "msg": "pool is full" }'"#);
    assert_eq!(lab.add().unwrap_err().code, code::TRY_AGAIN_LATER);
}

#[test]
fn a_delegate_that_does_not_stop_writing_is_stopped() {
    for stream in ["stdout", "stderr"] {
        let error = Lab::new(&format!("cat /dev/zero >/dev/{stream}"))
            .add()
            .unwrap_err();
        assert_eq!(error.code, code::DELEGATE_FAILED);
        let problem = format!("it wrote more than 1048576 octets to {stream}");
        assert!(error.details.ends_with(&problem), "{error:?}");
    }
}

#[test]
fn an_output_of_one_mebibyte_is_read_whole() {
    let spaces = "head -c 1048574 /dev/zero | tr '\\0' ' '";
    let result = Lab::new(&format!("{spaces}; echo {{}}")).add().unwrap_err();
    assert!(result.details.contains("1048576"), "{result:?}");
    Lab::new(&format!("{spaces}; printf {{}}")).add().unwrap();
}

#[test]
fn of_a_long_output_the_beginning_is_quoted() {
    let error = Lab::new("head -c 5000 /dev/zero | tr '\\0' x; exit 2").add();
    let details = error.unwrap_err().details;
    let expected = format!("stdout: {}… and 904 octets more", "x".repeat(4096));
    assert_eq!(details, expected);
}

#[test]
fn the_log_lines_of_a_delegate_cannot_control_a_terminal() {
    let lines = printable_lines(b"first\x1b[31m\nsecond \xff\r\n");
    assert_eq!(lines, "first\\u{1b}[31m\nsecond \u{fffd}\\r\n");
}

#[test]
fn the_output_of_a_failed_delegate_without_an_error_document_is_quoted() {
    for (body, details) in [
        (
            r#"echo 'panic: oops'; echo 'at main.go:1' >&2; exit 2"#,
            "stdout: panic: oops; stderr: at main.go:1",
        ),
        (r#"echo '{}'; echo '{}'; exit 2"#, "stdout: {}\n{}"),
        ("echo no database >&2; exit 2", "stderr: no database"),
        ("exit 2", "it wrote nothing"),
    ] {
        let error = Lab::new(body).add().unwrap_err();
        assert_eq!(error.code, code::DELEGATE_FAILED);
        assert_eq!(
            error.msg,
            "IPAM plugin pool failed on ADD without an error document (exit status: 2)"
        );
        assert_eq!(error.details, details);
    }
    let error = Lab::new("kill -9 $$").add().unwrap_err();
    assert!(error.msg.contains("signal: 9"), "{error}");
}

#[test]
fn an_invalid_result_is_quoted_and_the_add_is_undone() {
    for (body, details) in [
        ("echo hello", "stdout: hello"),
        ("", "it wrote nothing"),
        (
            r#"echo '{ "cniVersion": "1.0.0", "ips": [{}] }'"#,
            "ips[0].address: is missing",
        ),
    ] {
        let lab = Lab::new(body);
        let error = lab.add().unwrap_err();
        assert_eq!(error.code, code::DELEGATE_FAILED);
        assert!(error.details.contains(details), "{error}");
        assert!(lab.log().ends_with("DEL c1 no home\n"));
    }
}

#[test]
fn a_delegate_may_leave_its_stdin_unread_whatever_the_size() {
    for padding in [0, 1 << 20] {
        let mut lab = Lab::new("");
        lab.put("pool", "#!/bin/sh\necho '{}'\n", 0o755);
        lab.stdin.extend(vec![b' '; padding]);
        lab.add().unwrap();
    }
}

#[test]
fn input_and_output_may_both_exceed_the_capacity_of_a_pipe() {
    let mut lab = Lab::new("");
    let script = format!(
        "#!/bin/sh\nprintf '{{ \"x\": \"'; head -c 300000 /dev/zero | tr '\\0' x; echo '\" }}'\ncat > {}/stdin\n",
        lab.path().display()
    );
    lab.put("pool", &script, 0o755);
    lab.stdin.extend(vec![b' '; 300_000]);
    assert_eq!(
        lab.add().unwrap().extra["x"].as_str().map(str::len),
        Some(300_000)
    );
    assert_eq!(fs::read(lab.path().join("stdin")).unwrap(), lab.stdin);
}

#[test]
fn the_first_executable_in_the_folders_of_cni_path_is_used() {
    let (first, second) = (Lab::new("exit 1"), Lab::new("echo '{}'"));
    first.put("pool", "not executable", 0o644);
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("pool")).unwrap();
    let path = std::env::join_paths([folder.path(), first.path(), second.path()]).unwrap();
    let request = first.request("ADD", &path);
    let ipam = Ipam::find(&request).unwrap().unwrap();
    assert_eq!(ipam.name(), "pool");
    let expected = second.path().join("pool");
    assert!(matches!(&ipam.source, Source::Program(program) if *program == expected));
}

#[test]
fn a_missing_delegate_is_reported_with_the_folders_searched() {
    let lab = Lab::new("");
    lab.put("pool", "not executable", 0o644);
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("pool")).unwrap();
    let path = format!("{}:{}", folder.path().display(), lab.path().display());
    for (verb, code) in [
        ("ADD", code::DELEGATE_NOT_FOUND),
        ("STATUS", code::PLUGIN_NOT_AVAILABLE),
    ] {
        let error = Ipam::find(&lab.request(verb, OsStr::new(&path))).unwrap_err();
        assert_eq!(
            (error.code, error.msg.as_str()),
            (code, "IPAM plugin pool not found on CNI_PATH")
        );
        let expected = format!(
            "looked in {}, {} (exists there, but is not executable)",
            folder.path().display(),
            lab.path().display()
        );
        assert_eq!(error.details, expected);
    }
    let error = Ipam::find(&lab.request("ADD", OsStr::new(""))).unwrap_err();
    assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    assert!(error.msg.contains("CNI_PATH"), "{error}");
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    for name in ["../pool", "/bin/sh", "a/b", ".", "..", "a\0"] {
        let mut lab = Lab::new("");
        lab.stdin =
            serde_json::to_vec(&json!({ "name": "lan", "ipam": { "type": name } })).unwrap();
        let error = Ipam::find(&lab.request("ADD", lab.path().as_os_str())).unwrap_err();
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG, "{name:?}");
        assert!(error.msg.contains("ipam.type"), "{error}");
    }
}

#[test]
fn without_ipam_cni_path_is_not_needed() {
    let mut lab = Lab::new("");
    lab.stdin = br#"{ "name": "lan" }"#.to_vec();
    assert!(
        Ipam::find(&lab.request("ADD", OsStr::new("")))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_delegate_that_cannot_be_executed_is_reported_with_its_path() {
    let lab = Lab::new("");
    lab.put("pool", "#!/nonexistent/interpreter\n", 0o755);
    let error = lab.add().unwrap_err();
    assert_eq!(
        (error.code, error.msg.as_str()),
        (code::DELEGATE_FAILED, "cannot run IPAM plugin pool for ADD")
    );
    assert!(error.details.contains("/pool: No such file"), "{error}");
}

#[test]
fn a_result_without_a_version_is_read_in_the_version_of_the_configuration() {
    let mut lab = Lab::new(r#"echo '{ "ip4": { "ip": "10.0.0.2/24" } }'"#);
    lab.stdin = br#"{ "cniVersion": "0.2.0", "name": "lan", "ipam": { "type": "pool" } }"#.to_vec();
    assert_eq!(
        lab.add().unwrap().to_value(Version::V1_0_0)["ips"][0]["address"],
        "10.0.0.2/24"
    );
}

#[test]
fn addresses_that_the_caller_has_assigned_need_no_plugin() {
    let lab = Lab::new("exit 1");
    let mut request = lab.request("ADD", OsStr::new("/no/such/folder"));
    assert!(Ipam::find(&request).is_err(), "there is no plugin");
    let assigned = CniResult {
        ips: vec![crate::IpConfig::new("10.0.0.2/24".parse().unwrap())],
        ..CniResult::default()
    };
    request.assigned = Some(assigned.clone());

    let ipam = Ipam::find(&request).unwrap().unwrap();
    assert_eq!(ipam.name(), "pool");
    let result = ipam.start_add().finish(|| panic!("nothing to undo"));
    assert_eq!(result, Ok(assigned));
    let calls = [Ipam::check, Ipam::del, Ipam::status, Ipam::gc];
    assert!(calls.iter().all(|call| call(&ipam) == Ok(())));
    assert_eq!(lab.log(), "", "it was not run");
}
