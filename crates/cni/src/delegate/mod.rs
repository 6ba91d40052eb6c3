//! Delegation: running another plugin as a runtime does (spec §4).

mod built_in;
mod process;

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::Value;

use crate::error::{Error, code};
use crate::printable::printable;
use crate::request::{Answer, BuiltIn, Request, Verb};
use crate::result::CniResult;
use crate::version::Version;
use crate::warnings;
use built_in::is_same_build;
use process::Process;

/// How many octets of each stream an error quotes.
const MAX_QUOTE: usize = 4096;

/// The IPAM plugin of a network: the one that manages its addresses.
///
/// Each call runs the plugin with the environment and stdin of the request; only CNI_COMMAND is set
/// for the call. A plugin that is [`BuiltIn`] and of this program's build is called without a
/// process of its own. If the caller has assigned the addresses ([`Request::assigned`]), there is
/// nothing to call: ADD returns them, and the other verbs succeed.
#[derive(Debug)]
pub struct Ipam<'r> {
    request: &'r Request,
    name: &'r str,
    source: Source<'r>,
}

/// Where the addresses are from.
#[derive(Debug)]
enum Source<'r> {
    Program(PathBuf),
    /// The plugin is part of this program too.
    BuiltIn(&'static BuiltIn, PathBuf),
    Assigned(&'r CniResult),
}

impl<'r> Ipam<'r> {
    /// Finds the plugin that `ipam.type` names in the folders of CNI_PATH. Returns `None` if the
    /// configuration names no IPAM plugin.
    ///
    /// # Errors
    /// - [`code::INVALID_NETWORK_CONFIG`] if the name is a path.
    /// - [`code::INVALID_ENVIRONMENT`] if CNI_PATH is missing.
    /// - [`code::DELEGATE_NOT_FOUND`], or for STATUS [`code::PLUGIN_NOT_AVAILABLE`], if no folder
    ///   contains the plugin.
    pub fn find(request: &'r Request) -> Result<Option<Ipam<'r>>, Error> {
        let Some(name) = request.config.ipam_type() else {
            return Ok(None);
        };
        let source = match &request.assigned {
            Some(assigned) => Source::Assigned(assigned),
            None => {
                let program = find(request, name)?;
                let mut known = request.built_in.iter();
                match known.find(|known| known.name == name && is_same_build(known, &program)) {
                    Some(built_in) => Source::BuiltIn(built_in, program),
                    None => Source::Program(program),
                }
            }
        };
        Ok(Some(Ipam {
            request,
            name,
            source,
        }))
    }

    /// The plugin's name, for messages.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Starts the plugin for ADD. It waits for its stdin, so it can load while the caller creates
    /// what the addresses are for. A failure to start it is reported by [`StartedAdd::finish`].
    pub fn start_add(&self) -> StartedAdd<'_> {
        let started = match &self.source {
            Source::Program(program) => Started::Process(program, self.start(program, Verb::Add)),
            Source::BuiltIn(..) => Started::Later,
            Source::Assigned(result) => Started::Known(result),
        };
        StartedAdd {
            ipam: self,
            started,
        }
    }

    /// Runs CHECK.
    ///
    /// # Errors
    /// As [`StartedAdd::finish`].
    pub fn check(&self) -> Result<(), Error> {
        self.call(Verb::Check).map(drop)
    }

    /// Runs DEL. A plugin that fails after ADD calls this to give the addresses back.
    ///
    /// # Errors
    /// As [`StartedAdd::finish`].
    pub fn del(&self) -> Result<(), Error> {
        self.call(Verb::Del).map(drop)
    }

    /// Runs STATUS.
    ///
    /// # Errors
    /// As [`StartedAdd::finish`].
    pub fn status(&self) -> Result<(), Error> {
        self.call(Verb::Status).map(drop)
    }

    /// Runs GC. The specification has it forwarded to every delegate, although the versions that a
    /// delegate supports may be older than the verb. Such a delegate has nothing to collect, and its
    /// failure is only a warning.
    ///
    /// # Errors
    /// As [`StartedAdd::finish`].
    pub fn gc(&self) -> Result<(), Error> {
        self.call(Verb::Gc).map(drop).or_else(|error| {
            if self.supports(Verb::Gc) {
                return Err(error);
            }
            let name = self.name;
            log::warn!("IPAM plugin {name} supports no CNI version that has GC ({error})");
            Ok(())
        })
    }

    /// Whether the delegate supports a version of the specification that has this verb. One that
    /// does not say which versions it supports is assumed to.
    fn supports(&self, verb: Verb) -> bool {
        let answer = self.call(Verb::Version).unwrap_or_default();
        let document: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let versions = document["supportedVersions"].as_array();
        // A version that is not known here is a later one.
        let has_verb = |version: &Value| {
            let version = version.as_str().and_then(|text| text.parse().ok());
            version.is_none_or(|version: Version| version >= verb.since())
        };
        versions.is_none_or(|versions| versions.is_empty() || versions.iter().any(has_verb))
    }
}

/// ADD of an IPAM plugin that has started and waits for its stdin. If this is dropped, the plugin
/// is killed, before it knows what to do.
#[derive(Debug)]
pub struct StartedAdd<'r> {
    ipam: &'r Ipam<'r>,
    started: Started<'r>,
}

