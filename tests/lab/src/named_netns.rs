//! Network namespaces with a name in the file system, as `ip netns add` makes them.

use std::{
    fs::{File, remove_file},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
};

use anyhow::Context;
use linknet::Netns;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::Result;

/// Makes a network namespace and mounts it on a new, empty file at `path`. It exists until
/// [`remove`] even if no process is in it.
///
/// # Errors
/// When the file exists already, or the caller may not make namespaces.
pub(crate) fn create(path: &Path) -> Result<Netns> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    // Only the thread that calls unshare(2) changes its namespace, so a short-lived one does.
    let mounted = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let own = "/proc/thread-self/ns/net";
            let none = None::<&str>;
            mount(Some(own), path, none, MsFlags::MS_BIND, none)
        });
        thread.join().expect("the thread does not panic")
    });
    if let Err(errno) = mounted {
        // An empty file is harmless, and the refusal matters more than a failure to remove it.
        let _ = remove_file(path);
        return Err(errno).with_context(|| format!("make a namespace at {}", path.display()));
    }
    Ok(Netns::open(path)?)
}

/// Removes the name. The namespace exists until nothing else refers to it.
///
/// # Errors
/// When nothing is mounted there, or the file cannot be removed.
pub(crate) fn remove(path: &Path) -> Result {
    umount2(path, MntFlags::MNT_DETACH)?;
    Ok(remove_file(path)?)
}
