//! cnitool, CNI's own caller: built from Debian's source package where it is not installed.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::packages::{Package, find_program};
use crate::Result;

/// cnitool, with what it takes to build it.
pub const CNITOOL: Package = Package::new("golang-go", "go").then(build);

/// The program: the installed one, or the one that an earlier run has built beside the test binary.
///
/// # Errors
/// When the test does not say that it needs [`CNITOOL`].
pub fn path() -> Result<PathBuf> {
    find_program("cnitool")
        .or_else(|| built().ok().filter(|file| file.is_file()))
        .context("cnitool is not there")
}

fn build() -> Result {
    if path().is_ok() {
        return Ok(());
    }
    let target = built()?;
    let mut command = Command::new("sh");
    command
        .args(["-c", include_str!("cnitool.sh"), "cnitool.sh"])
        .arg(&target)
        .stdin(Stdio::null());
    let status = command.status().context("run sh")?;
    ensure!(
        status.success(),
        "building cnitool from Debian's source package golang-github-appc-cni failed: {status}"
    );
    Ok(())
}

fn built() -> Result<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.with_file_name("cnitool"))
}
