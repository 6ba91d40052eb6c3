//! A plugin that is killed at every step of what it does.
//!
//! strace kills it (SIGKILL) on entry to one system call, and then to the next, until it has lived
//! through: no hook in the product, and no step left out.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::ensure;

use crate::{
    Result, World,
    suite::{self, Package},
};

/// What a test must say that it needs.
pub const STRACE: Package = Package::new("strace", "strace");

/// The n-th call of a system call, from 1.
pub type Step = (String, usize);

/// A plugin under test, to be killed.
#[derive(Debug)]
pub struct Doomed {
    calls: &'static str,
    /// A program of the plugin's name that runs the real one under strace, with the arguments in
    /// the file beside it.
    folder: PathBuf,
}

impl Doomed {
    /// The plugin of this name, to be killed at these system calls: a list as strace takes it. One
    /// for each world.
    ///
    /// # Errors
    /// For plugins of others: only one of a single thread makes the same calls each time.
    pub fn new(world: &World, plugin: &str, calls: &'static str) -> Result<Doomed> {
        ensure!(
            !suite::other_plugins(),
            "only a plugin of one thread makes the same calls each time"
        );
        let folder = world.dir().join("doomed");
        fs::create_dir(&folder)?;
        let real = suite::plugin_dir().join(plugin);
        let arguments = folder.join("arguments");
        let script = format!(
            "#!/bin/sh\nexec strace -qq $(cat {}) {}\n",
            arguments.display(),
            real.display()
        );
        fs::write(folder.join(plugin), script)?;
        fs::set_permissions(folder.join(plugin), fs::Permissions::from_mode(0o755))?;
        Ok(Doomed { calls, folder })
    }

    /// The directory in which it is found, to go first in `CNI_PATH`.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Every call that the plugin makes in `run`, in order. That says whether the plugin succeeded,
    /// which it must.
    ///
    /// # Errors
    /// As `run`, and when it does not succeed.
    pub fn steps(&self, run: impl FnOnce() -> Result<bool>) -> Result<Vec<Step>> {
        let log = self.folder.join("log");
        self.arguments(&format!("-o {} -e trace={}", log.display(), self.calls))?;
        ensure!(run()?, "what is not killed must succeed");
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut steps = Vec::new();
        for line in fs::read_to_string(&log)?.lines() {
            let Some((call, rest)) = line.split_once('(') else {
                continue;
            };
            // The kernel begins some calls anew while another has what they need: no other time has
            // as many.
            if rest.contains("= ? ERESTART") {
                continue;
            }
            let count = counts.entry(call.to_owned()).or_default();
            *count += 1;
            steps.push((call.to_owned(), *count));
        }
        Ok(steps)
    }

    /// `run` with a plugin that is killed on entry to this call.
    ///
    /// # Errors
    /// As `run`, and when the plugin succeeds all the same.
    pub fn kill_at(&self, (call, nth): &Step, run: impl FnOnce() -> Result<bool>) -> Result {
        self.arguments(&format!(
            "-o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={nth}"
        ))?;
        ensure!(!run()?, "it was to be killed at {call} {nth}");
        Ok(())
    }

    fn arguments(&self, arguments: &str) -> Result {
        Ok(fs::write(self.folder.join("arguments"), arguments)?)
    }
}
