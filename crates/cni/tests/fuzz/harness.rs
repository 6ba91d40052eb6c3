// An input of the fuzz target `cni_request`: lines `NAME=value`, an empty line, and stdin. The
// target and the test that replays its corpus include this file.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use cni::{
    About, CniResult, Env, Error, KnownArgs, NetworkConfig, Plugin, Request, Version, code, go, run,
};
use serde::Deserialize;
use serde_json::Value;

/// Serves the input as one invocation.
///
/// # Panics
/// If the answer violates the protocol: the plugin panicked, stdout is not exactly one JSON
/// document, or a result changed when it was written and read again.
pub(crate) fn serve(input: &[u8]) {
    let (env, stdin) = split(input);
    let mut stdout = Vec::new();
    let status = run(&Echo, &env, stdin, &mut stdout, io::sink());
    if stdout.is_empty() {
        assert_eq!(status, 0, "a failure without a document");
        return;
    }
    let document: Value = serde_json::from_slice(&stdout).expect("exactly one JSON document");
    assert_eq!(
        status == 0,
        document.get("code").is_none(),
        "status {status} with {document}"
    );
    assert_ne!(document["code"], code::INTERNAL, "{document}");
}

fn split(input: &[u8]) -> (Env, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, stdin) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
    let variable = |line: &[u8]| {
        let equals = line.iter().position(|&byte| byte == b'=')?;
        Some((
            OsStr::from_bytes(&line[..equals]).to_owned(),
            OsStr::from_bytes(&line[equals + 1..]).to_owned(),
        ))
    };
    (
        head.split(|&byte| byte == b'\n')
            .filter_map(variable)
            .collect(),
        stdin,
    )
}

/// A plugin that reads everything in its request, and answers with the previous result.
struct Echo;

impl Plugin for Echo {
    fn about(&self) -> About {
        About {
            name: "echo",
            version: "0",
            summary: "echoes",
            usage: "",
            known_args: KnownArgs::Only(&["MAC", "IP"]),
        }
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        self.check(request)?;
        Ok(request.config.prev_result.clone().unwrap_or_default())
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let NetworkConfig {
            prev_result, raw, ..
        } = &request.config;
        if let Some(result) = prev_result {
            Version::ALL
                .into_iter()
                .for_each(|version| assert_roundtrip(result, version));
        }
        let _ = request.config.ipam_type();
        request.requested_mac()?;
        request.requested_ips()?;
        go::decode::<Conf>(raw).map(drop)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        self.check(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        self.check(request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        self.check(request)
    }
}

/// Fields of every type that configurations use.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "only decoding matters")]
struct Conf {
    master: Option<String>,
    mode: Mode,
    mtu: Option<u32>,
    link_in_container: bool,
    ipam: Option<Box<Conf>>,
    request: Vec<Conf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Bridge,
    Private,
}

fn assert_roundtrip(result: &CniResult, version: Version) {
    let document = result.to_value(version);
    let read = CniResult::from_value(document.clone(), Version::LATEST).expect("our own document");
    assert_eq!(read.to_value(version), document);
}
