//! A machine for one test: the real one's files, or those of a bare Debian, under a layer that takes
//! all that is written, so that runtimes can be installed and configured where they really look, in
//! `/etc`, `/opt` and `/usr`.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::anyhow::{Context, ensure};
use lab::{Result, World, suite};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

/// Where the repository's files are on the machine: commands of the documentation are run from
/// here.
pub(crate) const CHECKOUT: &str = "/usr/src/leasehold";

/// Below the checkout: the programs under test, where cargo puts a release.
pub(crate) fn programs() -> String {
    format!("target/{}-unknown-linux-musl/release", env::consts::ARCH)
}

/// What the real machine may have of all this, and the new one is not to have.
const REMOVED: [&str; 8] = [
    "etc/cni",
    "etc/containers/containers.conf",
    "etc/containers/containers.conf.d",
    "etc/containers/storage.conf",
    "opt/cni",
    "usr/local/lib/systemd",
    "usr/src/leasehold",
    "tmp",
];

/// Directories on tmpfs: container runtimes put an overlay of their own there, and none goes upon
/// another.
const PLAIN: [&str; 4] = [
    "tmp",
    "var/lib/containers",
    "var/lib/containerd",
    "var/lib/cni",
];

/// Moves the calling process to a machine of its own. Only the world's `/run` comes along.
///
/// To be called before the test has started anything.
pub(crate) fn enter(world: &World) -> Result {
    enter_root(world, Path::new("/"))
}

/// Like [`enter`], with the files of another root file system.
pub(crate) fn enter_root(world: &World, lower: &Path) -> Result {
    let layer = world.dir().join("machine");
    let [root, upper, work] = ["root", "upper", "work"].map(|name| layer.join(name));
    for directory in [&root, &upper, &work] {
        fs::create_dir_all(directory)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    attach(
        "overlay",
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(&options),
    )?;
    for directory in REMOVED {
        let _ = fs::remove_dir_all(root.join(directory))
            .or_else(|_| fs::remove_file(root.join(directory)));
    }
    for directory in PLAIN {
        fs::create_dir_all(root.join(directory))?;
        attach(
            "tmpfs",
            &root.join(directory),
            Some("tmpfs"),
            MsFlags::empty(),
            None,
        )?;
    }
    for directory in ["dev", "proc", "run", "sys"] {
        attach(
            format!("/{directory}"),
            &root.join(directory),
            None,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None,
        )?;
    }
    // Version 2 alone, whatever the real machine has: runtimes refuse a mixture.
    unshare(CloneFlags::CLONE_NEWCGROUP).context("a cgroup namespace")?;
    attach(
        "cgroup2",
        &root.join("sys/fs/cgroup"),
        Some("cgroup2"),
        MsFlags::empty(),
        None,
    )?;
    copy_checkout(&root.join(&CHECKOUT[1..]))?;

    let old = root.join(".old");
    fs::create_dir(&old)?;
    pivot_root(&root, &old).context("change the root directory")?;
    chdir("/")?;
    umount2("/.old", MntFlags::MNT_DETACH).context("let go of the old root directory")?;
    // As on any machine that systemd runs: what is mounted later appears in services and containers
    // that ask for it.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SHARED,
        None::<&str>,
    )?;
    Ok(())
}

/// Installs the plugins in a directory, with the command that the documentation gives for it.
pub(crate) fn install_plugins(directory: &str) -> Result {
    run(&[
        &format!("{CHECKOUT}/{}/dhcp", programs()),
        "install",
        directory,
    ])?;
    Ok(())
}

/// Runs a command, given as its words, and returns its standard output.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    output(
        Command::new(words[0])
            .args(&words[1..])
            .current_dir(CHECKOUT),
    )
}

/// Runs a command and returns its standard output; the error has all that it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

/// Writes a file, and the directories above it.
pub(crate) fn write(path: impl AsRef<Path>, content: &str) -> Result {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
    fs::write(path, content).with_context(|| path.display().to_string())
}

/// A file of the repository's.
pub(crate) fn checkout(path: &str) -> PathBuf {
    Path::new(CHECKOUT).join(path)
}

fn attach(
    what: impl AsRef<OsStr>,
    to: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result {
    let what = Path::new(what.as_ref());
    mount(Some(what), to, kind, flags, options)
        .with_context(|| format!("mount {} on {}", what.display(), to.display()))
}

/// What a release is made from: examples, packaging, and the programs under test.
fn copy_checkout(to: &Path) -> Result {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = to.join(programs());
    fs::create_dir_all(to)?;
    for part in [
        "examples",
        "packaging",
        "LICENSE",
        "CHANGELOG.md",
        "Cargo.toml",
    ] {
        output(Command::new("cp").arg("-a").arg(from.join(part)).arg(to))?;
    }
    copy_programs(&programs)
}

/// Copies the programs under test without their debugging information, as they are in a release.
pub(crate) fn copy_programs(to: &Path) -> Result {
    fs::create_dir_all(to)?;
    for program in ["macvlan", "dhcp"] {
        let (built, copy) = (suite::plugin_dir().join(program), to.join(program));
        output(Command::new("strip").arg("-o").arg(copy).arg(built))?;
    }
    Ok(())
}
