//! Leases on disk: one readable file each, so that they outlive the daemon.
//!
//! ```text
//! STATEDIR/lock                              held by the daemon for as long as it lives
//! STATEDIR/NETWORK/CONTAINERID:IFNAME.json   a lease, or the memory of one
//! ```
//!
//! A file is written beside its place and renamed, so what is read is whole. Nothing is synced to
//! the disk: after a power cut there are no containers left, and all that a file could still tell
//! is who had which address.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cni::Attachment;
use dhcp4::Lease;
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::protocol::{DEFAULT_SOCKET, Terms};

/// Version of the files.
const VERSION: u32 = 1;

/// What a file says of a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    /// The boot in which it was written: the lease's times count from then.
    boot_id: String,
    /// Whose it is.
    pub(crate) attachment: Attachment,
    /// Whether the address is still ours.
    pub(crate) standing: Standing,
    /// Where the interface is.
    pub(crate) place: Place,
    /// What was asked for.
    pub(crate) terms: Terms,
    /// The lease.
    pub(crate) lease: Lease,
    /// Where the server, or the relay before it, was last heard.
    #[serde(
        default,
        with = "crate::place::optional_mac",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) server_mac: Option<linknet::Mac>,
    /// The daemon cannot find the netns by its path, and keeps it open until DEL or GC. With the
    /// daemon it is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    netns_kept: bool,
    /// When the lease ends, by the calendar; absent for one without end.
    #[serde(default, with = "calendar", skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<SystemTime>,
}

/// Whether an address is still ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// It is.
    Held,
    /// The container is gone, or was taken off the network while no daemon ran: the server has not
    /// been told.
    Left,
    /// No longer. The container is still there, and another is sought for it.
    Lost,
    /// It was given back; kept to ask for the same one again.
    Released,
}

impl Record {
    /// Reads a document that a daemon of this version has written.
    ///
    /// # Errors
    /// Why it cannot be understood.
    pub(crate) fn parse(document: &[u8]) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_slice(document).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!(
                "it is of version {version}, and this daemon knows version {VERSION}"
            ));
        }
        serde_json::from_slice(document).map_err(|error| error.to_string())
    }

    /// A lease that is held, as of now.
    pub(crate) fn new(
        attachment: Attachment,
        place: Place,
        terms: Terms,
        lease: Lease,
        server_mac: Option<linknet::Mac>,
    ) -> Record {
        let now = dhcp4::Instant::from_boot(linknet::boottime());
        Record {
            version: VERSION,
            boot_id: boot_id(),
            attachment,
            standing: Standing::Held,
            place,
            terms,
            expires: lease
                .remaining(now)
                .and_then(|left| SystemTime::now().checked_add(left)),
            lease,
            server_mac,
            netns_kept: false,
        }
    }

    /// The same lease of a container whose netns has to be kept open, or not.
    pub(crate) fn with_netns_kept(self, netns_kept: bool) -> Record {
        Record { netns_kept, ..self }
    }

    /// The same lease, standing differently.
    pub(crate) fn now(self, standing: Standing) -> Record {
        Record { standing, ..self }
    }

    /// Whether it was written since the machine was started, so that its times and its netns still
    /// mean something.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot_id == boot_id()
    }

    /// Whether the lease has ended by the calendar.
    pub(crate) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|end| end <= SystemTime::now())
    }
}

/// The directory of one daemon's leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    directory: PathBuf,
}

/// The right to change a store, which the daemon has for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// The store of the daemon on this socket: the directory follows from the path, so that plugin
    /// and daemon agree and no two daemons share one.
    pub(crate) fn of_socket(socket: &Path) -> Store {
        let mut name = String::from("dhcp");
        if socket != Path::new(DEFAULT_SOCKET) {
            let path = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
            let path = path
                .to_string_lossy()
                .replace('%', "%25")
                .replace('/', "%2F");
            name = format!("dhcp@{path}");
        }
        Store::at(Path::new("/var/lib/cni").join(name))
    }

    /// A store in this directory.
    pub(crate) fn at(directory: PathBuf) -> Store {
        Store { directory }
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes the lock; `None` when somebody else has it.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        self.make(&self.directory)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.directory.join("lock"))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                writeln!(&file, "{}", std::process::id())?;
                Ok(Some(Lock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The process that has the lock, as far as it can be seen from here: it has written down its
    /// number, and the kernel, which counts in our pid namespace, confirms it.
    pub(crate) fn holder(&self) -> Option<rustix::process::Pid> {
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

    /// Whether a record could be written.
    pub(crate) fn can_write(&self) -> io::Result<()> {
        scratch_file(&self.directory)?.write_all(b"a block's worth is asked for by the first octet")
    }

    /// Writes a record, in place of the one that its attachment has.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let file = self.file(&record.attachment);
        let directory = self.directory.join(record.attachment.network());
        let mut document = serde_json::to_vec_pretty(record)?;
        document.push(b'\n');
        let mut scratch = match scratch_file(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make(&directory)?;
                scratch_file(&directory)?
            }
            other => other?,
        };
        scratch.write_all(&document)?;
        scratch.persist(file).map_err(|error| error.error)?;
        Ok(())
    }

    /// Reads the record of an attachment; `None` if it has none, or none that can be understood.
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

    /// All records. A file that cannot be understood is set aside under another name, and reported.
    pub(crate) fn load(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for network in entries(&self.directory)? {
            if !network.is_dir() {
                continue;
            }
            for file in entries(&network)? {
                match file.extension() {
                    Some(kind) if kind == "json" => match self.understand(&file) {
                        Ok(record) => records.push(record),
                        Err(problem) => set_aside(&file, &problem),
                    },
                    // Half written by a daemon that was killed: of no use, and in nobody's way if
                    // it stays.
                    Some(kind) if kind == "new" => drop(fs::remove_file(&file)),
                    _ => {}
                }
            }
        }
        Ok(records)
    }

    fn understand(&self, file: &Path) -> Result<Record, String> {
        let document = fs::read(file).map_err(|error| error.to_string())?;
        let record = Record::parse(&document)?;
        if self.file(&record.attachment) == file {
            Ok(record)
        } else {
            Err(format!(
                "it tells of another attachment, {:?}",
                record.attachment
            ))
        }
    }

    /// Where the record of an attachment is.
    pub(crate) fn file(&self, attachment: &Attachment) -> PathBuf {
        // Neither an identifier nor an interface's name can have a colon or a slash in it.
        let name = format!("{}:{}.json", attachment.container_id(), attachment.ifname());
        self.directory.join(attachment.network()).join(name)
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
    }
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
    tracing::error!(file = %file.display(), aside = %aside.display(), "a lease's file is set aside: {problem}");
    if let Err(error) = fs::rename(file, &aside) {
        tracing::error!(file = %file.display(), %error, "it could not be renamed");
    }
}

/// The kernel's name for this boot.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Points in time as people write them (RFC 3339).
mod calendar {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(&humantime::format_rfc3339_seconds(*time)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_rfc3339(&text).map_err(de::Error::custom))
            .transpose()
    }
}
