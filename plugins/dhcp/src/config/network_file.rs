//! A network's file in `/etc/leasehold/networks.d`: keys of the `ipam` section for callers that
//! cannot pass any, or not all of them.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cni::{Attachment, Error, code, json_problem};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde_json::{Map, Value};

use super::{Keys, Source, known_keys, location, misspelt, verify_server_keys};

/// Where the files are: that of the network `lan` is `lan.json`.
pub(crate) const DIRECTORY: &str = "/etc/leasehold/networks.d";

/// The ending of a file's name, after the network's.
const EXTENSION: &str = "json";

/// What a user reads who has no right to.
const UNREADABLE: &str = "no permission to read it: run this as root";

/// The longest file, in octets.
const MAX_LEN: u64 = 64 * 1024;

/// The keys in a network's file.
#[derive(Debug)]
pub(super) struct NetworkFile {
    path: PathBuf,
    keys: Map<String, Value>,
}

impl NetworkFile {
    /// Reads the file of the network with this name, which is valid; `None` if there is none.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7), naming the file, if it cannot be read or is no JSON object.
    pub(super) fn of_network(name: &str) -> Result<Option<NetworkFile>, Error> {
        NetworkFile::open(Path::new(DIRECTORY).join(format!("{name}.{EXTENSION}")))
    }

    fn open(path: PathBuf) -> Result<Option<NetworkFile>, Error> {
        match read(&path) {
            Ok(content) => NetworkFile::parse(path, &content).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
                Err(invalid(&path, "it is a link to a file that does not exist"))
            }
            // No file can have a name that is too long.
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    || Errno::from_io_error(&error) == Some(Errno::NAMETOOLONG) =>
            {
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(invalid(&path, UNREADABLE))
            }
            Err(error) => Err(invalid(&path, error)),
        }
    }

    /// The keys in the content of the file at `path`.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7), naming the file, if it is no JSON object.
    pub(super) fn parse(path: PathBuf, content: &[u8]) -> Result<NetworkFile, Error> {
        match serde_json::from_slice(content) {
            Ok(Value::Object(keys)) => Ok(NetworkFile { path, keys }),
            Ok(_) => Err(invalid(&path, "it contains no JSON object")),
            Err(error) => Err(invalid(&path, json_problem(&error))),
        }
    }

    /// Refuses keys with a bad value, even if a caller overrides them.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7), naming the file and the key.
    pub(super) fn verify(&self) -> Result<(), Error> {
        let source = self.source();
        let keys: Keys = source.decode(&self.keys)?;
        keys.verify(|_| source)?;
        verify_server_keys(source, &self.keys)?;
        self.verify_location()
    }

    /// Refuses a bad value of a key that says where the daemon is.
    ///
    /// # Errors
    /// As [`NetworkFile::verify`].
    pub(super) fn verify_location(&self) -> Result<(), Error> {
        self.source().decode::<location::Keys>(&self.keys).map(drop)
    }

    /// Adds the keys that a section lacks.
    pub(super) fn complete(&self, section: &mut Map<String, Value>) {
        for key in known_keys() {
            if let Some(value) = self.supplies(key, section) {
                section.insert(key.to_owned(), value.clone());
            }
        }
    }

    /// The value of a key, if a section lacks it.
    pub(super) fn supplies(&self, key: &str, section: &Map<String, Value>) -> Option<&Value> {
        match cni::go::get(section, key) {
            Some(_) => None,
            None => cni::go::get(&self.keys, key),
        }
    }

    /// The file as the source of keys.
    pub(super) fn source(&self) -> Source<'_> {
        Source::File(&self.path)
    }

    /// A sentence about each key that is none of the file's own. An error would break networks over
    /// a key that does no harm.
    pub(super) fn keys_without_effect(&self) -> Vec<String> {
        let path = self.path.display();
        let sentence = |(key, meant): (String, Option<&str>)| {
            let is_section = ["ipam", "plugins"]
                .iter()
                .any(|section| key.eq_ignore_ascii_case(section));
            match meant {
                Some(meant) => {
                    format!("{path}: there is no key {key:?}; did you mean {meant:?}?")
                }
                None if is_section => format!(
                    "{path}: {key:?} has no effect; the keys of the ipam section belong at the top of this file"
                ),
                None => format!(
                    "{path}: there is no key {key:?} of dhcp; a key of macvlan belongs in the network's configuration"
                ),
            }
        };
        let unknown = misspelt::unknown_keys(&self.keys);
        unknown.into_iter().map(sentence).collect()
    }
}

