//! Serving one invocation: the protocol as a function of environment, stdin, stdout and stderr.

use std::any::Any;
use std::ffi::OsStr;
use std::io::{self, BufReader, IsTerminal as _, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::error::{Error, code};
use crate::go;
use crate::plugin::{About, Plugin};
use crate::request::{Env, MAX_STDIN, Request, Verb, parse_object, read_bounded};
use crate::version::Version;
use crate::warnings;

/// Runs a plugin with the environment and the streams of this process. A plugin's `main` need not
/// do anything else.
///
/// Records of the crate `log`, from level info on, become lines on stderr. A line that cannot be
/// written is lost, and nothing else.
///
/// If CNI_COMMAND is not set, it also accepts the arguments `--help` and `--version`, for people
/// who run the plugin by hand. Runtimes pass no arguments.
pub fn main(plugin: &dyn Plugin) -> ExitCode {
    warnings::to_stderr(plugin.about().name);
    let env = Env::of_process();
    if env.get("CNI_COMMAND").is_none()
        && let Some(argument) = std::env::args_os().nth(1)
    {
        return by_hand(&plugin.about(), &argument, io::stdout(), io::stderr()).into();
    }
    let stdin = io::stdin();
    if stdin.is_terminal() && env.get("CNI_COMMAND") == Some(OsStr::new("VERSION")) {
        // A person runs `CNI_COMMAND=VERSION PLUGIN` in a shell. Do not wait for them to type JSON.
        return run(plugin, &env, io::empty(), io::stdout(), io::stderr()).into();
    }
    run(plugin, &env, stdin.lock(), io::stdout(), io::stderr()).into()
}

/// Serves one invocation and returns the exit status.
///
/// Writes exactly one JSON document to stdout: the result of ADD, the versions, or an error. Writes
/// nothing to stdout if a verb without a result succeeds. A panic of the plugin becomes an error.
///
/// An ADD whose result cannot be written is undone with [`Plugin::roll_back`].
///
/// stderr gets warnings for people; failing to write them changes nothing. An error has them in its
/// details too. If neither CNI_COMMAND nor any other variable that comes with it is set, a person is
/// running the plugin by hand, and `run` writes a description of the plugin to stderr.
pub fn run(
    plugin: &dyn Plugin,
    env: &Env,
    stdin: impl Read,
    mut stdout: impl Write,
    mut stderr: impl Write,
) -> u8 {
    let about = plugin.about();
    if is_by_hand(env) {
        let _ = stderr.write_all(about.help().as_bytes());
        return SUCCESS;
    }
    warnings::forget();
    let mut version = Version::LATEST;
    let mut successful_add = None;
    let serve = || {
        let verb = env.get("CNI_COMMAND").and_then(OsStr::to_str);
        if verb == Some(Verb::Version.as_str()) {
            return report_versions(stdin).map(Some);
        }
        let stdin = read_bounded(stdin)?;
        let mut request = Request::parse(env, &stdin, about.known_args)
            .inspect_err(|_| version = version_in(&stdin))?;
        plugin.complete(&mut request);
        version = request.config.version;
        for warning in &request.warnings {
            let line = warnings::line(about.name, &format_args!("{warning}"));
            let _ = stderr.write_all(line.as_bytes());
            warnings::keep(warning.to_string());
        }
        let document = dispatch(plugin, &request)?;
        successful_add = Some(request).filter(|request| request.verb == Verb::Add);
        Ok(document)
    };
    let answer = catch_unwind(AssertUnwindSafe(serve))
        .unwrap_or_else(|panic| Err(panic_error(&about, &*panic)));
    let (document, status) = match answer {
        Ok(document) => (document, SUCCESS),
        Err(error) => {
            let error = warnings::add_to(error);
            (Some(error.to_value(version.as_str())), FAILURE)
        }
    };
    let Some(document) = document else {
        return status;
    };
    let written = write_document(&mut stdout, &document);
    if let Some(request) = successful_add {
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

/// Ends an ADD that succeeded: commits it if its result was written, and rolls it back otherwise. A
/// panic is ignored, because stdout already has its document, or accepts none.
fn finish_add(plugin: &dyn Plugin, request: &Request, is_written: bool) {
    let _ = catch_unwind(AssertUnwindSafe(|| match is_written {
        true => plugin.on_committed(request),
        false => drop(plugin.roll_back(request)),
    }));
}

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
/// The usual exit status of a command for arguments that it does not know.
const USAGE: u8 = 2;

/// Calls the plugin. Returns the document for stdout, if the verb has a result.
fn dispatch(plugin: &dyn Plugin, request: &Request) -> Result<Option<Value>, Error> {
    match request.verb {
        Verb::Add => {
            let result = plugin.add(request)?;
            let version = request.config.version;
            let is_delegate = request.config.plugin_type != plugin.about().name;
            let document = if is_delegate {
                result.to_value_for_caller(version)
            } else {
                result.to_value(version)
            };
            Ok(Some(document))
        }
        Verb::Check => plugin.check(request).map(|()| None),
        Verb::Del => plugin.del(request).map(|()| None),
        Verb::Gc => plugin.gc(request).map(|()| None),
        Verb::Status => plugin.status(request).map(|()| None),
        Verb::Version => Ok(Some(versions(Version::LATEST.as_str()))),
    }
}

/// Serves VERSION. The answer has the version that stdin names, even an unknown one, or the latest
/// if it names none.
///
/// Reads one document and no further, because older runtimes pass on their own stdin, which may
/// never end.
fn report_versions(stdin: impl Read) -> Result<Value, Error> {
    let stdin = BufReader::new(stdin.take(MAX_STDIN as u64));
    let document = match serde_json::Deserializer::from_reader(stdin)
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
    let requested = document
        .as_object()
        .and_then(|object| go::get(object, "cniVersion"))
        .and_then(Value::as_str)
        .filter(|version| !version.is_empty());
    Ok(versions(requested.unwrap_or(Version::LATEST.as_str())))
}

fn versions(cni_version: &str) -> Value {
    json!({ "cniVersion": cni_version, "supportedVersions": Version::ALL.map(Version::as_str) })
}

/// The version in which to report that the configuration is invalid: the configuration's own, or
/// the latest if that cannot be read.
fn version_in(stdin: &[u8]) -> Version {
    let Ok(object) = parse_object(stdin) else {
        return Version::LATEST;
    };
    let text = go::get(&object, "cniVersion").map_or(Some(""), Value::as_str);
    text.and_then(|text| Version::from_field(text).ok())
        .unwrap_or(Version::LATEST)
}

fn panic_error(about: &About, panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(
        code::INTERNAL,
        format!("{} panicked: {}", about.name, text.unwrap_or("no message")),
    )
    .details("this is a bug in the plugin; stderr says where")
}

/// Writes the document with a single write, so that a reader does not see a part of it.
fn write_document(stdout: &mut impl Write, document: &Value) -> io::Result<()> {
    let mut text = document.to_string();
    text.push('\n');
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Whether a person runs the plugin by hand: no variable is set that a runtime sets. CNI_PATH does
/// not count, because people who use cnitool have it in their shell.
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

/// Serves the argument of a person who runs the plugin by hand.
fn by_hand(about: &About, argument: &OsStr, mut stdout: impl Write, mut stderr: impl Write) -> u8 {
    let written = match argument.to_str() {
        Some("--help" | "-h") => stdout.write_all(about.help().as_bytes()),
        Some("--version" | "-V") => writeln!(stdout, "{}", about.version_line()),
        _ => {
            let name = about.name;
            let _ = writeln!(
                stderr,
                "{name}: unknown argument {argument:?}; try {name} --help"
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
