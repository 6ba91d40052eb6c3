//! Every system call failing once: ADD succeeds or leaves nothing, DEL and GC remove the interface
//! or say that they could not, and the next one removes the rest, and CHECK changes nothing. Every
//! failure is a CNI error.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{STRACE, Syscall};
use lab::plugin::CniError;
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
    test!(whichever_syscall_fails_del_removes_the_interface_or_fails)
        .needs(&[STRACE])
        .within(Duration::from_secs(180)),
    test!(whichever_syscall_fails_gc_removes_what_is_not_valid_or_fails)
        .needs(&[STRACE])
        .within(Duration::from_secs(180)),
];

/// Everything that can fail for want of something, except the way back from a namespace: a process
/// that is in the wrong one ends at once.
const CALLS: &str = "socket,connect,sendto,recvfrom,openat,read,poll,ioctl,flock,vfork,\
                     clone3,pipe2,fcntl,wait4";

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

/// An error of the system call: `poll` has no EIO, at which Rust's start-up code ends the process.
fn error_of((name, _): &Syscall) -> &'static str {
    match name.as_str() {
        "poll" => "ENOMEM",
        _ => "EIO",
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
    for syscall in syscalls {
        let outcome = || -> Result {
            let add = || is_success(faults.network.add(&attachment));
            if faults.injector.fail_at(&syscall, "ENOMEM", add)? {
                let alias = container.link("eth0")?.alias;
                ensure!(
                    alias.as_deref() == Some("leasehold:eth0/c1/lan"),
                    "not marked as finished: {alias:?}"
                );
            } else {
                ensure_nothing_left(&container)?;
                faults.ensure_no_lease()?;
            }
            faults
                .injector
                .syscalls(|| is_success(faults.network.del(&attachment)))?;
            ensure_nothing_left(&container)?;
            faults.ensure_no_lease()
        };
        outcome().with_context(|| format!("{syscall:?} failed"))?;
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
        .syscalls(|| is_success(faults.network.add(&attachment)))?;
    for syscall in faults.injector.syscalls(check)? {
        let outcome = || -> Result {
            faults
                .injector
                .fail_at(&syscall, error_of(&syscall), check)?;
            faults.injector.syscalls(check)?;
            Ok(())
        };
        outcome().with_context(|| format!("{syscall:?} failed"))?;
    }
    Ok(())
}

fn whichever_syscall_fails_del_removes_the_interface_or_fails(world: &World) -> Result {
    let lan = Lan::new()?;
    let faults = Faults::new(world, &lan)?;
    let container = lan.container("c1")?;
    let attachment = network::Attachment::new(&container);
    let add = || is_success(faults.network.add(&attachment));
    let del = || is_success(faults.network.del(&attachment));
    faults.injector.syscalls(add)?;
    for syscall in faults.injector.syscalls(del)? {
        let outcome = || -> Result {
            faults.injector.syscalls(add)?;
            if faults.injector.fail_at(&syscall, error_of(&syscall), del)? {
                ensure_no_interface(&container)?;
            }
            faults.injector.syscalls(del)?;
            ensure_nothing_left(&container)?;
            faults.ensure_no_lease()
        };
        outcome().with_context(|| format!("{syscall:?} failed"))?;
    }
    Ok(())
}

fn whichever_syscall_fails_gc_removes_what_is_not_valid_or_fails(world: &World) -> Result {
    let lan = Lan::new()?;
    let faults = Faults::new(world, &lan)?;
    let (stale, kept) = (lan.container("stale")?, lan.container("kept")?);
    let [gone, valid] = [&stale, &kept].map(network::Attachment::new);
    let add = |attachment| {
        faults
            .injector
            .syscalls(|| is_success(faults.network.add(attachment)))
    };
    let gc = || is_success(faults.network.gc(&[&valid]));
    add(&valid)?;
    add(&gone)?;
    for syscall in faults.injector.syscalls(gc)? {
        let outcome = || -> Result {
            ensure_nothing_left(&stale)?;
            add(&gone)?;
            if faults.injector.fail_at(&syscall, error_of(&syscall), gc)? {
                ensure_no_interface(&stale)?;
            }
            kept.link("eth0")?;
            faults.injector.syscalls(gc)?;
            Ok(())
        };
        outcome().with_context(|| format!("{syscall:?} failed"))?;
    }
    Ok(())
}
