//! One invocation of a CNI plugin, as a runtime does it: variables, standard input, one JSON
//! document back.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Node, Result, suite};

/// A call under construction. Its environment has only the variables set here, `CNI_PATH` (the
/// directory of the plugins under test, then Debian's) and a `PATH`.
#[derive(Clone, Debug)]
pub struct Call {
    program: PathBuf,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
    is_unread: bool,
}

impl Call {
    /// A call of the plugin named `plugin`, among those [under test](suite::plugin_dir), with
    /// `CNI_COMMAND` set to `verb`.
    pub fn new(plugin: &str, verb: &str) -> Call {
        Call::of(
            suite::plugin_dir().join(plugin),
            &[suite::plugin_dir(), Path::new(DEBIANS_PLUGINS)],
            verb,
        )
    }

    /// A call of any program, with any `CNI_PATH`: for the benchmark, which compares two
    /// directories.
    pub fn of(program: impl Into<PathBuf>, path: &[&Path], verb: &str) -> Call {
        let path = path
            .iter()
            .map(|dir| dir.display().to_string())
            .collect::<Vec<_>>()
            .join(":");
        Call {
            program: program.into(),
            environment: Vec::new(),
            stdin: Vec::new(),
            is_unread: false,
        }
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", &path)
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
    }

    /// Sets or replaces a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Call {
        self = self.without(name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Call {
        self.environment.retain(|(set, _)| set != name);
        self
    }

    /// `CNI_CONTAINERID`.
    #[must_use]
    pub fn container(self, id: &str) -> Call {
        self.env("CNI_CONTAINERID", id)
    }

    /// `CNI_NETNS`.
    #[must_use]
    pub fn netns(self, path: impl AsRef<Path>) -> Call {
        self.env("CNI_NETNS", &path.as_ref().display().to_string())
    }

    /// `CNI_IFNAME`.
    #[must_use]
    pub fn ifname(self, name: &str) -> Call {
        self.env("CNI_IFNAME", name)
    }

    /// `CNI_ARGS`.
    #[must_use]
    pub fn args(self, args: &str) -> Call {
        self.env("CNI_ARGS", args)
    }

    /// The network configuration on standard input.
    #[must_use]
    pub fn config(self, config: &Value) -> Call {
        self.stdin(config.to_string())
    }

    /// Any bytes on standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Call {
        self.stdin = bytes.into();
        self
    }

    /// With a standard output that nobody reads, as if the caller had died: a pipe whose other end
    /// is closed.
    #[must_use]
    pub fn unread(mut self) -> Call {
        self.is_unread = true;
        self
    }

    /// Runs the plugin on `host` to its end.
    ///
    /// # Errors
    /// When it cannot be run, or when its standard output is neither empty nor exactly one JSON
    /// document.
    pub fn run(self, host: &Node) -> Result<Outcome> {
        self.start(host)?.finish()
    }

    /// Starts the plugin on `host`, for a caller that has something to do (or hangs up) before it
    /// ends.
    ///
    /// # Errors
    /// When the plugin cannot be started.
    pub fn start(self, host: &Node) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::piped())
            .stdout(match self.is_unread {
                true => Stdio::from(io::pipe()?.1),
                false => Stdio::piped(),
            })
            .stderr(Stdio::piped());
        let what = format!(
            "{} {}",
            self.program.display(),
            self.variable("CNI_COMMAND").unwrap_or("(no verb)")
        );
        let (started, child) = host.run(|| (Instant::now(), command.spawn()))?;
        let mut child = child.with_context(|| format!("start {what}"))?;
        let mut stdin = child
            .stdin
            .take()
            .context("the plugin has a standard input")?;
        // On a thread: more than a pipe holds may be written, to a plugin that does not read. One
        // that ends without having read all of it (EPIPE) may well be right.
        thread::spawn(move || stdin.write_all(&self.stdin).unwrap_or(()));
        Ok(Running {
            what,
            child,
            started,
        })
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .find(|(set, _)| set == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Where Debian's package puts the Go plugins; delegates such as `host-local` are found there.
pub const DEBIANS_PLUGINS: &str = "/usr/lib/cni";

/// A running plugin.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    started: Instant,
}