#[derive(Debug)]
enum Started<'r> {
    Process(&'r Path, io::Result<Process>),
    /// There is nothing to start.
    Later,
    Known(&'r CniResult),
}

impl<'r> StartedAdd<'r> {
    /// The plugin.
    pub fn ipam(&self) -> &'r Ipam<'r> {
        self.ipam
    }

    /// Gives the plugin its stdin, and returns its result. If it fails, calls `undo`, so that
    /// nothing of a partial success remains: the specification demands that this runs
    /// [`Ipam::del`]. A plugin that knows that a DEL came in between does not, because the delegate
    /// may serve another ADD of the attachment by now.
    ///
    /// # Errors
    /// The delegate's own error, unchanged; or [`code::DELEGATE_FAILED`] if the delegate could not
    /// be run or its answer is not valid.
    pub fn finish(self, undo: impl FnOnce()) -> Result<CniResult, Error> {
        let ipam = self.ipam;
        let answer = match self.started {
            Started::Process(program, process) => ipam.finish(Verb::Add, program, process),
            Started::Later => ipam.call(Verb::Add),
            Started::Known(result) => return Ok(result.clone()),
        };
        answer
            .and_then(|answer| ipam.read_result(&answer))
            .inspect_err(|_| undo())
    }
}

impl Ipam<'_> {
    /// Runs the delegate for one verb. Returns its stdout if it succeeded, and its error otherwise.
    fn call(&self, verb: Verb) -> Result<Vec<u8>, Error> {
        let run = |program| self.finish(verb, program, self.start(program, verb));
        match &self.source {
            Source::Program(program) => run(program),
            Source::BuiltIn(built_in, program) => {
                match built_in::call(built_in, verb, self.request) {
                    Some(answer) => self.judge(verb, answer, None),
                    None => run(program),
                }
            }
            Source::Assigned(_) => Ok(Vec::new()),
        }
    }

    fn start(&self, program: &Path, verb: Verb) -> io::Result<Process> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.request.env.iter())
            .env("CNI_COMMAND", verb.as_str());
        Process::start(&mut command)
    }

    fn finish(
        &self,
        verb: Verb,
        program: &Path,
        process: io::Result<Process>,
    ) -> Result<Vec<u8>, Error> {
        let output = process.and_then(|process| process.finish(&self.request.stdin));
        let output = output.map_err(|error| {
            let msg = format!("cannot run IPAM plugin {} for {verb}", self.name);
            Error::new(code::DELEGATE_FAILED, msg)
                .details(format!("{}: {error}", program.display()))
        })?;
        let answer = Answer {
            is_success: output.status.success(),
            stdout: output.stdout,
            stderr: output.stderr,
        };
        self.judge(verb, answer, Some(output.status))
    }

    /// What a delegate's answer means. `status` is that of its process, if it had one.
    fn judge(
        &self,
        verb: Verb,
        answer: Answer,
        status: Option<ExitStatus>,
    ) -> Result<Vec<u8>, Error> {
        // The delegate's logs join this plugin's. A stderr that is closed does not change the
        // answer.
        let lines = printable_lines(&answer.stderr);
        let _ = io::stderr().write_all(lines.as_bytes());
        // These have the shape of our own warnings.
        let warnings = lines
            .lines()
            .filter_map(|line| line.strip_prefix(self.name));
        let warnings = warnings.filter_map(|line| line.strip_prefix(": "));
        warnings.for_each(|warning| warnings::keep(warning.to_owned()));
        if answer.is_success {
            Ok(answer.stdout)
        } else {
            Err(self.failure(verb, &answer, status))
        }
    }

    /// The error of a delegate that exited with a status other than zero: its error document, or a
    /// description of what it wrote instead.
    fn failure(&self, verb: Verb, answer: &Answer, status: Option<ExitStatus>) -> Error {
        let document = serde_json::from_slice::<Value>(&answer.stdout).ok();
        if let Some(error) = document
            .as_ref()
            .and_then(Value::as_object)
            .and_then(Error::from_object)
        {
            return error;
        }
        let status = status.map_or_else(String::new, |status| format!(" ({status})"));
        let msg = format!(
            "IPAM plugin {} failed on {verb} without an error document{status}",
            self.name
        );
        Error::new(code::DELEGATE_FAILED, msg).details(quote_output(&answer.stdout, &answer.stderr))
    }

    fn read_result(&self, stdout: &[u8]) -> Result<CniResult, Error> {
        let unusable = |problem: String| {
            let msg = format!(
                "IPAM plugin {} succeeded on ADD but its result cannot be used",
                self.name
            );
            Error::new(code::DELEGATE_FAILED, msg)
                .details(format!("{problem}; {}", quote_output(stdout, &[])))
        };
        let document: Value =
            serde_json::from_slice(stdout).map_err(|error| unusable(error.to_string()))?;
        if let Some(error) = document.as_object().and_then(Error::from_object) {
            return Err(error); // The document counts, even if the exit status says success.
        }
        CniResult::from_value(document, self.request.config.version)
            .map_err(|error| unusable(error.msg))
    }
}

