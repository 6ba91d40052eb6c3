//! The call of a delegate that is part of this program.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::request::{Answer, BuiltIn, Request, Verb};
use crate::warnings;

/// Where the mark of an executable is, in octets from its beginning.
const MARK_WITHIN: usize = 4096;

/// Calls the delegate with what the executable would be given. Returns `None` if that is to be run
/// after all.
pub(super) fn call(built_in: &BuiltIn, verb: Verb, request: &Request) -> Option<Answer> {
    let env = request.env.with("CNI_COMMAND", verb.as_str());
    let serve = || (built_in.serve)(&env, &request.stdin);
    let (answer, logged) = warnings::of_delegate(built_in.name, serve);
    answer.map(|mut answer| {
        answer.stderr.extend(logged.into_bytes());
        answer
    })
}

/// Whether the executable is of the build that this program is of.
pub(super) fn is_same_build(built_in: &BuiltIn, program: &Path) -> bool {
    let mut beginning = [0; MARK_WITHIN];
    let read = File::open(program).and_then(|file| file.read_at(&mut beginning, 0));
    read.is_ok_and(|length| {
        let mut windows = beginning[..length].windows(built_in.mark.len());
        windows.any(|window| window == built_in.mark)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::super::Ipam;
    use super::*;
    use crate::error::Error;
    use crate::request::{Env, KnownArgs};

    const MARK: &[u8] = b"\0of this build\0";

    /// Answers as the plugin `pool`, with a warning. It leaves GC to the executable.
    fn serve(env: &Env, stdin: &[u8]) -> Option<Answer> {
        assert!(stdin.starts_with(b"{"));
        let (is_success, document) = match env.get("CNI_COMMAND")?.to_str()? {
            "ADD" => (true, json!({ "ips": [{ "address": "10.0.0.2/24" }] })),
            "GC" => return None,
            verb => (false, json!({ "code": 11, "msg": format!("no {verb}") })),
        };
        Some(Answer {
            is_success,
            stdout: document.to_string().into_bytes(),
            stderr: b"pool: half of them are taken\n".to_vec(),
        })
    }

    static BUILT_IN: [BuiltIn; 1] = [BuiltIn {
        name: "pool",
        mark: MARK,
        serve,
    }];

    /// Calls the plugin `pool`, whose executable begins with these octets and otherwise fails with
    /// code 99, for a verb.
    fn call(marked: &[u8], verb: &str) -> Result<String, Error> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pool");
        let refusal = b"\ncat >/dev/null; echo '{\"code\":99,\"msg\":\"executed\"}'; exit 1\n";
        fs::write(&program, [b"#!/bin/sh\n#", marked, refusal].concat()).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().to_str().unwrap();
        let env: Env = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", path),
            ("PATH", "/usr/bin:/bin"),
        ]
        .into_iter()
        .collect();
        let config = json!({
            "cniVersion": "1.1.0", "name": "lan", "ipam": { "type": "pool" },
            "prevResult": {}, "cni.dev/valid-attachments": [],
        });
        let mut request =
            Request::parse(&env, config.to_string().as_bytes(), KnownArgs::Any).unwrap();
        request.built_in = &BUILT_IN;
        let ipam = Ipam::find(&request)?.unwrap();
        let added = match verb {
            "ADD" => {
                return ipam.start_add().finish(|| ()).map(|result| {
                    let addresses = result.ips.iter().map(|ip| ip.address.to_string());
                    addresses.collect()
                });
            }
            "CHECK" => ipam.check(),
            "DEL" => ipam.del(),
            "GC" => ipam.gc(),
            _ => ipam.status(),
        };
        added.map(|()| "done".to_owned())
    }

    #[test]
    fn an_executable_of_this_build_is_not_run() {
        assert_eq!(call(MARK, "ADD"), Ok("10.0.0.2/24".to_owned()));
        for verb in ["CHECK", "DEL", "STATUS"] {
            let error = call(MARK, verb).unwrap_err();
            assert_eq!((error.code, error.msg), (11, format!("no {verb}")));
        }
    }

    #[test]
    fn another_executable_is_run_and_so_is_one_to_which_the_call_is_left() {
        let beyond = [&[b'#'; MARK_WITHIN], MARK].concat();
        for (marked, verb) in [(&b""[..], "ADD"), (&beyond, "ADD"), (MARK, "GC")] {
            let error = call(marked, verb).unwrap_err();
            assert_eq!((error.code, error.msg.as_str()), (99, "executed"));
        }
    }

    #[test]
    fn its_warnings_are_those_of_a_delegate() {
        warnings::forget();
        warnings::keep("the plugin's own".to_owned());
        call(MARK, "ADD").unwrap();
        let error = warnings::add_to(Error::new(7, "later"));
        assert_eq!(
            error.details,
            "warning: the plugin's own; warning: half of them are taken"
        );
    }
}
