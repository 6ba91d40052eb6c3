//! Kills a plugin at every system call it makes, or has the call fail.
//!
//! strace kills the plugin (SIGKILL) on entry to one system call, in the next run to the next one,
//! and so on for all of them. So the product needs no hook for it, and no call is left out.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::ensure;

use crate::{
    Result, World,
    suite::{self, Package},
};

/// The package that a test with a [`CrashInjector`] needs.
pub const STRACE: Package = Package::new("strace", "strace");

/// What system calls fail with in turn.
pub const ERRORS: [&str; 5] = ["EIO", "ENOMEM", "EINTR", "ENOBUFS", "EMFILE"];

/// A system call by name, and which of the plugin's calls of that name it is, from 1.
pub type Syscall = (String, usize);

/// Kills the plugin under test at chosen system calls, or has them fail.
#[derive(Debug)]
pub struct CrashInjector {
    /// The system calls, as strace takes them.
    traced: &'static str,
    /// A program of the plugin's name that runs the real one under strace, with the arguments in
    /// the file beside it.
    folder: PathBuf,
}

impl CrashInjector {
    /// For the plugin of this name, at these system calls: a list as strace takes it. One for each
    /// world.
    ///
    /// # Errors
    /// When the plugins under test are not ours: only a plugin with one thread makes the same calls
    /// each time.
    pub fn new(world: &World, plugin: &str, traced: &'static str) -> Result<CrashInjector> {
        ensure!(
            !suite::other_plugins(),
            "only a plugin of one thread makes the same calls each time"
        );
        let folder = world.dir().join("crash-injector");
        fs::create_dir(&folder)?;
        let real = suite::plugin_dir().join(plugin);
        let arguments = folder.join("arguments");
        let script = format!(
            "#!/bin/sh\n[ -s {arguments} ] || exec {real} \"$@\"\nexec strace -qq $(cat {arguments}) {real} \"$@\"\n",
            arguments = arguments.display(),
            real = real.display()
        );
        fs::write(folder.join(plugin), script)?;
        fs::set_permissions(folder.join(plugin), fs::Permissions::from_mode(0o755))?;
        Ok(CrashInjector { traced, folder })
    }

    /// The directory of the program that runs the plugin, to be the first in `CNI_PATH`.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// The traced system calls that the plugin makes in `run`, in order. `run` returns whether the
    /// plugin succeeded, which it must.
    ///
    /// # Errors
    /// Those of `run`, and when the plugin does not succeed.
    pub fn syscalls(&self, run: impl FnOnce() -> Result<bool>) -> Result<Vec<Syscall>> {
        let log = self.folder.join("log");
        self.write_arguments(&format!("-o {} -e trace={}", log.display(), self.traced))?;
        ensure!(run()?, "a plugin that is not killed must succeed");
        Ok(syscalls_of(&fs::read_to_string(&log)?))
    }

    /// `run` with the plugin as it is, without strace, which would make it slower.
    ///
    /// # Errors
    /// Those of `run`.
    pub fn undisturbed<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        self.write_arguments("")?;
        run()
    }

    /// `run` with a plugin that is killed on entry to this system call.
    ///
    /// # Errors
    /// Those of `run`, and when the plugin succeeds nevertheless.
    pub fn kill_at(&self, (name, nth): &Syscall, run: impl FnOnce() -> Result<bool>) -> Result {
        self.write_arguments(&format!(
            "-o /dev/null -e trace={name} -e inject={name}:signal=KILL:when={nth}"
        ))?;
        ensure!(
            !run()?,
            "the plugin was to be killed at {name} number {nth}"
        );
        Ok(())
    }

    /// `run` with a plugin for which this system call fails with an error such as `ENOMEM`.
    ///
    /// # Errors
    /// Those of `run`.
    pub fn fail_at<T>(
        &self,
        (name, nth): &Syscall,
        error: &str,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.write_arguments(&format!(
            "-o /dev/null -e trace={name} -e inject={name}:error={error}:when={nth}"
        ))?;
        run()
    }

    fn write_arguments(&self, arguments: &str) -> Result {
        Ok(fs::write(self.folder.join("arguments"), arguments)?)
    }
}

/// Each of the system calls with the error that it is to fail with, beginning with the `first` of
/// [`ERRORS`]. `poll` fails only with errors that it has: at others, Rust's start-up code ends the
/// process.
pub fn faults(syscalls: Vec<Syscall>, first: usize) -> Vec<(Syscall, &'static str)> {
    let errors = ERRORS.into_iter().cycle().skip(first);
    let with_error = |(syscall, error): (Syscall, &'static str)| match error {
        "EIO" | "ENOBUFS" | "EMFILE" if syscall.0 == "poll" => (syscall, "ENOMEM"),
        _ => (syscall, error),
    };
    syscalls.into_iter().zip(errors).map(with_error).collect()
}

/// The system calls in a record of strace's, in order. Those by which tokio's runtime wakes itself
/// are left out: it panics if they fail. So are those by which debug builds make sure that what
/// they close is open.
pub fn syscalls_of(record: &str) -> Vec<Syscall> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut syscalls = Vec::new();
    for line in record.lines() {
        // `openat(…) = 3`; `4711  openat(…) = 3` of several threads, and `4711  <... read resumed>`
        // for the rest of a call that another one interrupted.
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some((name, rest)) = call.trim_start().split_once('(') else {
            continue;
        };
        // The kernel restarts a call when another process has what the call needs. How often it
        // does so differs from run to run.
        if name.starts_with('<') || rest.contains("= ? ERESTART") {
            continue;
        }
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        if !rest.contains(WAKE_UP) && !rest.contains("F_GETFD)") {
            syscalls.push((name.to_owned(), *count));
        }
    }
    syscalls
}

/// What tokio writes to an eventfd of its own.
const WAKE_UP: &str = r#""\1\0\0\0\0\0\0\0", 8"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_one_thread_and_of_several_has_the_same_calls() {
        let one = "openat(AT_FDCWD, \"a\") = 3\nread(3, \"\", 8) = 0\nread(3, 0x1, 8) = ? ERESTARTSYS\n\
                   write(4, \"\\1\\0\\0\\0\\0\\0\\0\\0\", 8) = 8\nwrite(1, \"\", 1) = 1\nfcntl(3, F_GETFD) = 0\n--- SIGTERM {si_signo=SIGTERM} ---\n";
        let several = "12  openat(AT_FDCWD, \"a\") = 3\n12  read(3,  <unfinished ...>\n\
                       13 write(4, \"\\1\\0\\0\\0\\0\\0\\0\\0\", 8) = 8\n12  <... read resumed>\"(\", 8) = 0\n13 write(1, \"\", 1) = 1\n";
        let calls = [("openat", 1), ("read", 1), ("write", 2)];
        let expected = calls.map(|(name, nth)| (name.to_owned(), nth));
        assert_eq!(syscalls_of(one), expected);
        assert_eq!(syscalls_of(several), expected);
    }
}
