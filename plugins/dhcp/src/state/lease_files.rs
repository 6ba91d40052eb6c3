//! The files of a daemon's leases, and the directory that they are in.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni::Attachment;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::record::Record;
use crate::protocol::DEFAULT_SOCKET;

/// The directory of one daemon's leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    directory: PathBuf,
}

/// The longest name of a file or directory, in octets.
const NAME_MAX: usize = 255;

/// The directory of leases whose names do not fit into a path, or that are those of the daemon's
/// own files. No network can be called so, and earlier releases, which cannot write such leases,
/// leave what is in it alone.
const HASHED: &str = "@";

/// The daemon's own files in the directory.
const OWN_FILES: [&str; 2] = ["lock", "log"];

/// What ends the name of a directory that is beside its socket.
const BESIDE_SOCKET: &str = "leases";

/// Reads records, and passes each on at once: there may be thousands.
struct Loader<F> {
    each: F,
    /// Files and directories that could not be read, which says nothing about their content.
    unread: Vec<PathBuf>,
}

/// The right to change the leases. A daemon has it for as long as it runs, and a plugin that finds no
/// daemon for a moment.
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

    /// The directory beside the socket, for a daemon in a container that has nothing else of the
    /// host's files. It does not outlive the boot, and neither do containers.
    pub(crate) fn beside_socket(socket: &Path) -> StateDir {
        StateDir::at(socket.with_extension(BESIDE_SOCKET))
    }

    /// Whether it is called like such a directory.
    pub(crate) fn is_beside_socket(&self) -> bool {
        let extension = self.directory.extension();
        extension.is_some_and(|extension| extension == BESIDE_SOCKET)
    }

    /// The default directory, or the one beside the socket if only that is there.
    pub(crate) fn found(socket: &Path) -> StateDir {
        let (default, beside) = (StateDir::of_socket(socket), StateDir::beside_socket(socket));
        match !default.directory.exists() && beside.directory.exists() {
            true => beside,
            false => default,
        }
    }

    /// This directory.
    pub fn at(directory: PathBuf) -> StateDir {
        StateDir { directory }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Takes the lock for a daemon; `None` if another process has it. The file names the daemon
    /// afterwards, unless nothing can be written.
    ///
    /// # Errors
    /// If the directory or the file in it cannot be used. That nothing can be written is no error.
    pub(crate) fn lock(&self) -> io::Result<Option<StateLock>> {
        create(&self.directory)?;
        let opened = self.open_lock(File::options().write(true).create(true).truncate(false));
        let file = match opened {
            // A lock needs no right to write.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                self.open_lock(File::options().read(true))?
            }
            opened => opened?,
        };
        let lock = locked(file.try_lock(), file)?;
        if let Some(StateLock { _file: file }) = &lock {
            let pid = format!("{}\n", std::process::id());
            // In place, which takes no other block of a disk that is full.
            if file.write_all_at(pid.as_bytes(), 0).is_ok() {
                let _ = file.set_len(pid.len() as u64);
            }
        }
        Ok(lock)
    }

    /// Takes the lock for a plugin, which shares it with other plugins, because they change other
    /// leases; `None` if a daemon has it.
    ///
    /// # Errors
    /// If the file cannot be used, or cannot be created.
    pub(crate) fn lock_shared(&self) -> io::Result<Option<StateLock>> {
        let file = match self.open_lock(File::options().read(true)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.open_lock(File::options().write(true).create(true).truncate(false))?
            }
            opened => opened?,
        };
        locked(file.try_lock_shared(), file)
    }

    fn open_lock(&self, options: &mut OpenOptions) -> io::Result<File> {
        options
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.directory.join("lock"))
    }

    /// The daemon that has the lock, if it is visible in our pid namespace: it has written its pid
    /// into the file, and the kernel's list of locks confirms it. Plugins of earlier releases wrote
    /// theirs too, and are known by their arguments.
    pub(crate) fn daemon_with_lock(&self) -> Option<rustix::process::Pid> {
        let path = self.directory.join("lock");
        let pid: i32 = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        let inode = fs::metadata(&path).ok()?.ino();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let confirmed = locks.lines().any(|line| is_lock_of(line, pid, inode));
        rustix::process::Pid::from_raw(pid).filter(|_| confirmed && !is_plugin(pid))
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
        let directory = file.parent().unwrap_or(&self.directory);
        let mut document = serde_json::to_vec_pretty(record)?;
        document.push(b'\n');
        let mut scratch = match scratch_file(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(directory)?;
                scratch_file(directory)?
            }
            other => other?,
        };
        scratch.write_all(&document)?;
        scratch.persist(&file).map_err(|error| error.error)?;
        Ok(())
    }

    /// Reads the record of an attachment; `None` if it has none, or one that is not valid.
    pub(crate) fn read(&self, attachment: &Attachment) -> io::Result<Option<Record>> {
        match read(&self.file(attachment)) {
            Ok(document) => Ok(Record::parse(&document).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound || is_no_file(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the record of an attachment, if it has one.
    pub(crate) fn remove(&self, attachment: &Attachment) -> io::Result<()> {
        let file = self.file(attachment);
        match fs::remove_file(&file) {
            // A file system that is read-only refuses to remove even what is not there.
            Err(error) if file.try_exists().ok() != Some(false) => Err(error),
            _ => Ok(()),
        }
    }

    /// The records that can be read. Other than [`StateDir::load`], this changes nothing, so that a
    /// process may do it that does not have the lock.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub(crate) fn records(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for directory in entries(&self.directory)? {
            if !directory.is_dir() {
                continue;
            }
            for file in entries(&directory).unwrap_or_default() {
                if is_record(&file)
                    && let Ok(document) = read(&file)
                    && let Ok(record) = self.parse(&file, &document)
                {
                    records.push(record);
                }
            }
        }
        Ok(records)
    }

    /// Reads all records, calls `each` for each of them, and returns the files and directories that
    /// cannot be read, which says nothing about their content.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub(crate) fn load(&self, each: impl FnMut(Record)) -> io::Result<Vec<PathBuf>> {
        let mut loader = Loader::new(each);
        let entries = entries(&self.directory).map_err(|error| {
            let directory = self.directory.display();
            io::Error::new(error.kind(), format!("cannot list {directory}: {error}"))
        })?;
        for entry in entries {
            match is_directory(&entry) {
                Ok(true) => self.load_directory(entry, &mut loader),
                Ok(false) => {}
                Err(error) => loader.read_later(entry, &error),
            }
        }
        Ok(loader.unread)
    }

    /// Like [`StateDir::load`], for files and directories that could not be read before.
    pub(crate) fn load_again(
        &self,
        unread: Vec<PathBuf>,
        each: impl FnMut(Record),
    ) -> Vec<PathBuf> {
        let mut loader = Loader::new(each);
        for path in unread {
            match is_directory(&path) {
                Ok(true) => self.load_directory(path, &mut loader),
                Ok(false) => self.load_file(path, &mut loader),
                Err(error) => loader.read_later(path, &error),
            }
        }
        loader.unread
    }

    fn load_directory(&self, directory: PathBuf, loader: &mut Loader<impl FnMut(Record)>) {
        match entries(&directory) {
            Ok(files) => {
                for file in files {
                    self.load_file(file, loader);
                }
            }
            Err(error) => loader.read_later(directory, &error),
        }
    }

    /// Reads a record. A file whose content is bad is renamed, and logged.
    fn load_file(&self, file: PathBuf, loader: &mut Loader<impl FnMut(Record)>) {
        if !is_record(&file) {
            if file.extension().is_some_and(|kind| kind == "new") {
                // Half written by a daemon that was killed. It does no harm if it stays.
                let _ = fs::remove_file(&file);
            }
            return;
        }
        match read(&file) {
            Ok(document) => match self.parse(&file, &document) {
                Ok(record) => (loader.each)(record),
                Err(problem) => set_aside(&file, &problem),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if is_no_file(&error) => {
                tracing::warn!(file = %file.display(), "ignoring what is not a regular file among the leases");
            }
            Err(error) => loader.read_later(file, &error),
        }
    }

    fn parse(&self, file: &Path, document: &[u8]) -> Result<Record, String> {
        let record = Record::parse(document)?;
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
        let network = attachment.network();
        if name.len() > NAME_MAX || network.len() > NAME_MAX || OWN_FILES.contains(&network) {
            let hash = Sha256::digest(attachment.to_string());
            return self
                .directory
                .join(HASHED)
                .join(format!("{}.lease", dhcp4::hex::encode(&hash)));
        }
        self.directory.join(network).join(name)
    }
}

impl<F> Loader<F> {
    fn new(each: F) -> Loader<F> {
        Loader {
            each,
            unread: Vec::new(),
        }
    }

    fn read_later(&mut self, path: PathBuf, error: &io::Error) {
        tracing::error!(path = %path.display(), %error, "cannot read leases, and will try again");
        self.unread.push(path);
    }
}

/// The lock on this file, if it was granted.
fn locked(outcome: Result<(), TryLockError>, file: File) -> io::Result<Option<StateLock>> {
    match outcome {
        Ok(()) => Ok(Some(StateLock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether the process is a plugin rather than a daemon, as far as that can be told: runtimes call
/// plugins without arguments.
fn is_plugin(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| {
        !arguments
            .split(|&octet| octet == 0)
            .any(|argument| argument == b"daemon")
    })
}

/// Whether the file has the name of a record.
fn is_record(file: &Path) -> bool {
    file.extension()
        .is_some_and(|kind| kind == "json" || kind == "lease")
}

/// Reads a regular file. Opening anything else, such as a named pipe, does not wait.
///
/// # Errors
/// As for [`fs::read`]; [`is_no_file`] if it is not a regular file.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(file)?;
    if !file.metadata()?.is_file() {
        return Err(Errno::NXIO.into());
    }
    let mut document = Vec::new();
    file.read_to_end(&mut document)?;
    Ok(document)
}

/// Whether an error of [`read`] says that something is not a regular file. The kernel says so of
/// sockets.
fn is_no_file(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
}

/// Whether a line of proc_locks(5) says that this process has an exclusive lock of this file:
/// `1: FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF`.
fn is_lock_of(line: &str, pid: i32, inode: u64) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.get(1) == Some(&"FLOCK")
        && words.get(3) == Some(&"WRITE")
        && words.get(4) == Some(&pid.to_string().as_str())
        && words.get(5).and_then(|file| file.rsplit(':').next()) == Some(&inode.to_string())
}

/// Whether this is a directory; false if it is gone.
fn is_directory(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exclusive_flock_of_the_process_on_the_file_confirms_a_daemon() {
        let line = "1: FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF";
        assert!(is_lock_of(line, 4711, 1234));
        for other in [
            "1: POSIX  ADVISORY  WRITE 4711 00:2a:1234 0 EOF",
            "1: FLOCK  ADVISORY  READ 4711 00:2a:1234 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 4712 00:2a:1234 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 4711 00:2a:1235 0 EOF",
            "1: -> FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF",
            "",
        ] {
            assert!(!is_lock_of(other, 4711, 1234), "{other}");
        }
    }

    #[test]
    fn what_is_gone_is_empty_and_what_cannot_be_listed_is_an_error() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let gone = scratch.path().join("gone");
        assert!(entries(&gone).expect("no error").is_empty());
        assert!(!is_directory(&gone).expect("no error"));
        let file = scratch.path().join("file");
        fs::write(&file, "").expect("writing");
        assert!(entries(&file).is_err());
        assert!(is_directory(&file.join("below a file")).is_err());
    }

    #[test]
    fn the_directory_beside_the_socket_is_used_if_only_that_is_there() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let socket = scratch.path().join("dhcp.sock");
        let beside = StateDir::beside_socket(&socket);
        assert!(beside.is_beside_socket());
        assert!(!StateDir::found(&socket).is_beside_socket());
        create(beside.path()).expect("creating");
        assert_eq!(StateDir::found(&socket).path(), beside.path());
    }

    #[test]
    fn a_record_is_known_by_its_name() {
        for (name, is_it) in [
            ("c1:eth0.json", true),
            ("0123.lease", true),
            ("c1:eth0.json.unreadable", false),
            (".abc.new", false),
            ("lock", false),
        ] {
            assert_eq!(is_record(Path::new(name)), is_it, "{name}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_an_error_and_a_record_that_is_not_there_is_none() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let record = crate::state::tests::record();
        let attachment = &record.attachment;
        let gone = StateDir::at(scratch.path().join("gone"));
        assert!(gone.can_write().is_err());
        assert_eq!(gone.read(attachment).expect("no error"), None);
        assert!(gone.remove(attachment).is_ok());
        let directory = StateDir::at(scratch.path().to_owned());
        assert!(directory.can_write().is_ok());
        assert!(directory.lock_shared().expect("no error").is_some());
        fs::write(scratch.path().join(attachment.network()), "in the way").expect("writing");
        assert!(directory.read(attachment).is_err());
        assert!(directory.write(&record).is_err());
    }
}