/// What is wrong with the files of all networks, as sentences that name the file.
pub(crate) fn problems() -> Vec<String> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return vec![format!("{DIRECTORY}: {UNREADABLE}")];
        }
        Err(error) => return vec![format!("{DIRECTORY}: {error}")],
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let is_ours = |path: &PathBuf| path.extension().is_some_and(|it| it == EXTENSION);
    let mut paths: Vec<PathBuf> = paths.filter(is_ours).collect();
    paths.sort();
    paths.into_iter().flat_map(problems_of).collect()
}

fn problems_of(path: PathBuf) -> Vec<String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    // The names of the container and its interface are any valid ones.
    if let Err(error) = Attachment::new("c", &*name, "eth0") {
        return vec![format!("{}: it is no network's: {error}", path.display())];
    }
    let checked = NetworkFile::open(path).and_then(|file| {
        // The file may be gone by now.
        let Some(file) = file else {
            return Ok(Vec::new());
        };
        file.verify()?;
        Ok(file.keys_without_effect())
    });
    checked.unwrap_or_else(|error| vec![error.to_string()])
}

/// Reads a regular file that is not too long. Anything else is not read, and not waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_LEN {
        let what = format!("it is longer than {} KiB", MAX_LEN / 1024);
        return Err(io::Error::other(what));
    }
    Ok(content)
}

fn invalid(path: &Path, problem: impl std::fmt::Display) -> Error {
    let path = path.display();
    Error::new(
        code::INVALID_NETWORK_CONFIG,
        format!("invalid network configuration: {path}: {problem}"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(path: &Path) -> String {
        let error = NetworkFile::open(path.to_owned()).expect_err("a bad file");
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
        let prefix = format!("invalid network configuration: {}: ", path.display());
        let problem = error.msg.strip_prefix(&prefix);
        problem.expect("the file's path").to_owned()
    }

    #[test]
    fn a_file_that_does_not_exist_or_cannot_is_none() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        for name in ["lan.json".to_owned(), "n".repeat(255) + ".json"] {
            let file = NetworkFile::open(directory.path().join(name)).expect("no error");
            assert!(file.is_none());
        }
    }

    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_waited_for() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("lan.json");
        for (target, problem) in [
            ("/dev/zero", "it is not a regular file"),
            ("/", "it is not a regular file"),
            (
                "lan.json",
                "Too many levels of symbolic links (os error 40)",
            ),
            ("nowhere", "it is a link to a file that does not exist"),
        ] {
            symlink(target, &path).expect("a link");
            assert_eq!(refused(&path), problem);
            fs::remove_file(&path).expect("it is there");
        }
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).expect("a FIFO");
        assert_eq!(refused(&path), "it is not a regular file");
    }

    #[test]
    fn a_file_that_is_too_long_or_no_object_is_refused() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("lan.json");
        let long = "{".to_owned() + &" ".repeat(MAX_LEN as usize - 1) + "}";
        for (content, problem) in [
            (long.as_str(), "it is longer than 64 KiB"),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[]", "it contains no JSON object"),
            ("{} {}", "trailing characters at line 1 column 4"),
        ] {
            fs::write(&path, content).expect("it is ours");
            assert_eq!(refused(&path), problem);
        }
        fs::write(&path, long.replacen(' ', "", 1)).expect("it is ours");
        assert!(NetworkFile::open(path).is_ok());
    }
}
