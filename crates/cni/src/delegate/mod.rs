//! Delegation: running another plugin as a runtime does (spec §4).

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::error::{Error, code};
use crate::printable::printable;
use crate::request::{Request, Verb};
use crate::result::CniResult;

/// The longest output of a delegate, in octets on each stream. A result has some hundred.
const MAX_OUTPUT: usize = 1 << 20;

/// How many octets of each stream an error quotes.
const MAX_QUOTE: usize = 4096;

/// The IPAM plugin of a network: the one that manages its addresses.
///
/// Each call runs the plugin with the environment and stdin of the request; only CNI_COMMAND is set
/// for the call.
#[derive(Debug)]
pub struct Ipam<'r> {
    request: &'r Request,
    name: &'r str,
    program: PathBuf,
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

    /// Runs ADD. If it fails, calls `undo`, so that nothing of a partial success remains: the
    /// specification demands that this runs [`Ipam::del`]. A plugin that knows that a DEL came in
    /// between does not, because the delegate may serve another ADD of the attachment by now.
    ///
    /// # Errors
    /// The delegate's own error, unchanged; or [`code::DELEGATE_FAILED`] if the delegate could not
    /// be run or its answer is not valid.
    pub fn add(&self, undo: impl FnOnce()) -> Result<CniResult, Error> {
        self.call(Verb::Add)
            .and_then(|answer| self.read_result(&answer))
            .inspect_err(|_| undo())
    }

    /// Runs CHECK.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn check(&self) -> Result<(), Error> {
        self.call(Verb::Check).map(drop)
    }

    /// Runs DEL. A plugin that fails after [`Ipam::add`] calls this to give the addresses back.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn del(&self) -> Result<(), Error> {
        self.call(Verb::Del).map(drop)
    }

    /// Runs STATUS.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn status(&self) -> Result<(), Error> {
        self.call(Verb::Status).map(drop)
    }

    /// Runs GC.
    ///
    /// # Errors
    /// As [`Ipam::add`].
    pub fn gc(&self) -> Result<(), Error> {
        self.call(Verb::Gc).map(drop)
    }
}

impl Ipam<'_> {
    /// Runs the delegate for one verb. Returns its stdout if it succeeded, and its error otherwise.
    fn call(&self, verb: Verb) -> Result<Vec<u8>, Error> {
        let output = self.execute(verb).map_err(|error| {
            let msg = format!("cannot run IPAM plugin {} for {verb}", self.name);
            Error::new(code::DELEGATE_FAILED, msg)
                .details(format!("{}: {error}", self.program.display()))
        })?;
        // The delegate's logs join this plugin's. A stderr that is closed does not change the
        // answer.
        let _ = io::stderr().write_all(printable_lines(&output.stderr).as_bytes());
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
        communicate(child, &self.request.stdin)
    }

    /// The error of a delegate that exited with a status other than zero: its error document, or a
    /// description of what it wrote instead.
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
        Error::new(code::DELEGATE_FAILED, msg).details(quote_output(&output.stdout, &output.stderr))
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

/// Spawns a process, and tries again for some seconds if the executable is busy (ETXTBSY). It is
/// while an upgrade replaces the plugin.
fn retry_while_busy<T>(
    mut spawn: impl FnMut() -> io::Result<T>,
    sleep: impl Fn(Duration),
) -> io::Result<T> {
    /// Each pause is twice as long as the one before, so these add up to five seconds. Copying a
    /// plugin to a slow disk takes less.
    const MAX_RETRIES: u32 = 9;
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    let mut pauses = (0..MAX_RETRIES).map(|n| FIRST_PAUSE * (1 << n));
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

/// Writes the delegate's stdin, and reads its output until it exits. If that fails, the delegate is
/// killed: it must not go on while another call undoes what it does.
fn communicate(mut child: Child, stdin: &[u8]) -> io::Result<Output> {
    /// Every pipe buffers at least a page, so writing this much never blocks.
    const MIN_PIPE_CAPACITY: usize = 4096;
    let pipe = child.stdin.take();
    // A delegate that does not read its stdin (EPIPE) may still give a valid answer.
    let write = move || {
        let _ = pipe.map(|mut pipe| pipe.write_all(stdin));
    };
    thread::scope(|scope| {
        // Writing more can block until the delegate reads, which may itself wait until its output
        // is read.
        let writing = match stdin.len() {
            ..=MIN_PIPE_CAPACITY => {
                write();
                Ok(())
            }
            _ => thread::Builder::new().spawn_scoped(scope, write).map(drop),
        };
        let output = writing.and_then(|()| read_output(&mut child));
        if output.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        output
    })
}

/// Reads both streams until the delegate has closed them, and waits for its end. (The standard
/// library's `wait_with_output` panics if they cannot be read, and reads without a limit.)
fn read_output(child: &mut Child) -> io::Result<Output> {
    let mut streams = [
        Stream::new("stdout", child.stdout.take().map(OwnedFd::from)),
        Stream::new("stderr", child.stderr.take().map(OwnedFd::from)),
    ];
    while streams.iter().any(|stream| stream.pipe.is_some()) {
        for index in readable(&streams)? {
            streams[index].read()?;
        }
    }
    let [stdout, stderr] = streams.map(|stream| stream.octets);
    Ok(Output {
        status: child.wait()?,
        stdout,
        stderr,
    })
}

/// A stream of the delegate's: `pipe` until its end, and what was read from it.
struct Stream {
    name: &'static str,
    pipe: Option<File>,
    octets: Vec<u8>,
}

impl Stream {
    fn new(name: &'static str, pipe: Option<OwnedFd>) -> Stream {
        Stream {
            name,
            pipe: pipe.map(File::from),
            octets: Vec::new(),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.octets.extend(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if self.octets.len() > MAX_OUTPUT {
            let problem = format!("it wrote more than {MAX_OUTPUT} octets to {}", self.name);
            return Err(io::Error::other(problem));
        }
        Ok(())
    }
}

/// Waits until a stream can be read without blocking, or is at its end; returns which.
fn readable(streams: &[Stream]) -> io::Result<Vec<usize>> {
    let open = streams.iter().enumerate().filter_map(|(index, stream)| {
        let pipe = stream.pipe.as_ref()?;
        Some((index, PollFd::new(pipe.as_fd(), PollFlags::POLLIN)))
    });
    let (indices, mut watched): (Vec<usize>, Vec<PollFd<'_>>) = open.unzip();
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ready = indices.into_iter().zip(watched);
    let ready = ready.filter(|(_, fd)| fd.any() == Some(true));
    Ok(ready.map(|(index, _)| index).collect())
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
