//! The driver killed at every system call: nothing is in the way of what Podman does next.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{STRACE, Syscall};
use lab::netavark::Container;
use lab::serde_json::{Value, json};
use lab::suite::netavark::NETAVARK;
use lab::{CrashInjector, Lan, Netavark, Node, Result, Test, World, test, until};

use super::{Podman, without_driver};
use crate::chaos::held_on_disk;
use crate::host_access::ensure_host_is_clean;
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(killed_at_any_syscall_a_setup_can_be_repeated)
        .needs(&[NETAVARK, STRACE])
        .within(Duration::from_secs(180)),
    test!(killed_at_any_syscall_a_teardown_can_be_repeated)
        .needs(&[NETAVARK, STRACE])
        .within(Duration::from_secs(180)),
    test!(killed_at_any_syscall_a_setup_with_a_lease_leaves_nothing)
        .needs(&[NETAVARK, STRACE])
        .within(Duration::from_secs(180)),
];

/// What the world can be changed by, or waited for with.
const CALLS: &str = "setns,socket,bind,connect,sendto,sendmsg,recvfrom,recvmsg,?open,openat,write,?vfork,clone,\
                     clone3,wait4,waitid,exit_group";

/// A host whose driver can be killed, and a network whose addresses Podman assigns.
struct Scene {
    lan: Lan,
    netavark: Netavark,
    injector: CrashInjector,
    network: Value,
}

impl Scene {
    fn new(world: &World) -> Result<Scene> {
        let lan = Lan::new()?;
        lan.host.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
        let injector = CrashInjector::new(world, "macvlan", CALLS)?;
        let netavark = Netavark::with_program(world, &injector.folder().join("macvlan"))?;
        let fields = json!({
            "subnets": [{ "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" }],
            "options": { "parent": Lan::MASTER, "hostAccess": "true" },
        });
        let network = lab::netavark::network("lan", without_driver(fields));
        Ok(Scene {
            lan,
            netavark,
            injector,
            network,
        })
    }

    fn container(&self, node: &Node) -> Container {
        let own = json!({ "static_ips": ["10.99.0.193"] });
        Container::new(node, &self.network, own)
    }

    fn setup(&self, container: &Container) -> Result {
        self.netavark.setup(&self.lan.host, container).map(drop)
    }

    fn teardown(&self, container: &Container) -> Result {
        self.netavark.teardown(&self.lan.host, container)
    }

    fn ensure_nothing_left(&self, node: &Node) -> Result {
        ensure_nothing_left(node)?;
        ensure_host_is_clean(&self.lan.host)
    }
}

/// The calls after the driver has read its document.
fn of_interest(mut syscalls: Vec<Syscall>) -> Result<Vec<Syscall>> {
    let first = syscalls.iter().position(|(call, _)| call == "setns");
    syscalls.drain(..first.context("it enters the container")?);
    ensure!(syscalls.len() > 10, "too few to be true: {syscalls:?}");
    Ok(syscalls)
}

fn killed_at_any_syscall_a_setup_can_be_repeated(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let counted = scene.lan.container("counted")?;
    let container = scene.container(&counted);
    let syscalls = scene
        .injector
        .syscalls(|| Ok(scene.setup(&container).is_ok()))?;
    scene.injector.undisturbed(|| scene.teardown(&container))?;
    let mut syscalls = of_interest(syscalls)?;
    // The last request marks the interface as finished, and netavark has its answer by then.
    let last = syscalls.iter().rposition(|(call, _)| call == "sendto");
    syscalls.truncate(last.context("it asks the kernel")? + 1);
    for syscall in syscalls {
        let node = scene.lan.container("web")?;
        let container = scene.container(&node);
        scene
            .injector
            .kill_at(&syscall, || Ok(scene.setup(&container).is_ok()))?;
        let again = || -> Result {
            scene.setup(&container)?;
            ensure!(node.links()?.len() == 2, "{:?}", node.links()?);
            scene.lan.host.ping("10.99.0.193".parse()?, SOON)?;
            scene.teardown(&container)?;
            scene.ensure_nothing_left(&node)
        };
        scene
            .injector
            .undisturbed(again)
            .with_context(|| format!("after {syscall:?}"))?;
        node.remove()?;
    }
    Ok(())
}

fn killed_at_any_syscall_a_teardown_can_be_repeated(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let counted = scene.lan.container("counted")?;
    let container = scene.container(&counted);
    scene.injector.undisturbed(|| scene.setup(&container))?;
    let syscalls = scene
        .injector
        .syscalls(|| Ok(scene.teardown(&container).is_ok()))?;
    for syscall in of_interest(syscalls)? {
        let node = scene.lan.container("web")?;
        let container = scene.container(&node);
        scene.injector.undisturbed(|| scene.setup(&container))?;
        scene
            .injector
            .kill_at(&syscall, || Ok(scene.teardown(&container).is_ok()))?;
        let again = || -> Result {
            scene.teardown(&container)?;
            scene.ensure_nothing_left(&node)
        };
        scene
            .injector
            .undisturbed(again)
            .with_context(|| format!("after {syscall:?}"))?;
        node.remove()?;
    }
    Ok(())
}

/// Podman tears nothing down after a setup that failed, but removes the namespace.
fn killed_at_any_syscall_a_setup_with_a_lease_leaves_nothing(world: &World) -> Result {
    let podman = Podman::new(world)?;
    let network = podman.network(json!({}))?;
    let injector = CrashInjector::new(world, "macvlan", CALLS)?;
    let netavark = Netavark::with_program(world, &injector.folder().join("macvlan"))?;
    let host = &podman.lan.host;
    let counted = podman.lan.container("counted")?;
    let container = Container::new(&counted, &network, json!({}));
    let syscalls = injector.syscalls(|| Ok(netavark.setup(host, &container).is_ok()))?;
    injector.undisturbed(|| netavark.teardown(host, &container))?;
    for syscall in of_interest(syscalls)? {
        let node = podman.lan.container("web")?;
        let container = Container::new(&node, &network, json!({}));
        injector.kill_at(&syscall, || Ok(netavark.setup(host, &container).is_ok()))?;
        node.remove()?;
        until("the lease has ended", SOON, || {
            held_on_disk().is_ok_and(|held| held.is_empty())
        })
        .with_context(|| format!("after {syscall:?}: {}", podman.daemon.log()))?;
        ensure_host_is_clean(host)?;
    }
    Ok(())
}
