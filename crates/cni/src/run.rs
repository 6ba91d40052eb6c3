//! The protocol as a function of environment, stdin, stdout and stderr.

use std::any::Any;
use std::ffi::OsStr;
use std::io::{self, BufReader, IsTerminal as _, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::request::parse_object;
use crate::{About, Env, Error, MAX_STDIN, Plugin, Request, Verb, Version, code, go};

/// Runs a plugin with this process' environment and streams: the whole of a plugin's `main`.
///
/// Run by hand, without CNI_COMMAND, it also answers to `--help` and `--version`. A runtime passes
/// no arguments.
pub fn main(plugin: &dyn Plugin) -> ExitCode {
    let env = Env::of_process();
    if env.get("CNI_COMMAND").is_none()
        && let Some(argument) = std::env::args_os().nth(1)
    {
        return by_hand(&plugin.about(), &argument, io::stdout(), io::stderr()).into();
    }
    let stdin = io::stdin();
    if stdin.is_terminal() && env.get("CNI_COMMAND") == Some(OsStr::new("VERSION")) {
        // Somebody typed `CNI_COMMAND=VERSION macvlan`, and is not going to type JSON as well.
        return run(plugin, &env, io::empty(), io::stdout(), io::stderr()).into();
    }
    run(plugin, &env, stdin.lock(), io::stdout(), io::stderr()).into()
}

/// Serves one invocation and returns its exit status.
///
/// stdout gets exactly one JSON document when there is something to say (a result, the versions, an
/// error), and nothing when a verb without a result succeeded. A panic of the plugin becomes an
/// error like any other. What goes to stderr is only for people; it does not matter whether anybody
/// takes it.
///
/// Without CNI_COMMAND, and without any variable that a runtime would set beside it, somebody runs
/// the plugin by hand: stderr then says what it is.
pub fn run(
    plugin: &dyn Plugin,
    env: &Env,
    stdin: impl Read,
    mut stdout: impl Write,
    mut stderr: impl Write,
) -> u8 {
    let about = plugin.about();
    if is_by_hand(env) {
        let _ = stderr.write_all(about.text().as_bytes());
        return SUCCESS;
    }
    let mut version = Version::LATEST;
    let mut added = None;
    let serve = || {
        let verb = env.get("CNI_COMMAND").and_then(OsStr::to_str);
        if verb == Some(Verb::Version.as_str()) {
            return report_versions(stdin).map(Some);
        }
        let stdin = read_bounded(stdin)?;
        let request = Request::parse(env, &stdin, about.known_args)
            .inspect_err(|_| version = version_in(&stdin))?;
        version = request.config.version;
        for warning in &request.warnings {
            let _ = writeln!(stderr, "{}: {warning}", about.name);
        }
        let document = dispatch(plugin, &request)?;
        added = Some(request).filter(|request| request.verb == Verb::Add);
        Ok(document)
    };
    let answer = catch_unwind(AssertUnwindSafe(serve))
        .unwrap_or_else(|panic| Err(panicked(&about, &*panic)));
    let (document, status) = match answer {
        Ok(document) => (document, SUCCESS),
        Err(error) => (Some(error.to_value(version)), FAILURE),
    };
    let Some(document) = document else {
        return status;
    };
    let written = write_document(&mut stdout, &document);
    if let Some(request) = added {
        finish_add(plugin, &request, written.is_ok());
    }
    match written {
        Ok(()) => status,
        Err(error) => {
            let _ = writeln!(stderr, "{}: cannot write to stdout: {error}", about.name);
            FAILURE
        }
    }
}

/// The end of an ADD that succeeded, if the runtime has heard of it. Whatever happens here cannot
/// be reported any more.
fn finish_add(plugin: &dyn Plugin, request: &Request, heard: bool) {
    let _ = catch_unwind(AssertUnwindSafe(|| match heard {
        true => plugin.on_committed(request),
        false => roll_back(plugin, request),
    }));
}

/// Removes what nobody has heard of, so that nobody would remove it. What kept it from being heard
/// of is the error to report, and not what happens here.
fn roll_back(plugin: &dyn Plugin, request: &Request) {
    let _ = plugin.del(request);
}

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
/// What a shell command returns for arguments that it does not understand.
const USAGE: u8 = 2;

fn dispatch(plugin: &dyn Plugin, request: &Request) -> Result<Option<Value>, Error> {
    match request.verb {
        Verb::Add => {
            let result = plugin.add(request)?;
            let version = request.config.version;
            let delegated = request.config.plugin_type != plugin.about().name;
            let document = if delegated {
                result.to_value_for_caller(version)
            } else {
                result.to_value(version)
            };
            document
                .inspect_err(|_| roll_back(plugin, request))
                .map(Some)
        }
        Verb::Check => plugin.check(request).map(|()| None),
        Verb::Del => plugin.del(request).map(|()| None),
        Verb::Gc => plugin.gc(request).map(|()| None),
        Verb::Status => plugin.status(request).map(|()| None),
        Verb::Version => Ok(Some(versions(Version::LATEST.as_str()))),
    }
}

/// VERSION: answers in the version that stdin names, whatever that is; in the latest when it names
/// none.
///
/// Reads one document and no further: older runtimes leave stdin as it is, and never close it.
fn report_versions(stdin: impl Read) -> Result<Value, Error> {
    let stdin = BufReader::new(stdin.take(MAX_STDIN as u64));
    let asked = match serde_json::Deserializer::from_reader(stdin)
        .into_iter::<Value>()
        .next()
    {
        None => Value::Null,
        Some(Ok(document)) => document,
        Some(Err(error)) => {
            let code = if error.is_io() {
                code::IO_FAILURE
            } else {
                code::DECODING_FAILURE
            };
            return Err(Error::new(
                code,
                format!("cannot read JSON from stdin: {error}"),
            ));
        }
    };
    let asked = asked
        .as_object()
        .and_then(|object| go::get(object, "cniVersion"))
        .and_then(Value::as_str);
    Ok(versions(
        asked
            .filter(|version| !version.is_empty())
            .unwrap_or(Version::LATEST.as_str()),
    ))
}

fn versions(cni_version: &str) -> Value {
    json!({ "cniVersion": cni_version, "supportedVersions": Version::ALL.map(Version::as_str) })
}

fn read_bounded(stdin: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    stdin
        .take(MAX_STDIN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::new(code::IO_FAILURE, format!("cannot read stdin: {error}")))?;
    if bytes.len() > MAX_STDIN {
        return Err(Error::new(
            code::IO_FAILURE,
            format!("stdin has more than {MAX_STDIN} bytes"),
        )
        .details("a network configuration has a few thousand"));
    }
    Ok(bytes)
}

/// The version to report an error in that kept the configuration from being read: its own where
/// that can be told.
fn version_in(stdin: &[u8]) -> Version {
    let Ok(object) = parse_object(stdin) else {
        return Version::LATEST;
    };
    let text = go::get(&object, "cniVersion").map_or(Some(""), Value::as_str);
    text.and_then(|text| Version::of_field(text).ok())
        .unwrap_or(Version::LATEST)
}

fn panicked(about: &About, panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(
        code::INTERNAL,
        format!("{} panicked: {}", about.name, text.unwrap_or("no message")),
    )
    .details("this is a bug; stderr says where it is")
}

/// Written in one piece, so that a reader never sees a part of it.
fn write_document(stdout: &mut impl Write, document: &Value) -> io::Result<()> {
    let mut text = document.to_string();
    text.push('\n');
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// CNI_PATH alone does not make a runtime: people who use cnitool have it in their shell.
fn is_by_hand(env: &Env) -> bool {
    [
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_NETNS",
        "CNI_IFNAME",
        "CNI_ARGS",
    ]
    .iter()
    .all(|name| env.get(name).is_none())
}

/// Answers to the argument of somebody who runs the plugin by hand.
fn by_hand(about: &About, argument: &OsStr, mut stdout: impl Write, mut stderr: impl Write) -> u8 {
    let written = match argument.to_str() {
        Some("--help" | "-h") => stdout.write_all(about.text().as_bytes()),
        Some("--version" | "-V") => writeln!(stdout, "{}", about.version_line()),
        _ => {
            let name = about.name;
            let _ = writeln!(
                stderr,
                "{name}: unknown argument {argument:?}; {name} --help says more"
            );
            return USAGE;
        }
    };
    if written.and_then(|()| stdout.flush()).is_ok() {
        SUCCESS
    } else {
        FAILURE
    }
}

#[cfg(test)]
mod tests;
