//! The pid file of the `-pidfile` flag.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::OFlags;

/// A pid file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the process id: only the number, as the Go daemon does.
    ///
    /// # Errors
    /// If the file cannot be written, or is a symbolic link or a named pipe.
    pub(crate) fn write(path: PathBuf) -> io::Result<PidFile> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path)
            .map_err(|error| {
                let what = format!("cannot write the pid file {}: {error}", path.display());
                io::Error::new(error.kind(), what)
            })?;
        write!(file, "{}", std::process::id())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_written_and_removed_and_no_link_is_followed() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("pid");
        let pidfile = PidFile::write(path.clone()).expect("a free path");
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text, std::process::id().to_string());
        drop(pidfile);
        assert!(!path.exists());

        let target = scratch.path().join("target");
        std::os::unix::fs::symlink(&target, &path).expect("a link");
        let error = PidFile::write(path).expect_err("a link").to_string();
        assert!(error.contains("/pid: "), "{error}");
        assert!(!target.exists());
    }
}
