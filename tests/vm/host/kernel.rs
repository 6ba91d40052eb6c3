//! The guest's kernel: the one that Debian builds for clouds, with the modules that the tests need.
//! It is fetched once, and not installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Result;
use lab::anyhow::{Context, ensure};
use lab::suite::packages;

/// Debian's name for whatever is its current one.
const CURRENT: &str = "linux-image-cloud-amd64";

/// What the guest has, and what that needs.
const MODULES: &[&str] = &[
    "8021q",
    "bonding",
    "bridge",
    "dummy",
    "ipvlan",
    "macvlan",
    "nf_tables",
    "nft_ct",
    "veth",
    "vrf",
];

pub(super) struct Kernel {
    pub(super) version: String,
    pub(super) image: PathBuf,
    folder: PathBuf,
}

impl Kernel {
    /// From where an earlier run has put it, or from Debian.
    pub(super) fn fetch() -> Result<Kernel> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the virtual machine is an x86-64, and these programs are not"
        );
        let package = packages::dependency(CURRENT, "linux-image-")?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&package);
        if !folder.is_dir() {
            unpack(&package, &folder).with_context(|| format!("fetch {package}"))?;
        }
        let version = package.trim_start_matches("linux-image-").to_owned();
        Ok(Kernel {
            image: folder.join("boot").join(format!("vmlinuz-{version}")),
            version,
            folder,
        })
    }

    /// The files of the modules, in an order in which they can be loaded.
    pub(super) fn modules(&self) -> Result<Vec<PathBuf>> {
        let mut files = BTreeMap::new();
        find_modules(&self.folder, &mut files)?;
        let mut order = Vec::new();
        for module in MODULES {
            add_with_dependencies(module, &files, &mut order)?;
        }
        Ok(order)
    }
}

/// Whole or not at all, also when somebody else does the same.
fn unpack(package: &str, folder: &Path) -> Result {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let archive = packages::download(package, scratch.path())?;
    let files = scratch.path().join("files");
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .arg(&archive)
        .arg(&files)
        .status()
        .context("dpkg-deb")?;
    ensure!(
        status.success(),
        "dpkg-deb -x {}: {status}",
        archive.display()
    );
    fs::rename(files, folder).or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })?;
    Ok(())
}

/// The modules below a directory, by name.
fn find_modules(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            find_modules(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            let name = path
                .file_stem()
                .context("a file has a name")?
                .to_string_lossy()
                .replace('-', "_");
            files.insert(name, path);
        }
    }
    Ok(())
}

fn add_with_dependencies(
    module: &str,
    files: &BTreeMap<String, PathBuf>,
    order: &mut Vec<PathBuf>,
) -> Result {
    let file = files
        .get(module)
        .with_context(|| format!("the kernel has no module {module}"))?;
    if order.contains(file) {
        return Ok(());
    }
    let modinfo = packages::find_program("modinfo").context("no modinfo")?;
    let output = Command::new(modinfo)
        .args(["-F", "depends"])
        .arg(file)
        .output()
        .context("modinfo")?;
    ensure!(
        output.status.success(),
        "modinfo {}: {}",
        file.display(),
        output.status
    );
    let depends = String::from_utf8(output.stdout)?;
    for dependency in depends.trim().split(',').filter(|name| !name.is_empty()) {
        add_with_dependencies(&dependency.replace('-', "_"), files, order)?;
    }
    order.push(file.clone());
    Ok(())
}
