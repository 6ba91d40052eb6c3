//! The pid file of the `-pidfile` flag.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A pid file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the process id: only the number, as the Go daemon does.
    pub(crate) fn write(path: PathBuf) -> io::Result<PidFile> {
        fs::write(&path, std::process::id().to_string())?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the pid file");
        }
    }
}
