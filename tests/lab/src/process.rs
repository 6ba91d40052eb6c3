use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Condition, Node, Result, World, until, world};

/// A long-running program on a [`Node`]: a daemon or a server. Its output goes to a log in the
/// world's directory.
///
/// It is killed when dropped, except in a world that is kept.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `node`. `name` names it in errors and its log file.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(world: &World, node: &Node, name: &str, mut command: Command) -> Result<Process> {
        let (log, file) = create_log(world.dir(), name)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = node.spawn(&mut command)?;
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process ID, inside the world.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a pid fits in pid_t"))
    }

    /// Everything it has written so far, to either stream.
    pub fn log(&self) -> String {
        // Absent only if somebody took it away; then there is nothing to tell.
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits like [`until()`], and fails at once, showing the log, when the process ends meanwhile.
    ///
    /// # Errors
    /// When the time is over or the process has ended; both with its log.
    pub fn until<C: Condition>(
        &mut self,
        what: &str,
        within: Duration,
        mut condition: impl FnMut() -> C,
    ) -> Result<C::Value> {
        let child = &mut self.child;
        let met = until(what, within, || match condition().met() {
            Some(value) => Some(Ok(value)),
            None => child.try_wait().ok().flatten().map(Err),
        });
        match met {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(status)) => Err(anyhow!(
                "{} ended with {status} before: {what}\n{}",
                self.name,
                self.log()
            )),
            Err(error) => Err(error.context(format!("{} is not ready\n{}", self.name, self.log()))),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended and been waited for.
    pub fn signal(&self, signal: Signal) -> Result {
        kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When it lasts longer than `within`.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let ended = until(&format!("{} ends", self.name), within, || {
            child.try_wait().transpose()
        });
        ended?.with_context(|| format!("wait for {}", self.name))
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end within ten seconds (see [`deadline`](crate::deadline())), or ends
    /// otherwise than with status 0 or by that signal.
    pub fn stop(&mut self) -> Result {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait(Duration::from_secs(10))?;
        if !status.success() && status.signal() != Some(Signal::SIGTERM as i32) {
            bail!(
                "{} ended with {status} on SIGTERM\n{}",
                self.name,
                self.log()
            );
        }
        Ok(())
    }

    /// SIGKILL, and waits: afterwards the process is gone.
    ///
    /// # Errors
    /// When it has been waited for before.
    pub fn kill(&mut self) -> Result {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !world::keep() {
            // Already ended and waited for: nothing to do.
            let _ = self.kill();
        }
    }
}

/// A log file of this name, or, where a test starts a thing several times, of this name and a
/// number.
fn create_log(dir: &Path, name: &str) -> Result<(PathBuf, File)> {
    for number in 1.. {
        let suffix = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let path = dir.join(format!("{name}{suffix}.log"));
        match File::options().append(true).create_new(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            file => {
                return file
                    .map(|file| (path.clone(), file))
                    .with_context(|| format!("create {}", path.display()));
            }
        }
    }
    unreachable!("the numbers do not end")
}
