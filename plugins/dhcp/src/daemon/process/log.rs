//! The daemon's log: to stderr, or, if a plugin started the daemon, to the journal or a file.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::prelude::*;

/// Logs to stderr.
pub(crate) fn to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
}

/// Detaches from the session and the descriptors of the process that started this one, and logs to
/// the journal or, if there is none, to the file `log` in `directory`. It must be called before
/// anything is opened.
pub(crate) fn detach(directory: &Path) -> io::Result<()> {
    close_inherited()?;
    // This fails for the leader of a process group, which has no terminal to detach from.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/")?;
    if let Ok(journal) = tracing_journald::layer() {
        tracing_subscriber::registry()
            .with(journal.with_syslog_identifier("cni-dhcp".into()))
            .init();
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(directory.join("log"))?;
    tracing_subscriber::fmt()
        .with_writer(Mutex::new(file))
        .with_ansi(false)
        .with_target(false)
        .init();
    Ok(())
}

/// Closes all descriptors except the standard ones.
fn close_inherited() -> io::Result<()> {
    let inherited: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in inherited {
        // This fails for the descriptor that listed the directory, which is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}
