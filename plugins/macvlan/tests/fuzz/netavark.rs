// What must hold of any document of netavark's. Included by the fuzz target `netavark_document` and
// by the test that replays its corpus.

use std::ffi::OsStr;
use std::str;

use cni::{Env, Error, KnownArgs, Request, code};
use leasehold_macvlan::config::Config;
use leasehold_macvlan::netavark::{Command, configuration};
use serde_json::Value;

/// The first line is the command, the rest what netavark writes to the driver.
pub(crate) fn read(input: &[u8]) {
    let Some(end) = input.iter().position(|octet| *octet == b'\n') else {
        return;
    };
    let command = str::from_utf8(&input[..end]).unwrap_or_default();
    let Some(command) = Command::named(OsStr::new(command)) else {
        return;
    };
    match configuration(command, &input[end + 1..]) {
        Ok(config) => is_read_or_refused(command, &config),
        Err(error) => {
            assert_says_what_is_invalid(&error);
            // Whatever the options are, a container can be removed.
            let is_unreadable = error.msg.starts_with("the document on stdin");
            assert!(is_unreadable || command != Command::Teardown, "{error}");
        }
    }
}

/// What a document is translated to is valid, but for what the user has chosen.
fn is_read_or_refused(command: Command, config: &Value) {
    let verb = match command {
        Command::Create => "STATUS",
        Command::Teardown => "DEL",
        Command::Setup | Command::Info => "ADD",
    };
    let env: Env = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
    ]
    .into_iter()
    .collect();
    let document = config.to_string();
    match Request::parse(&env, document.as_bytes(), KnownArgs::Only(&["MAC"])) {
        Ok(request) => {
            assert_eq!(request.config.plugin_type, "macvlan");
            if let Err(error) = Config::read(&request) {
                assert_says_what_is_invalid(&error);
            }
        }
        Err(error) => assert_says_what_is_invalid(&error),
    }
}

fn assert_says_what_is_invalid(error: &Error) {
    let expected = [code::DECODING_FAILURE, code::INVALID_NETWORK_CONFIG];
    assert!(
        expected.contains(&error.code) && !error.msg.is_empty(),
        "{error}"
    );
}
