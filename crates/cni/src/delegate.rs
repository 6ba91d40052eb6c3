//! Delegation: running another plugin as a runtime would (spec §4).

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::{CniResult, Error, Request, Verb, code};

/// The plugin that manages this network's addresses, found and ready to be asked.
///
/// Every call gets the environment and stdin of the request it was made from; only CNI_COMMAND is
/// its own.
#[derive(Debug)]
pub struct Ipam<'r> {
    request: &'r Request,
    name: &'r str,
    program: PathBuf,
}

impl<'r> Ipam<'r> {
    /// Finds the plugin that `ipam.type` names on CNI_PATH. `None` when the configuration names
    /// none.
    ///
    /// # Errors
    /// [`code::INVALID_NETWORK_CONFIG`] for a name that is a path; [`code::INVALID_ENVIRONMENT`]
    /// without CNI_PATH; [`code::DELEGATE_NOT_FOUND`], or for STATUS
    /// [`code::PLUGIN_NOT_AVAILABLE`], when it is nowhere.
    pub fn find(request: &'r Request) -> Result<Option<Ipam<'r>>, Error> {
        let Some(name) = request.config.ipam_type() else {
            return Ok(None);
        };
        let program = find(request, name)?;
        Ok(Some(Ipam {
            request,
            name,
            program,
        }))
    }

    /// The plugin's name, for messages.
    pub fn name(&self) -> &str {
        self.name
    }

    /// ADD. When it fails, the delegate is called once more with DEL, as the specification asks, so
    /// that nothing of a half-made answer stays; the error is the first one.
    ///
    /// # Errors
    /// The delegate's own error, whole; or [`code::DELEGATE_FAILED`] when it did not give a proper
    /// answer.
    pub fn add(&self) -> Result<CniResult, Error> {
        let added = self
            .call(Verb::Add)
            .and_then(|answer| self.read_result(&answer));
        if added.is_err() {
            // What DEL says is of no use to anybody now; ADD's error tells what happened.
            let _ = self.del();
        }
        added
    }

    /// CHECK.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn check(&self) -> Result<(), Error> {
        self.call(Verb::Check).map(drop)
    }

    /// DEL: also the way to undo [`Ipam::add`] when something fails after it.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn del(&self) -> Result<(), Error> {
        self.call(Verb::Del).map(drop)
    }

    /// STATUS.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn status(&self) -> Result<(), Error> {
        self.call(Verb::Status).map(drop)
    }

    /// GC.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn gc(&self) -> Result<(), Error> {
        self.call(Verb::Gc).map(drop)
    }
}

impl Ipam<'_> {
    /// Runs the delegate for one verb and returns what it wrote to stdout, when it was content.
    fn call(&self, verb: Verb) -> Result<Vec<u8>, Error> {
        let output = self.execute(verb).map_err(|error| {
            let msg = format!("cannot run IPAM plugin {} for {verb}", self.name);
            Error::new(code::DELEGATE_FAILED, msg)
                .details(format!("{}: {error}", self.program.display()))
        })?;
        // Logs, for whoever reads ours. A closed stderr takes nothing from the answer.
        let _ = io::stderr().write_all(&output.stderr);
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(self.failure(verb, &output))
        }
    }

    fn execute(&self, verb: Verb) -> io::Result<Output> {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(self.request.env.iter())
            .env("CNI_COMMAND", verb.as_str());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = retry_while_busy(|| command.spawn(), thread::sleep)?;
        converse(child, &self.request.stdin)
    }

    /// The error of a delegate that exited with a status other than zero.
    fn failure(&self, verb: Verb, output: &Output) -> Error {
        let document = serde_json::from_slice::<Value>(&output.stdout).ok();
        if let Some(error) = document
            .as_ref()
            .and_then(Value::as_object)
            .and_then(Error::from_object)
        {
            return error;
        }
        let msg = format!(
            "IPAM plugin {} failed on {verb} without an error document ({})",
            self.name, output.status
        );
        Error::new(code::DELEGATE_FAILED, msg).details(describe(&output.stdout, &output.stderr))
    }

    fn read_result(&self, stdout: &[u8]) -> Result<CniResult, Error> {
        let improper = |what: String| {
            let msg = format!(
                "IPAM plugin {} succeeded on ADD but its result cannot be used",
                self.name
            );
            Error::new(code::DELEGATE_FAILED, msg)
                .details(format!("{what}; {}", describe(stdout, &[])))
        };
        let document: Value =
            serde_json::from_slice(stdout).map_err(|error| improper(error.to_string()))?;
        if let Some(error) = document.as_object().and_then(Error::from_object) {
            return Err(error); // Exit status zero, and an error all the same: the document is what counts.
        }
        CniResult::from_value(document, self.request.config.version)
            .map_err(|error| improper(error.msg))
    }
}

/// Looks for an executable file of that name in the folders of CNI_PATH, first to last.
fn find(request: &Request, name: &str) -> Result<PathBuf, Error> {
    if name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!(
                "invalid network configuration: ipam.type: {name:?} is not the name of a plugin"
            ),
        )
        .details("a plugin is named by its file name, and looked for on CNI_PATH"));
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
        match kind(&program) {
            Found::Executable => return Ok(program),
            Found::NotExecutable => {
                folders.push(format!("{} (there, but not executable)", folder.display()))
            }
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

fn kind(program: &Path) -> Found {
    match program.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {
            Found::Executable
        }
        Ok(metadata) if metadata.is_file() => Found::NotExecutable,
        _ => Found::Nothing,
    }
}

/// A plugin that is being replaced while a container starts cannot be executed for a moment
/// (ETXTBSY).
fn retry_while_busy<T>(
    mut spawn: impl FnMut() -> io::Result<T>,
    sleep: impl Fn(Duration),
) -> io::Result<T> {
    /// Doubling from the first, these add up to five seconds: a copy over a slow disk is done by
    /// then.
    const PAUSES: u32 = 9;
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    let mut pauses = (0..PAUSES).map(|n| FIRST_PAUSE * (1 << n));
    loop {
        match spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => match pauses.next() {
                Some(pause) => sleep(pause),
                None => return Err(error),
            },
            other => return other,
        }
    }
}

/// Gives the delegate its stdin and takes what it writes until it ends.
fn converse(mut child: Child, stdin: &[u8]) -> io::Result<Output> {
    /// What any pipe takes at once without its reader: a page.
    const FITS: usize = 4096;
    let pipe = child.stdin.take();
    // A delegate that does not read its stdin (EPIPE) may still give a good answer.
    let write = move || pipe.map(|mut pipe| pipe.write_all(stdin));
    if stdin.len() <= FITS {
        let _ = write();
        return child.wait_with_output();
    }
    // More could block for as long as the delegate, which may be blocked on its own output.
    thread::scope(|scope| {
        scope.spawn(write);
        child.wait_with_output()
    })
}

/// Everything the delegate said, as text.
fn describe(stdout: &[u8], stderr: &[u8]) -> String {
    let mut parts = Vec::new();
    for (name, bytes) in [("stdout", stdout), ("stderr", stderr)] {
        let text = String::from_utf8_lossy(bytes);
        if !text.trim().is_empty() {
            parts.push(format!("{name}: {}", text.trim()));
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
