//! Lets system calls of a running process fail, one at a time, or kills it at one.
//!
//! [`CrashInjector`](crate::CrashInjector) starts a plugin under strace. A daemon runs already:
//! here strace attaches to it when the test says so, and detaches afterwards.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use nix::unistd::Pid;

use crate::{
    Node, Process, Result, World,
    crash_injector::{Syscall, syscalls_of},
};

/// How long strace may take to attach.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);

/// Which threads of a process strace attaches to. It counts the calls of each thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The main thread alone.
    Main,
    /// All, and those that are started meanwhile.
    All,
}

/// strace on threads of a running process. It detaches when dropped.
#[derive(Debug)]
pub struct FaultInjector {
    strace: Process,
    log: PathBuf,
}

impl FaultInjector {
    /// Records the system calls that the process makes from now on: a list as strace takes it.
    ///
    /// # Errors
    /// When strace cannot attach.
    pub fn record(
        world: &World,
        node: &Node,
        (pid, threads): (Pid, Threads),
        traced: &str,
    ) -> Result<FaultInjector> {
        FaultInjector::attach(world, node, (pid, threads), &[format!("trace={traced}")])
    }

    /// Lets this system call fail with an error such as `ENOMEM`, counted from now.
    ///
    /// # Errors
    /// When strace cannot attach.
    pub fn fail_at(
        world: &World,
        node: &Node,
        (pid, threads): (Pid, Threads),
        (name, nth): &Syscall,
        error: &str,
    ) -> Result<FaultInjector> {
        let inject = format!("inject={name}:error={error}:when={nth}");
        let expressions = [format!("trace={name}"), inject];
        FaultInjector::attach(world, node, (pid, threads), &expressions)
    }

    /// Kills the process (SIGKILL) on entry to this system call, counted from now.
    ///
    /// # Errors
    /// When strace cannot attach.
    pub fn kill_at(
        world: &World,
        node: &Node,
        (pid, threads): (Pid, Threads),
        (name, nth): &Syscall,
    ) -> Result<FaultInjector> {
        let inject = format!("inject={name}:signal=KILL:when={nth}");
        let expressions = [format!("trace={name}"), inject];
        FaultInjector::attach(world, node, (pid, threads), &expressions)
    }

    fn attach(
        world: &World,
        node: &Node,
        (pid, threads): (Pid, Threads),
        expressions: &[String],
    ) -> Result<FaultInjector> {
        let log = world.dir().join("syscalls");
        let mut command = Command::new("strace");
        if threads == Threads::All {
            command.arg("-f");
        }
        command.arg("-p").arg(pid.to_string()).arg("-o").arg(&log);
        for expression in expressions {
            command.args(["-e", expression]);
        }
        let mut strace = Process::spawn(world, node, "strace", command)?;
        let message = format!("Process {pid} attached");
        let log_file = strace.log_path().to_owned();
        strace.until("it is attached", ATTACHED_WITHIN, || {
            fs::read_to_string(&log_file).is_ok_and(|text| text.contains(&message))
        })?;
        Ok(FaultInjector { strace, log })
    }

    /// The system calls so far, in order.
    ///
    /// # Errors
    /// When there is no record.
    pub fn syscalls(&self) -> Result<Vec<Syscall>> {
        Ok(syscalls_of(&fs::read_to_string(&self.log)?))
    }

    /// Whether the system call has failed.
    pub fn has_struck(&self) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|text| text.contains("(INJECTED)"))
    }

    /// Detaches from the process, which continues to run.
    ///
    /// # Errors
    /// When strace does not end.
    pub fn detach(mut self) -> Result {
        self.strace.stop()
    }
}
