//! The plugin as a network driver of netavark's, which is Podman's network backend.
//!
//! netavark runs what is in its plugin directory under the name of a driver, with a command as
//! argument and a JSON document on stdin. Each command becomes a call of the CNI plugin in this
//! process: `setup` is ADD, `teardown` is DEL, and `create` is STATUS, which validates the
//! configuration. Its answer becomes netavark's.

mod answer;
mod assigned;
mod create;
mod document;
mod options;
mod translate;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cni::{BuiltIn, Env, Error, code};
use serde_json::{Map, Value, json};

use crate::plugin::Macvlan;
use answer::Answer;
use document::Exec;
use translate::Call;

pub use options::DHCP_KEYS;

/// The version of netavark's plugin API.
const API_VERSION: &str = "1.0.0";

/// The most octets of stdin: the largest document has some thousand.
const MAX_STDIN: u64 = 1 << 20;

/// What netavark asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Validate and complete a network that is being created.
    Create,
    /// Attach a container.
    Setup,
    /// Detach a container.
    Teardown,
    /// Report versions.
    Info,
}

impl Command {
    /// The command that an argument names.
    pub fn named(word: &OsStr) -> Option<Command> {
        match word.to_str()? {
            "create" => Some(Command::Create),
            "setup" => Some(Command::Setup),
            "teardown" => Some(Command::Teardown),
            "info" => Some(Command::Info),
            _ => None,
        }
    }
}

/// Serves one command with the environment and the streams of this process. `netns` is the argument
/// after the command.
pub(crate) fn main(
    built_in: &'static [BuiltIn],
    command: Command,
    netns: Option<OsString>,
) -> ExitCode {
    cni::warnings_to_stderr("macvlan");
    let process = Process {
        built_in,
        variables: env::vars_os().collect(),
        program: env::current_exe().unwrap_or_default(),
    };
    let netns = netns.unwrap_or_default();
    let (stdin, stdout, stderr) = (io::stdin().lock(), io::stdout(), io::stderr());
    let status = run(&process, (command, &netns), stdin, stdout, stderr);
    status.into()
}

/// What a call needs of the process that serves it.
struct Process {
    /// The delegates that are part of it.
    built_in: &'static [BuiltIn],
    variables: Vec<(OsString, OsString)>,
    /// The program's own file, with links resolved.
    program: PathBuf,
}

impl Process {
    /// The environment of a call. If nothing says where IPAM plugins are, they are beside the
    /// program.
    fn env(&self, call: Vec<(&'static str, OsString)>) -> Env {
        let folder = self.program.parent().unwrap_or(Path::new("/"));
        let path = [(OsString::from("CNI_PATH"), folder.into())];
        let call = call.into_iter().map(|(name, value)| (name.into(), value));
        let call = call.chain([("CNI_ARGS".into(), OsString::new())]);
        let own = self.variables.iter().cloned();
        path.into_iter().chain(own).chain(call).collect()
    }
}

/// Serves one command and returns the exit status. stdout gets one JSON document, or nothing if a
/// `teardown` succeeds.
fn run(
    process: &Process,
    (command, netns): (Command, &OsStr),
    stdin: impl Read,
    mut stdout: impl Write,
    mut stderr: impl Write,
) -> u8 {
    let served = match command {
        Command::Info => Ok(info()),
        Command::Create => read(stdin).and_then(|document| create(process, document, &mut stderr)),
        Command::Setup | Command::Teardown => {
            match read(stdin).and_then(|document| call(command, netns, &document)) {
                Ok(call) => return serve(process, call, &mut Answer::to(stdout), &mut stderr),
                Err(error) => Err(error),
            }
        }
    };
    let (document, status) = match served {
        Ok(document) => (document, 0),
        Err(error) => (answer::error_document(&error), 1),
    };
    match answer::write(&mut stdout, &document) {
        Ok(()) => status,
        Err(_) => 1,
    }
}

fn info() -> Value {
    json!({ "version": env!("CARGO_PKG_VERSION"), "api_version": API_VERSION })
}

fn read(stdin: impl Read) -> Result<Map<String, Value>, Error> {
    let mut octets = Vec::new();
    let read = stdin.take(MAX_STDIN).read_to_end(&mut octets);
    read.map_err(|error| Error::new(code::IO_FAILURE, format!("cannot read stdin: {error}")))?;
    document::parse(&octets)
}

/// The call that `setup` or `teardown` is.
fn call(command: Command, netns: &OsStr, document: &Map<String, Value>) -> Result<Call, Error> {
    match command {
        Command::Setup => translate::setup(&Exec::read(document)?, netns),
        _ => Ok(translate::teardown(
            &Exec::read_for_teardown(document)?,
            netns,
        )),
    }
}

/// The network configuration that the plugin is called with for a command with this document on
/// stdin.
///
/// # Errors
/// 6 or 7, saying what is wrong with the document.
pub fn configuration(command: Command, stdin: &[u8]) -> Result<Value, Error> {
    let document = document::parse(stdin)?;
    match command {
        Command::Create => create::complete(document).map(|(_, call)| call.config),
        _ => call(command, OsStr::new("/run/netns/c1"), &document).map(|call| call.config),
    }
}

/// Has the plugin serve a call.
fn serve(process: &Process, call: Call, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let macvlan = Macvlan::new(process.built_in, call.assigned);
    let stdin = call.config.to_string();
    cni::run(
        &macvlan,
        &process.env(call.env),
        stdin.as_bytes(),
        stdout,
        stderr,
    )
}

/// Completes a network, if the plugins take its configuration. What keeps it from working at present
/// is only a warning: a device or a daemon may come later.
fn create(
    process: &Process,
    document: Map<String, Value>,
    stderr: &mut dyn Write,
) -> Result<Value, Error> {
    let (completed, call) = create::complete(document)?;
    let mut stdout = Vec::new();
    if serve(process, call, &mut stdout, stderr) == 0 {
        return Ok(completed);
    }
    match answer::read(&stdout) {
        Err(error) if create::is_about_configuration(error.code) => Err(error),
        Err(error) => {
            log::warn!("the network does not work yet: {error}");
            Ok(completed)
        }
        Ok(_) => Ok(completed),
    }
}

#[cfg(test)]
mod tests;
