//! Every system call failing once: ADD succeeds or leaves nothing; DEL removes the interface, and
//! GC removes it or says that it could not; the next DEL or GC removes whatever is left; and CHECK
//! changes nothing. Every failure is a CNI error.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{self, STRACE, Syscall};
use lab::plugin::{CniError, NoDocument};
use lab::serde_json::json;
use lab::{CrashInjector, Lan, Network, Node, Result, Test, World, network, test};

use super::script;
use crate::scenario::{conflist, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(whichever_syscall_fails_add_succeeds_or_leaves_nothing)
        .needs(&[STRACE])
        .within(Duration::from_secs(180)),
    test!(whichever_syscall_fails_check_changes_nothing)
        .needs(&[STRACE])
        .within(Duration::from_secs(180)),
    test!(whichever_syscall_fails_del_removes_the_interface)
        .needs(&[STRACE])
        .within(Duration::from_secs(180)),
    test!(whichever_syscall_fails_gc_removes_what_is_not_valid_or_fails)
        .needs(&[STRACE])
        .within(Duration::from_secs(180)),
];

/// Everything that can fail for want of something, or because a file or a socket does. Without
/// memory, Rust ends the process.
const CALLS: &str = "socket,bind,connect,setsockopt,sendto,recvfrom,?open,openat,read,write,\
                     ?readlink,?stat,statx,newfstatat,fstatfs,getdents64,ioctl,flock,fcntl,?poll,\
                     setns,clone,clone3,?vfork,pipe2,wait4,getrandom";

/// A network whose macvlan can be made to fail, with an IPAM plugin that has a file for each
/// container, which is empty once the address is given back.
struct Faults<'a> {
    injector: CrashInjector,
    network: Network<'a>,
    leases: PathBuf,
}

impl Faults<'_> {
    fn new<'a>(world: &World, lan: &'a Lan) -> Result<Faults<'a>> {
        let leases = world.dir().join("leases");
        fs::create_dir(&leases)?;
        let body = format!(
            "cat >/dev/null; lease={}/$CNI_CONTAINERID\n\
             case $CNI_COMMAND in\n\
             ADD) echo held >$lease; echo '{}';;\n\
             DEL) : >$lease;;\n\
             esac\n",
            leases.display(),
            json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.99.0.60/24" }] }),
        );
        let mut path = script(world, "files", &body)?;
        let injector = CrashInjector::new(world, "macvlan", CALLS)?;
        path.insert(0, injector.folder());
        // With a guard, all system calls are made that an ADD without one makes, and more.
        let keys = json!({ "ipam": { "type": "files" }, "guard": { "allow": [] } });
        let mut conflist = conflist(keys);
        conflist["cniVersion"] = json!("1.1.0");
        Ok(Faults {
            injector,
            network: Network::with_path(&lan.host, conflist, path),
            leases,
        })
    }

    fn ensure_no_lease(&self) -> Result {
        for lease in fs::read_dir(&self.leases)? {
            let path = lease?.path();
            ensure!(
                fs::read(&path)?.is_empty(),
                "{} is not given back",
                path.display()
            );
        }
        Ok(())
    }
}

