//! The files of a daemon's leases, and the directory that they are in.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use cni::Attachment;

use super::record::Record;
use crate::protocol::DEFAULT_SOCKET;

/// The directory of one daemon's leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    directory: PathBuf,
}

/// The right to change the leases, which the daemon has for as long as it runs.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateDir {
    /// The default directory of the daemon on this socket. It follows from the socket's path, so
    /// that plugin and daemon agree on it and no two daemons share one.
    pub(crate) fn of_socket(socket: &Path) -> StateDir {
        let mut name = String::from("dhcp");
        if socket != Path::new(DEFAULT_SOCKET) {
            let path = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
            let path = path
                .to_string_lossy()
                .replace('%', "%25")
                .replace('/', "%2F");
            name = format!("dhcp@{path}");
        }
        StateDir::at(Path::new("/var/lib/cni").join(name))
    }

    /// This directory.
    pub fn at(directory: PathBuf) -> StateDir {
        StateDir { directory }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Takes the lock; `None` if another process has it.
    ///
    /// # Errors
    /// If the directory or the file in it cannot be used.
    pub(crate) fn lock(&self) -> io::Result<Option<StateLock>> {
        create(&self.directory)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.directory.join("lock"))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                writeln!(&file, "{}", std::process::id())?;
                Ok(Some(StateLock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The process that has the lock, if it is visible in our pid namespace: it has written its pid
    /// into the file, and the kernel's list of locks confirms it.
    pub(crate) fn lock_holder(&self) -> Option<rustix::process::Pid> {
        let path = self.directory.join("lock");
        let pid: i32 = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        let inode = fs::metadata(&path).ok()?.ino();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        // `1: FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF` (proc_locks(5)).
        let confirmed = locks.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&"FLOCK")
                && words.get(4) == Some(&pid.to_string().as_str())
                && words.get(5).and_then(|file| file.rsplit(':').next()) == Some(&inode.to_string())
        });
        rustix::process::Pid::from_raw(pid).filter(|_| confirmed)
    }

    /// Tries whether a record could be written.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn can_write(&self) -> io::Result<()> {
        scratch_file(&self.directory)?.write_all(b"any octet takes a block of the disk")
    }

    /// Writes a record in place of the one that its attachment has.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let file = self.file(&record.attachment);
        let directory = self.directory.join(record.attachment.network());
        let mut document = serde_json::to_vec_pretty(record)?;
        document.push(b'\n');
        let mut scratch = match scratch_file(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(&directory)?;
                scratch_file(&directory)?
            }
            other => other?,
        };
        scratch.write_all(&document)?;
        scratch.persist(file).map_err(|error| error.error)?;
        Ok(())
    }

    /// Reads the record of an attachment; `None` if it has none, or an unreadable one.
    pub(crate) fn read(&self, attachment: &Attachment) -> io::Result<Option<Record>> {
        match fs::read(self.file(attachment)) {
            Ok(document) => Ok(Record::parse(&document).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the record of an attachment, if it has one.
    pub(crate) fn remove(&self, attachment: &Attachment) -> io::Result<()> {
        match fs::remove_file(self.file(attachment)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads all records. An unreadable file is renamed, and logged.
    pub(crate) fn load(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for network in entries(&self.directory)? {
            if !network.is_dir() {
                continue;
            }
            for file in entries(&network)? {
                match file.extension() {
                    Some(kind) if kind == "json" => match self.read_file(&file) {
                        Ok(record) => records.push(record),
                        Err(problem) => set_aside(&file, &problem),
                    },
                    // Half written by a daemon that was killed. It does no harm if it stays.
                    Some(kind) if kind == "new" => drop(fs::remove_file(&file)),
                    _ => {}
                }
            }
        }
        Ok(records)
    }

    fn read_file(&self, file: &Path) -> Result<Record, String> {
        let document = fs::read(file).map_err(|error| error.to_string())?;
        let record = Record::parse(&document)?;
        if self.file(&record.attachment) == file {
            Ok(record)
        } else {
            Err(format!(
                "its content is for another attachment, {}",
                record.attachment
            ))
        }
    }

    /// The path of an attachment's record.
    pub fn file(&self, attachment: &Attachment) -> PathBuf {
        // Neither identifiers nor interface names contain a colon or a slash.
        let name = format!("{}:{}.json", attachment.container_id(), attachment.ifname());
        self.directory.join(attachment.network()).join(name)
    }
}

fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

fn scratch_file(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".")
        .suffix(".new")
        .tempfile_in(directory)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn set_aside(file: &Path, problem: &str) {
    let aside = file.with_added_extension("unreadable");
    tracing::error!(file = %file.display(), aside = %aside.display(), "setting an unreadable lease file aside: {problem}");
    if let Err(error) = fs::rename(file, &aside) {
        tracing::error!(file = %file.display(), %error, "cannot rename an unreadable lease file");
    }
}
