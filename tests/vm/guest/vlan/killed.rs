//! The plugin killed at every system call that concerns a VLAN: the next verb restores everything.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{CrashInjector, STRACE};
use lab::serde_json::json;
use lab::{Attachment, Network, Result, Test, World, test, until};

use super::{ID, NAME, Trunk};
use crate::guest::{SOON, conflist};

pub(super) const TESTS: &[Test] = &[
    test!(killed_at_any_syscall_add_can_be_repeated)
        .needs(&[STRACE])
        .within(TEST_TIMEOUT),
    test!(killed_at_any_syscall_add_leaves_nothing_after_del)
        .needs(&[STRACE])
        .within(TEST_TIMEOUT),
    test!(killed_at_any_syscall_del_can_be_repeated)
        .needs(&[STRACE])
        .within(TEST_TIMEOUT),
    test!(killed_at_any_syscall_del_does_not_block_other_containers)
        .needs(&[STRACE])
        .within(TEST_TIMEOUT),
    test!(killed_at_any_syscall_del_is_completed_by_gc)
        .needs(&[STRACE])
        .within(TEST_TIMEOUT),
];

/// For an emulated machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

/// Requests to the kernel, the lock, the end: what lies between two of these changes nothing.
const CALLS: &str = "sendto,flock,exit_group";

fn killed_at_any_syscall_add_can_be_repeated(world: &World) -> Result {
    after_each_step(world, "ADD", |trunk, attachment| {
        let network = trunk.network(json!({ "vlan": ID }));
        // One that had told its result must not be repeated, nor had it to be.
        match network.add(attachment) {
            Err(error) => ensure!(
                error.to_string().contains("an earlier ADD created it"),
                "{error}"
            ),
            Ok(_) => network.check(attachment)?,
        }
        trunk.ensure_host_has(&[NAME])?;
        let vlan = trunk.host().link(NAME)?;
        ensure!(
            vlan.up && vlan.alias.as_deref() == Some("leasehold:vlan") && vlan.group == 0,
            "{vlan:?}"
        );
        network.del(attachment)
    })
}

fn killed_at_any_syscall_add_leaves_nothing_after_del(world: &World) -> Result {
    after_each_step(world, "ADD", |trunk, attachment| {
        trunk.network(json!({ "vlan": ID })).del(attachment)
    })
}

fn killed_at_any_syscall_del_can_be_repeated(world: &World) -> Result {
    after_each_step(world, "DEL", |trunk, attachment| {
        trunk.network(json!({ "vlan": ID })).del(attachment)
    })
}

fn killed_at_any_syscall_del_does_not_block_other_containers(world: &World) -> Result {
    after_each_step(world, "DEL", |trunk, attachment| {
        let network = trunk.network(json!({ "vlan": ID }));
        let (container, second) = trunk.attached("c2", &network)?;
        network.check(&second)?;
        network.del(attachment)?;
        trunk.ensure_host_has(&[NAME])?;
        network.del(&second)?;
        container.remove()
    })
}

fn killed_at_any_syscall_del_is_completed_by_gc(world: &World) -> Result {
    after_each_step(world, "DEL", |trunk, _| trunk.gc(&[]))
}

/// Kills the plugin at each system call of a verb; after `remedy`, host and container must be as
/// before.
fn after_each_step(
    world: &World,
    verb: &str,
    remedy: impl Fn(&Trunk, &Attachment) -> Result,
) -> Result {
    let trunk = Trunk::new()?;
    let injector = CrashInjector::new(world, "macvlan", CALLS)?;
    let network = trunk.network(json!({ "vlan": ID }));
    let killed = Network::with_path(
        trunk.host(),
        conflist(json!({ "vlan": ID })),
        vec![injector.folder()],
    );
    let container = trunk.lan.container("c1")?;
    let attachment = Attachment::new(&container);
    let run = || {
        let outcome = killed
            .prepare(verb, 0, &attachment, None)?
            .run(trunk.host())?;
        // A link may still be deleted by a process that lives on.
        until("the plugin has ended", SOON, || !is_running("macvlan"))?;
        Ok(outcome.status.success())
    };
    let prepare = || {
        if verb == "DEL" {
            network.add(&attachment).map(|_| ())
        } else {
            Ok(())
        }
    };

    prepare()?;
    let syscalls = injector.syscalls(run)?;
    network.del(&attachment)?;
    ensure!(
        syscalls.len() > 10,
        "too few syscalls to be true: {syscalls:?}"
    );
    for syscall in syscalls {
        prepare()?;
        injector.kill_at(&syscall, run)?;
        remedy(&trunk, &attachment).with_context(|| format!("after {syscall:?}"))?;
        trunk
            .ensure_host_has(&[])
            .with_context(|| format!("after {syscall:?}"))?;
        ensure!(
            container.links()?.len() == 1,
            "after {syscall:?}: {:?}",
            container.links()?
        );
    }
    Ok(())
}

fn is_running(program: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        fs::read_link(process.path().join("exe"))
            .is_ok_and(|exe| exe.file_name() == Path::new(program).file_name())
    })
}
