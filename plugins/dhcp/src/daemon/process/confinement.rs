//! The daemon takes from itself what it does not need, with Landlock (landlock(7)): writing to
//! files of others, mounting, running programs, TCP, and signals to other processes.
//!
//! Landlock also forbids to look into processes outside, and `/proc/PID/ns/net` needs just that.
//! Some runtimes name a container's network namespace so. A daemon with CAP_SYS_PTRACE can open it,
//! and therefore stays as it is: otherwise it could not renew such a lease after a restart. One
//! without, as the systemd unit and the Kubernetes manifest start it, cannot open it anyway.

use std::error::Error;
use std::path::{Path, PathBuf};

use attachment::HostLock;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

/// What the daemon does in the directory of its leases.
const KEEP_LEASES: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

/// Where the kernel's settings are, which `hostAccess` needs for the host's own macvlan.
const SETTINGS: &str = "/proc/sys/net";

/// A directory in which the daemon changes something, and what.
type Writable = (PathBuf, BitFlags<AccessFs>);

/// Confines the calling thread and the threads that it starts from now on, unless the daemon has
/// CAP_SYS_PTRACE or the kernel has no Landlock (5.13). Kernels before 6.12 confine it less. The
/// daemon keeps its leases in `state`, and removes the files in `removed` when it stops.
pub(crate) fn confine<'a>(state: &Path, removed: impl IntoIterator<Item = &'a Path>) {
    let sets = capabilities(None);
    if sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE)) {
        return;
    }
    let mut writable = own_directories(state, removed);
    writable.extend(directories_for_host_access());
    match restrict(&writable) {
        Ok(RulesetStatus::NotEnforced) => {}
        Ok(_) => tracing::info!("confined by Landlock: files of others are read-only"),
        Err(error) => tracing::warn!(%error, "cannot confine the daemon with Landlock"),
    }
}

fn own_directories<'a>(state: &Path, removed: impl IntoIterator<Item = &'a Path>) -> Vec<Writable> {
    let mut all = vec![(state.to_owned(), KEEP_LEASES)];
    all.extend(removed.into_iter().map(|file| {
        let directory = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        (directory.to_owned(), AccessFs::RemoveFile.into())
    }));
    all
}

fn directories_for_host_access() -> Vec<Writable> {
    let set = make_bitflags!(AccessFs::{ WriteFile | Truncate });
    let mut all = vec![(SETTINGS.into(), set)];
    // If it is missing and cannot be created, no hostAccess works either.
    if let Ok(directory) = HostLock::directory() {
        let lock = make_bitflags!(AccessFs::{ WriteFile | MakeReg });
        all.push((directory.to_owned(), lock));
    }
    all
}

/// Restricts the calling thread to these changes, or not at all.
fn restrict(writable: &[Writable]) -> Result<RulesetStatus, Box<dyn Error>> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_write(ABI::V7) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(ABI::V7))?
        .scope(Scope::Signal)?
        .create()?;
    for (directory, access) in writable {
        let open = match open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(open) => open,
            // What is not there cannot be changed.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        rules = rules.add_rule(PathBeneath::new(&open, *access))?;
        if directory == Path::new(SETTINGS) {
            // The rule is for an inode, and procfs makes another one once it has forgotten this.
            std::mem::forget(open);
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::Command;
    use std::thread;

    use linknet::Netns;

    use super::*;

    #[test]
    fn a_confined_daemon_changes_its_own_files_alone_and_runs_no_program() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let [state, run, elsewhere] = ["state", "run", "elsewhere"].map(|name| {
            let directory = scratch.path().join(name);
            fs::create_dir(&directory).expect("creating it");
            fs::write(directory.join("old"), "there before").expect("writing");
            directory
        });
        let writable = own_directories(&state, [&*run.join("old")]);
        let confined = move || {
            if restrict(&writable).expect("valid rules") == RulesetStatus::NotEnforced {
                return; // the kernel has no Landlock
            }
            fs::create_dir(state.join("lan")).expect("a network's directory");
            fs::write(state.join("lan/new"), "a lease").expect("a lease file");
            fs::rename(state.join("lan/new"), state.join("lan/lease")).expect("in its place");
            fs::remove_file(state.join("lan/lease")).expect("the lease ends");
            fs::remove_file(run.join("old")).expect("a file of its own");

            let is_denied = |outcome: std::io::Result<()>| {
                outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
            };
            let old = elsewhere.join("old");
            assert!(is_denied(fs::write(&old, "")));
            assert!(is_denied(fs::write(run.join("new"), "")));
            assert!(is_denied(fs::remove_file(&old)));
            assert!(is_denied(fs::rename(&old, state.join("old"))));
            assert!(is_denied(Command::new("/bin/true").spawn().map(drop)));
            assert_eq!(fs::read_to_string(old).expect("reading"), "there before");
            Netns::current().expect("its own process is none of the others");
        };
        // Landlock is for a thread, and for those that it starts.
        let outcome = thread::spawn(confined).join();
        outcome.expect("all of this holds");
    }

    #[test]
    fn a_directory_that_cannot_be_opened_now_does_not_become_read_only() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let state = scratch.path().to_owned();
        let outcome = thread::spawn(move || {
            let unusable = (state.join("x".repeat(300)), KEEP_LEASES);
            assert!(restrict(&[unusable]).is_err());
            fs::write(state.join("lease"), "").expect("nothing is forbidden");
        });
        outcome.join().expect("all of this holds");
    }
}
