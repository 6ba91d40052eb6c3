//! The pid file of the `-pidfile` flag.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A pid file that goes with the daemon.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the process id, as the Go daemon does: the number alone.
    pub(crate) fn write(path: PathBuf) -> io::Result<PidFile> {
        fs::write(&path, std::process::id().to_string())?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the pid file could not be removed");
        }
    }
}
