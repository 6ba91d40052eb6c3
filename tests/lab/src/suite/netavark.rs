//! netavark, Podman's network backend, in Debian 13's version.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::ensure;

use super::packages::Package;
use crate::Result;

/// netavark, fetched beside the test binary.
pub const NETAVARK: Package = Package::new("dpkg", "dpkg-deb").then(fetch);

/// The command that runs it, with the C library that it was built for. The programs that it runs in
/// turn use the machine's.
///
/// # Errors
/// When the test does not say that it needs [`NETAVARK`].
pub fn command() -> Result<Command> {
    let directory = directory()?;
    ensure!(
        directory.join("netavark").is_file(),
        "netavark is not there"
    );
    let mut command = Command::new(directory.join("loader"));
    command
        .arg("--library-path")
        .arg(&directory)
        .arg(directory.join("netavark"));
    Ok(command)
}

fn fetch() -> Result {
    if command().is_ok() {
        return Ok(());
    }
    let mut command = Command::new("sh");
    command
        .args(["-c", include_str!("netavark.sh"), "netavark.sh"])
        .arg(directory()?)
        .stdin(Stdio::null());
    let status = command.status()?;
    ensure!(
        status.success(),
        "fetching Debian 13's package netavark failed: {status}"
    );
    Ok(())
}

fn directory() -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("netavark"))
}