/// Whether the plugin succeeded. Its failure must be a CNI error: one document.
fn is_success<T>(outcome: Result<T>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.downcast_ref::<CniError>().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Like [`is_success`], with the plugin's death at a system call for which it has to end.
fn is_success_or_death<T>(syscall: &Syscall, outcome: Result<T>) -> Result<bool> {
    match outcome {
        Err(error) if is_way_back(syscall) && error.is::<NoDocument>() => Ok(false),
        outcome => is_success(outcome),
    }
}

/// Whether the system call is the way back from a namespace, without which whatever follows would
/// be done in the wrong one. Each visit tries whether it can come back, enters, and returns.
fn is_way_back((name, nth): &Syscall) -> bool {
    name == "setns" && nth % 3 == 0
}

/// The guard may be left, which does no harm without the interface.
fn ensure_no_interface(container: &Node) -> Result {
    let links = container.links()?;
    ensure!(links.len() == 1, "left behind: {links:?}");
    Ok(())
}

fn whichever_syscall_fails_add_succeeds_or_leaves_nothing(world: &World) -> Result {
    let lan = Lan::new()?;
    let faults = Faults::new(world, &lan)?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let add = || is_success(faults.network.add(&attachment));
    let syscalls = faults.injector.syscalls(add)?;
    faults.network.del(&attachment)?;
    for (syscall, error) in crash_injector::faults(syscalls, 0) {
        let add = || match faults.network.add(&attachment) {
            // The result itself could not be written.
            Err(error) if syscall.0 == "write" && error.is::<NoDocument>() => Ok(false),
            outcome => is_success_or_death(&syscall, outcome),
        };
        let outcome = || -> Result {
            if faults.injector.fail_at(&syscall, error, add)? {
                let alias = container.link("eth0")?.alias;
                ensure!(
                    alias.as_deref() == Some("leasehold:eth0/c1/lan"),
                    "not marked as finished: {alias:?}"
                );
            } else if !is_way_back(&syscall) {
                ensure_nothing_left(&container)?;
                faults.ensure_no_lease()?;
            }
            faults
                .injector
                .undisturbed(|| faults.network.del(&attachment))?;
            ensure_nothing_left(&container)?;
            faults.ensure_no_lease()
        };
        outcome().with_context(|| format!("{syscall:?} failed with {error}"))?;
    }
    Ok(())
}

fn whichever_syscall_fails_check_changes_nothing(world: &World) -> Result {
    let lan = Lan::new()?;
    let faults = Faults::new(world, &lan)?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let check = || is_success(faults.network.check(&attachment));
    faults
        .injector
        .undisturbed(|| faults.network.add(&attachment))?;
    for (syscall, error) in crash_injector::faults(faults.injector.syscalls(check)?, 1) {
        let check_once = || is_success_or_death(&syscall, faults.network.check(&attachment));
        let outcome = || -> Result {
            faults.injector.fail_at(&syscall, error, check_once)?;
            faults
                .injector
                .undisturbed(|| faults.network.check(&attachment))
        };
        outcome().with_context(|| format!("{syscall:?} failed with {error}"))?;
    }
    Ok(())
}

fn whichever_syscall_fails_del_removes_the_interface(world: &World) -> Result {
    let lan = Lan::new()?;
    let faults = Faults::new(world, &lan)?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let add = || faults.network.add(&attachment);
    let del = || is_success(faults.network.del(&attachment));
    faults.injector.undisturbed(add)?;
    for (syscall, error) in crash_injector::faults(faults.injector.syscalls(del)?, 2) {
        let outcome = || -> Result {
            faults.injector.undisturbed(add)?;
            let deleted = || Ok(faults.network.del(&attachment));
            let deleted = faults.injector.fail_at(&syscall, error, deleted)?;
            if !is_without_request(&deleted) && !is_way_back(&syscall) {
                ensure_no_interface(&container)?;
            }
            is_success_or_death(&syscall, deleted)?;
            faults
                .injector
                .undisturbed(|| faults.network.del(&attachment))?;
            ensure_nothing_left(&container)?;
            faults.ensure_no_lease()
        };
        outcome().with_context(|| format!("{syscall:?} failed with {error}"))?;
    }
    Ok(())
}

/// Whether the plugin could not read what it was asked to do.
fn is_without_request(outcome: &Result) -> bool {
    let error = outcome.as_ref().err();
    error
        .and_then(|error| error.downcast_ref::<CniError>())
        .is_some_and(|error| error.msg.contains("stdin"))
}

fn whichever_syscall_fails_gc_removes_what_is_not_valid_or_fails(world: &World) -> Result {
    let lan = Lan::new()?;
    let faults = Faults::new(world, &lan)?;
    let (stale, kept) = (lan.container("stale")?, lan.container("kept")?);
    let [gone, valid] = [&stale, &kept].map(network::Attachment::new);
    let add = |attachment| {
        faults
            .injector
            .undisturbed(|| faults.network.add(attachment))
    };
    let gc = || is_success(faults.network.gc(&[&valid]));
    add(&valid)?;
    add(&gone)?;
    for (syscall, error) in crash_injector::faults(faults.injector.syscalls(gc)?, 3) {
        let gc_once = || is_success_or_death(&syscall, faults.network.gc(&[&valid]));
        let outcome = || -> Result {
            ensure_nothing_left(&stale)?;
            add(&gone)?;
            if faults.injector.fail_at(&syscall, error, gc_once)? {
                ensure_no_interface(&stale)?;
            }
            kept.link("eth0")?;
            faults.injector.undisturbed(|| faults.network.gc(&[&valid]))
        };
        outcome().with_context(|| format!("{syscall:?} failed with {error}"))?;
    }
    Ok(())
}
