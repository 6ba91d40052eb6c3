//! The plugin killed at every step that concerns a VLAN: what is called next puts everything right.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::doomed::{Doomed, STRACE};
use lab::serde_json::json;
use lab::{Attachment, Network, Result, Test, World, test, until};

use super::{ID, NAME, Trunk};
use crate::guest::{SOON, conflist};

pub(super) const TESTS: &[Test] = &[
    test!(killed_at_any_step_add_can_be_repeated)
        .needs(&[STRACE])
        .within(LONG),
    test!(killed_at_any_step_add_leaves_nothing_after_del)
        .needs(&[STRACE])
        .within(LONG),
    test!(killed_at_any_step_del_can_be_repeated)
        .needs(&[STRACE])
        .within(LONG),
    test!(killed_at_any_step_del_is_in_nobodys_way)
        .needs(&[STRACE])
        .within(LONG),
    test!(killed_at_any_step_del_is_made_good_by_gc)
        .needs(&[STRACE])
        .within(LONG),
];

/// For an emulated machine.
const LONG: Duration = Duration::from_secs(180);

/// Requests to the kernel, the lock, the end: what lies between two of these changes nothing.
const CALLS: &str = "sendto,flock,exit_group";

fn killed_at_any_step_add_can_be_repeated(world: &World) -> Result {
    after_each_step(world, "ADD", |trunk, attachment| {
        let network = trunk.network(json!({ "vlan": ID }));
        // One that had told its result must not be repeated, nor had it to be.
        match network.add(attachment) {
            Err(error) => ensure!(
                error.to_string().contains("this ADD has been done"),
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

fn killed_at_any_step_add_leaves_nothing_after_del(world: &World) -> Result {
    after_each_step(world, "ADD", |trunk, attachment| {
        trunk.network(json!({ "vlan": ID })).del(attachment)
    })
}

fn killed_at_any_step_del_can_be_repeated(world: &World) -> Result {
    after_each_step(world, "DEL", |trunk, attachment| {
        trunk.network(json!({ "vlan": ID })).del(attachment)
    })
}

fn killed_at_any_step_del_is_in_nobodys_way(world: &World) -> Result {
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

fn killed_at_any_step_del_is_made_good_by_gc(world: &World) -> Result {
    after_each_step(world, "DEL", |trunk, _| trunk.gc(&[]))
}

/// Kills the plugin at each step of a verb; after `remedy`, host and container must be as before.
fn after_each_step(
    world: &World,
    verb: &str,
    remedy: impl Fn(&Trunk, &Attachment) -> Result,
) -> Result {
    let trunk = Trunk::new()?;
    let doomed = Doomed::new(world, "macvlan", CALLS)?;
    let network = trunk.network(json!({ "vlan": ID }));
    let killed = Network::with_path(
        trunk.host(),
        conflist(json!({ "vlan": ID })),
        vec![doomed.folder()],
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
    let steps = doomed.steps(run)?;
    network.del(&attachment)?;
    ensure!(steps.len() > 10, "too few steps to be true: {steps:?}");
    for step in steps {
        prepare()?;
        doomed.kill_at(&step, run)?;
        remedy(&trunk, &attachment).with_context(|| format!("after {step:?}"))?;
        trunk
            .ensure_host_has(&[])
            .with_context(|| format!("after {step:?}"))?;
        ensure!(
            container.links()?.len() == 1,
            "after {step:?}: {:?}",
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
