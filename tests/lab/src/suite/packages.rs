//! Debian packages that tests need: installed by root's run, named by anybody else's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;

use crate::Result;

/// A Debian package, and a file by which one sees that it is installed.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    name: &'static str,
    file: &'static str,
    then: Option<fn() -> Result>,
}

impl Package {
    /// `file` is a program looked for in `PATH` and the `sbin` directories, or an absolute path.
    pub const fn new(name: &'static str, file: &'static str) -> Package {
        Package {
            name,
            file,
            then: None,
        }
    }

    /// With something to be made once the package is installed, unless it is there already.
    #[must_use]
    pub const fn then(self, make: fn() -> Result) -> Package {
        Package {
            then: Some(make),
            ..self
        }
    }

    fn is_installed(&self) -> bool {
        if self.file.starts_with('/') {
            Path::new(self.file).exists()
        } else {
            find_program(self.file).is_some()
        }
    }
}

/// `ip`, `ss`, `bridge`.
pub const IPROUTE2: Package = Package::new("iproute2", "ip");
/// The Go plugins: `host-local`, `static`, `tuning`, and those that ours replace.
pub const GO_PLUGINS: Package =
    Package::new("containernetworking-plugins", "/usr/lib/cni/host-local");

/// Sees to it that all of `needs` is there: installs as root what is missing.
///
/// # Errors
/// Naming the packages, and the command that installs them, when the caller is not root or apt-get
/// fails.
pub fn ensure(needs: &[Package]) -> Result {
    install(needs)?;
    let mut made = Vec::new();
    for package in needs {
        if let Some(make) = package.then
            && !made.contains(&package.name)
        {
            make()?;
            made.push(package.name);
        }
    }
    Ok(())
}

fn install(needs: &[Package]) -> Result {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!(
        "apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    ensure!(
        geteuid().is_root() && find_program("apt-get").is_some(),
        "tests of this run need Debian packages that are not installed: {}\ninstall them with: sudo {install}",
        missing.join(", ")
    );
    eprintln!("{install}");
    // The lists may never have been fetched on a bare machine, or be out of date: one update and
    // another try.
    if apt_get("install", &missing).is_err() {
        apt_get("update", &[])?;
        apt_get("install", &missing)?;
    }
    let missing = self::missing(needs);
    ensure!(
        missing.is_empty(),
        "installed, and still without the programs expected of them: {}",
        missing.join(", ")
    );
    Ok(())
}

/// A program's path: `PATH`, then the `sbin` directories, which an ordinary user's `PATH` may lack.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// What `package` depends on, of the names that begin like this: the current one of several
/// versions.
///
/// # Errors
/// When apt does not know of it: as root the lists of packages are fetched first.
pub fn dependency(package: &str, beginning: &str) -> Result<String> {
    let listed = || -> Result<Option<String>> {
        let output = Command::new("apt-cache")
            .env("LC_ALL", "C")
            .args(["depends", package])
            .output();
        let output = String::from_utf8(output.context("run apt-cache")?.stdout)?;
        let names = output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names
            .map(str::to_owned)
            .find(|name| name.starts_with(beginning)))
    };
    if let Some(name) = listed()? {
        return Ok(name);
    }
    update()?;
    listed()?.with_context(|| format!("apt knows of no package {package}"))
}

/// Fetches a package into a directory without installing it, and returns its file there.
///
/// # Errors
/// When apt-get cannot fetch it: as root also not with fresh lists of packages.
pub fn download(package: &str, to: &Path) -> Result<PathBuf> {
    let fetch = || -> Result {
        // apt's own user, for whom root would have it fetch, may not write there.
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", "APT::Sandbox::User=", "download", package])
            .current_dir(to);
        let status = command
            .stdin(Stdio::null())
            .status()
            .context("run apt-get")?;
        ensure!(status.success(), "apt-get download {package}: {status}");
        Ok(())
    };
    fetch().or_else(|_| update().and_then(|()| fetch()))?;
    let file = fs::read_dir(to)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(package.as_bytes()))
        });
    file.with_context(|| format!("apt-get download {package} has left no file"))
}

/// Fetches the lists of packages, which may never have been, or be out of date.
fn update() -> Result {
    ensure!(
        geteuid().is_root(),
        "the lists of packages may be out of date: sudo apt-get update"
    );
    apt_get("update", &[])
}

fn missing(needs: &[Package]) -> Vec<&'static str> {
    let mut missing: Vec<_> = needs
        .iter()
        .filter(|package| !package.is_installed())
        .map(|p| p.name)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn apt_get(verb: &str, packages: &[&str]) -> Result {
    let status = Command::new("apt-get")
        // Another test binary of the same run (nextest runs one process per test) may be at it
        // already.
        .args([
            "-qq",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-y",
            "--no-install-recommends",
            verb,
        ])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("run apt-get")?;
    if !status.success() {
        bail!("apt-get {verb} {}: {status}", packages.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_named_once() {
        let absent = Package::new("no-such-package", "/no/such/file");
        let present = Package::new("base-files", "/proc/self/exe");
        assert_eq!(missing(&[absent, present, absent]), ["no-such-package"]);
    }

    #[test]
    fn a_program_is_found_wherever_administrators_keep_it() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program"), None);
    }
}