/// Finds the first folder of CNI_PATH that contains an executable file with this name.
fn find(request: &Request, name: &str) -> Result<PathBuf, Error> {
    if name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!(
                "invalid network configuration: ipam.type: {name:?} is not the name of a plugin"
            ),
        )
        .details("give the name of an executable in one of the folders of CNI_PATH"));
    }
    if request.path.is_empty() {
        return Err(Error::new(
            code::INVALID_ENVIRONMENT,
            format!(
                "missing: CNI_PATH, to find IPAM plugin {name} for {}",
                request.verb
            ),
        ));
    }
    let mut folders = Vec::new();
    for folder in &request.path {
        let program = folder.join(name);
        match inspect(&program) {
            Found::Executable => return Ok(program),
            Found::NotExecutable => folders.push(format!(
                "{} (exists there, but is not executable)",
                folder.display()
            )),
            Found::Nothing => folders.push(folder.display().to_string()),
        }
    }
    let code = if request.verb == Verb::Status {
        code::PLUGIN_NOT_AVAILABLE
    } else {
        code::DELEGATE_NOT_FOUND
    };
    Err(
        Error::new(code, format!("IPAM plugin {name} not found on CNI_PATH"))
            .details(format!("looked in {}", folders.join(", "))),
    )
}

enum Found {
    Executable,
    NotExecutable,
    Nothing,
}

fn inspect(program: &Path) -> Found {
    match program.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {
            Found::Executable
        }
        Ok(metadata) if metadata.is_file() => Found::NotExecutable,
        _ => Found::Nothing,
    }
}

/// The delegate's log lines, made [`printable()`] one by one.
fn printable_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// The beginning of what the delegate wrote, as text for an error's details.
fn quote_output(stdout: &[u8], stderr: &[u8]) -> String {
    let mut parts = Vec::new();
    for (name, octets) in [("stdout", stdout), ("stderr", stderr)] {
        let shown = &octets[..octets.len().min(MAX_QUOTE)];
        let text = String::from_utf8_lossy(shown);
        if !text.trim().is_empty() {
            let rest = match octets.len() - shown.len() {
                0 => String::new(),
                more => format!("… and {more} octets more"),
            };
            parts.push(format!("{name}: {}{rest}", text.trim()));
        }
    }
    if parts.is_empty() {
        "it wrote nothing".to_owned()
    } else {
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests;