impl Running {
    /// Its process ID, inside the world.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True until the plugin has ended.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends the plugin a signal.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub fn signal(&self, signal: Signal) -> Result {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.what))
    }

    /// Kills the plugin (SIGKILL), as a runtime does on a timeout.
    ///
    /// # Errors
    /// When it has been waited for already.
    pub fn kill(mut self) -> Result {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.what))?;
        self.child
            .wait()
            .with_context(|| format!("wait for {}", self.what))?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When its standard output is neither empty nor exactly one JSON document.
    pub fn finish(self) -> Result<Outcome> {
        let Running {
            what,
            child,
            started,
        } = self;
        let output = child
            .wait_with_output()
            .with_context(|| format!("wait for {what}"))?;
        let took = started.elapsed();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let stdout =
            String::from_utf8(output.stdout).with_context(|| format!("{what}: standard output"))?;
        let document = match stdout.trim() {
            "" => None,
            text => Some(serde_json::from_str(text).with_context(|| {
                format!(
                    "{what}: not one JSON document on standard output:\n{stdout}\nstandard error:\n{stderr}"
                )
            })?),
        };
        Ok(Outcome {
            what,
            status: output.status,
            document,
            stderr,
            took,
        })
    }
}

/// The outcome of a call.
#[derive(Debug)]
pub struct Outcome {
    what: String,
    /// How the plugin ended.
    pub status: ExitStatus,
    /// The document on its standard output, if it wrote any.
    pub document: Option<Value>,
    /// What it wrote to standard error.
    pub stderr: String,
    /// From before it was started (but already on the host) until it had ended and all of its
    /// output had been read.
    pub took: Duration,
}

impl Outcome {
    /// The document of a plugin that succeeded; null when it wrote none, as CHECK and DEL do.
    ///
    /// # Errors
    /// [`CniError`], when the plugin failed with one.
    pub fn success(self) -> Result<Value> {
        if self.status.success() {
            Ok(self.document.unwrap_or_default())
        } else {
            let error = self.error()?;
            Err(error.into())
        }
    }

    /// The error of a plugin that failed as the CNI specification wants it (section 5, "Error").
    ///
    /// # Errors
    /// When it succeeded, or failed without such a document; [`NoDocument`] without any.
    pub fn error(self) -> Result<CniError> {
        let Outcome {
            what,
            status,
            document,
            stderr,
            ..
        } = self;
        ensure!(!status.success(), "{what} succeeded: {document:?}");
        if document.is_none() {
            return Err(NoDocument(format!("{what} ({status}): {stderr}")).into());
        }
        let error = document.as_ref().and_then(|document| {
            Some(CniError {
                code: document.get("code")?.as_u64()?,
                msg: document.get("msg")?.as_str()?.to_owned(),
                details: document
                    .get("details")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                plugin: what.clone(),
            })
        });
        error.with_context(|| {
            anyhow!("{what} failed without a CNI error ({status}): {document:?}\n{stderr}")
        })
    }
}

/// An error document. Found in a [`Result`]'s error with `downcast_ref`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// Which plugin and verb.
    pub plugin: String,
    /// The specification's code, or the plugin's own from 100.
    pub code: u64,
    /// What failed.
    pub msg: String,
    /// More about it; empty if absent.
    pub details: String,
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CniError {
            plugin,
            code,
            msg,
            details,
        } = self;
        write!(f, "{plugin} failed with code {code}: {msg}")?;
        if details.is_empty() {
            Ok(())
        } else {
            write!(f, " ({details})")
        }
    }
}

impl std::error::Error for CniError {}

/// A failure without any document: the plugin has died, or could not write. Found in a [`Result`]'s
/// error with `downcast_ref`.
#[derive(Clone, Debug)]
pub struct NoDocument(String);

impl fmt::Display for NoDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed without a document: {}", self.0)
    }
}

impl std::error::Error for NoDocument {}
