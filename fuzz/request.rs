// A plugin's input as the fuzz targets of both plugins have it: CNI_ARGS on the first line, and a
// network configuration after it.

use cni::{Env, Error, KnownArgs, Request, code};

/// The request, if it is one.
pub(crate) fn read(input: &[u8], verb: &str, known: KnownArgs) -> Option<Request> {
    let (args, stdin) = match input.iter().position(|octet| *octet == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&b""[..], input),
    };
    let variables = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
        ("CNI_ARGS", std::str::from_utf8(args).ok()?),
    ];
    let env: Env = variables.into_iter().collect();
    Request::parse(&env, stdin, known).ok()
}

/// An error says what is invalid, with a code for that.
///
/// # Panics
/// If it does not.
pub(crate) fn assert_says_what_is_invalid(error: &Error) {
    let expected = [code::INVALID_ENVIRONMENT, code::INVALID_NETWORK_CONFIG];
    assert!(
        expected.contains(&error.code) && !error.msg.is_empty(),
        "{error}"
    );
}
