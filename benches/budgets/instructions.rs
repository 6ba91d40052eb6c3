//! Instructions in user space, counted by valgrind: the same number at every run of the same program.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use lab::Result;
use lab::anyhow::{Context, ensure};

use crate::tasks::{TASK, TIMES};

/// How often a task is repeated, to leave out what the process needs for itself.
const REPEATED: u64 = 100;

/// Of a call that says which versions of CNI a plugin supports.
pub(crate) fn of_version(plugin: &Path) -> Result<u64> {
    count(plugin, &[("CNI_COMMAND", "VERSION")])
}

/// Of one repetition of a task.
pub(crate) fn of_task(name: &str) -> Result<u64> {
    let this = env::current_exe()?;
    let of = |times: u64| {
        let times = times.to_string();
        let variables = [(TASK, name), (TIMES, times.as_str())];
        count(&this, &variables)
    };
    Ok((of(1 + REPEATED)? - of(1)?) / REPEATED)
}

fn count(program: &Path, variables: &[(&str, &str)]) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        // The length of the environment would be counted too.
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let output = valgrind.output().context("valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {told}", program.display());
    let collected = told.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = collected.with_context(|| format!("valgrind has counted nothing: {told}"))?;
    Ok(count.trim().parse()?)
}
