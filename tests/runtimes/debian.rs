//! Bare Debian systems, of Debian's own packages: what somebody has who has just installed it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use lab::Result;
use lab::anyhow::{Context, anyhow};
use lab::suite::Package;

use crate::machine::output;

/// A release, with the packages that tests install on it. They are fetched with the rest, since a
/// test's machine is on a LAN of its own.
#[derive(Debug)]
pub(crate) struct Release {
    name: &'static str,
    fetched: &'static str,
}

pub(crate) const DEBIAN_12: Release = Release {
    name: "bookworm",
    fetched: "podman containernetworking-plugins dnsmasq-base",
};
pub(crate) const DEBIAN_13: Release = Release {
    name: "trixie",
    fetched: "containerd containernetworking-plugins podman crun catatonit",
};

/// What the root file systems are made with. It makes them once for a run.
pub(crate) const ROOTS: Package = Package::new("mmdebstrap", "mmdebstrap").then(make);

/// What a bare system has beyond the essential packages.
const INCLUDED: &str = "systemd-sysv,iproute2,sudo";

impl Release {
    /// The root file system, which is only read.
    pub(crate) fn root(&self) -> PathBuf {
        roots().join(self.name)
    }

    fn make(&self) -> Result {
        if self.root().exists() {
            return Ok(());
        }
        let unfinished = roots().join(self.name).with_extension("new");
        let _ = fs::remove_dir_all(&unfinished);
        let fetch = format!(
            "chroot \"$1\" apt-get --yes --download-only install {}",
            self.fetched
        );
        let mut command = Command::new("mmdebstrap");
        command.args([
            "--quiet",
            "--variant=minbase",
            &format!("--include={INCLUDED}"),
            // Smaller, and without questions about files that a test has written before.
            "--aptopt=APT::Install-Recommends \"false\"",
            "--dpkgopt=force-confold",
            "--dpkgopt=force-unsafe-io",
            &format!("--customize-hook={fetch}"),
            "--skip=cleanup/apt", // the lists, and what was fetched
            self.name,
        ]);
        output(command.arg(&unfinished).arg(mirror()?))?;
        fs::rename(&unfinished, self.root()).context("a finished root file system")
    }
}

/// The mirror that this machine installs from.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)"]);
    command.args(["Identifier: Packages", "Label: Debian"]);
    let mirrors = output(&mut command)?;
    let mirror = mirrors.lines().next();
    Ok(mirror.context("a mirror of Debian's")?.to_owned())
}

fn make() -> Result {
    fs::create_dir_all(roots())?;
    thread::scope(|scope| {
        let made = [DEBIAN_12, DEBIAN_13].map(|release| scope.spawn(move || release.make()));
        made.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the thread panicked")))
        })
    })
}

/// Removes the root file systems after the run.
pub(crate) fn remove() {
    let _ = fs::remove_dir_all(roots());
}

fn roots() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/debian"))
}
