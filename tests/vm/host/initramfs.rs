//! The guest's files, which it has in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use cpio::newc::{Builder, ModeFileType};
use lab::Result;
use lab::anyhow::{Context, ensure};

/// Files and directories to be written as a cpio archive, in which a directory precedes its
/// contents.
#[derive(Default)]
pub(super) struct Initramfs {
    entries: BTreeMap<PathBuf, Entry>,
}

enum Entry {
    Directory,
    File(Vec<u8>),
}

impl Initramfs {
    /// A directory, and those above it.
    pub(super) fn directory(&mut self, path: impl AsRef<Path>) {
        for directory in path
            .as_ref()
            .ancestors()
            .filter(|path| *path != Path::new("/"))
        {
            self.entries.insert(directory.to_owned(), Entry::Directory);
        }
    }

    /// A file, which may be executed.
    pub(super) fn file(&mut self, path: impl AsRef<Path>, content: Vec<u8>) {
        self.insert(path.as_ref(), Entry::File(content));
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        self.directory(path.parent().unwrap_or(Path::new("/")));
        self.entries.insert(path.to_owned(), entry);
    }

    /// A program of this machine's, without its debugging information, and the libraries that it is
    /// linked to.
    pub(super) fn program(&mut self, program: &Path, to: impl AsRef<Path>) -> Result {
        let scratch = tempfile::NamedTempFile::new()?;
        let status = Command::new("strip")
            .arg("-o")
            .arg(scratch.path())
            .arg(program)
            .status()
            .context("strip")?;
        ensure!(status.success(), "strip {}: {status}", program.display());
        self.file(to, fs::read(scratch.path())?);
        for library in libraries(program)? {
            self.file(
                &library,
                fs::read(&library).with_context(|| library.display().to_string())?,
            );
        }
        Ok(())
    }

    /// As the kernel reads it: cpio in the "newc" format, everything root's (its
    /// early-userspace/buffer-format.rst).
    pub(super) fn write(self, to: &Path) -> Result {
        let entries = self.entries.into_iter().map(|(path, entry)| {
            let (kind, content) = match entry {
                Entry::Directory => (ModeFileType::Directory, Vec::new()),
                Entry::File(content) => (ModeFileType::Regular, content),
            };
            let name = path.to_string_lossy();
            let header = Builder::new(name.trim_start_matches('/'))
                .mode(0o755)
                .set_mode_file_type(kind);
            (header, Cursor::new(content))
        });
        cpio::write_cpio(entries, BufWriter::new(File::create(to)?))?.flush()?;
        Ok(())
    }
}

/// The shared libraries of a program, with the loader; none if it is static, which ldd calls a
/// failure.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let listing = String::from_utf8(output.stdout)?;
    Ok(listing
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}
