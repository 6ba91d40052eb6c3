//! The plugin killed at every system call of an ADD: the next ADD works, and DEL leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{STRACE, Syscall};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::plugin::DEBIANS_PLUGINS;
use lab::serde_json::{Value, json};
use lab::suite::packages;
use lab::{
    CrashInjector, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until,
};
use linknet::Route;

use crate::host_access::ensure_host_is_clean;
use crate::scenario::{SOON, Scenario, conflist, ensure_nothing_left, reported};

pub(super) const TESTS: &[Test] = &[
    test!(killed_at_any_syscall_add_can_be_repeated).needs(&[STRACE]),
    test!(killed_at_any_syscall_add_with_addresses_can_be_repeated)
        .needs(&[STRACE, packages::GO_PLUGINS])
        .within(Duration::from_secs(180)),
    test!(killed_at_any_syscall_add_in_mode_passthru_can_be_repeated).needs(&[STRACE]),
    test!(killed_at_any_syscall_add_leaves_nothing_after_del)
        .needs(&[STRACE, packages::GO_PLUGINS])
        .within(Duration::from_secs(180)),
    test!(killed_at_any_syscall_add_with_host_access_can_be_repeated)
        .needs(&[STRACE, packages::GO_PLUGINS])
        .within(Duration::from_secs(180)),
    test!(killed_at_any_syscall_add_with_host_access_leaves_nothing_after_del)
        .needs(&[STRACE, packages::GO_PLUGINS])
        .within(Duration::from_secs(180)),
    test!(killed_during_a_dhcp_exchange_add_can_be_repeated),
];

/// The IPAM plugin lives on without its caller, and the daemon goes on asking.
fn killed_during_a_dhcp_exchange_add_can_be_repeated(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = network::Attachment::new(&container);
    for silent_to in [MessageType::Discover, MessageType::Request] {
        server.when(silent_to).then(Reaction::silence());
        let before = server.received_of(silent_to).len();
        let killed = network
            .prepare("ADD", 0, &attachment, None)?
            .start(&scenario.lan.host)?;
        server.wait_for(silent_to, before + 1, SOON)?;
        killed.kill()?;
        server.behave();
        let result = network.add(&attachment)?;
        let leased = reported(&result, &container)?;
        network.check(&attachment)?;
        ensure!(
            server.leases().iter().any(|lease| lease.address == leased),
            "{:?}",
            server.leases()
        );
        network.del(&attachment)?;
        ensure_nothing_left(&container)?;
        until("every lease is given back", SOON, || {
            server.leases().is_empty()
        })?;
    }
    Ok(())
}

/// What the world can be changed by, or waited for with; memory and signals are nobody else's
/// business.
const CALLS: &str = "setns,socket,bind,connect,sendto,sendmsg,recvfrom,recvmsg,?open,openat,write,?vfork,clone,\
                     clone3,wait4,waitid,exit_group";

fn killed_at_any_syscall_add_can_be_repeated(world: &World) -> Result {
    add_again_after_each_step(world, json!({}))
}

fn killed_at_any_syscall_add_with_addresses_can_be_repeated(world: &World) -> Result {
    add_again_after_each_step(world, with_everything(world))
}

fn killed_at_any_syscall_add_in_mode_passthru_can_be_repeated(world: &World) -> Result {
    add_again_after_each_step(
        world,
        json!({ "mode": "passthru", "mac": "02:00:00:00:00:17" }),
    )
}

fn killed_at_any_syscall_add_with_host_access_can_be_repeated(world: &World) -> Result {
    add_again_after_each_step(
        world,
        json!({ "ipam": host_local(world), "hostAccess": ["10.99.0.0/24"] }),
    )
}

fn add_again_after_each_step(world: &World, keys: Value) -> Result {
    let lan = Lan::new()?;
    let scenario = CrashScenario::new(world, &lan, keys)?;
    let mut syscalls = scenario.syscalls()?;
    // The last request marks the interface as finished: the runtime has its result then, and an ADD
    // of what is complete is refused.
    let last = syscalls
        .iter()
        .rposition(|(call, _)| call == "sendto")
        .context("it asks the kernel")?;
    syscalls.truncate(last + 1);
    for syscall in syscalls {
        let container = scenario.container("c1")?;
        let attachment = network::Attachment::new(&container);
        scenario.add_until(&syscall, &container)?;
        let network = Network::new(&lan.host, scenario.conflist.clone());
        network
            .add(&attachment)
            .with_context(|| format!("again, after {syscall:?}"))?;
        ensure!(
            container.links()?.len() == 2,
            "after {syscall:?}: {:?}",
            container.links()?
        );
        network
            .check(&attachment)
            .with_context(|| format!("after {syscall:?}"))?;
        network
            .del(&attachment)
            .with_context(|| format!("after {syscall:?}"))?;
        scenario
            .ensure_nothing_left(&container)
            .with_context(|| format!("after {syscall:?}"))?;
        container.remove()?;
    }
    Ok(())
}

fn killed_at_any_syscall_add_leaves_nothing_after_del(world: &World) -> Result {
    del_after_each_step(world, with_everything(world))
}

fn killed_at_any_syscall_add_with_host_access_leaves_nothing_after_del(world: &World) -> Result {
    del_after_each_step(
        world,
        json!({ "ipam": host_local(world), "hostAccess": ["10.99.0.0/24"] }),
    )
}

fn del_after_each_step(world: &World, keys: Value) -> Result {
    let lan = Lan::new()?;
    let scenario = CrashScenario::new(world, &lan, keys)?;
    for syscall in scenario.syscalls()? {
        let container = scenario.container("c1")?;
        scenario.add_until(&syscall, &container)?;
        let network = Network::new(&lan.host, scenario.conflist.clone());
        network
            .del(&network::Attachment::new(&container))
            .with_context(|| format!("after {syscall:?}"))?;
        scenario
            .ensure_nothing_left(&container)
            .with_context(|| format!("after {syscall:?}"))?;
        container.remove()?;
    }
    Ok(())
}

/// Addresses, and what comes with them that would not go with the interface.
fn with_everything(world: &World) -> Value {
    json!({
        "ipam": host_local(world),
        "sourceRouting": true,
        "keepRoutes": ["10.42.0.0/16"],
        "refusedRoutes": [{ "dst": "10.43.0.0/16" }],
        "guard": { "allow": [] },
    })
}

/// It gives an attachment that has an address no second one, so that a forgotten DEL shows.
fn host_local(world: &World) -> Value {
    json!({
        "type": "host-local",
        "dataDir": store(world),
        "ranges": [[{ "subnet": "10.99.0.0/24", "gateway": "10.99.0.1" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    })
}

fn store(world: &World) -> PathBuf {
    world.dir().join("host-local")
}

/// ADDs of a plugin that is killed.
struct CrashScenario<'a> {
    lan: &'a Lan,
    conflist: Value,
    injector: CrashInjector,
    store: PathBuf,
}

impl<'a> CrashScenario<'a> {
    fn new(world: &World, lan: &'a Lan, keys: Value) -> Result<CrashScenario<'a>> {
        let injector = CrashInjector::new(world, "macvlan", CALLS)?;
        Ok(CrashScenario {
            lan,
            conflist: conflist(keys),
            injector,
            store: store(world),
        })
    }

    /// A container in which everything leads somewhere.
    fn container(&self, name: &str) -> Result<Node> {
        let container = self.lan.container(name)?;
        let everything: ipnet::IpNet = "0.0.0.0/0".parse()?;
        let route = Route {
            metric: 1000,
            ..Route::new(everything, container.link("lo")?.index)
        };
        container.netlink()?.add_route(&route)?;
        Ok(container)
    }

    /// Whether an ADD of the plugin has succeeded.
    fn add(&self, container: &Node) -> Result<bool> {
        let path = vec![self.injector.folder(), DEBIANS_PLUGINS.into()];
        let network = Network::with_path(&self.lan.host, self.conflist.clone(), path);
        let add = network.prepare("ADD", 0, &network::Attachment::new(container), None)?;
        Ok(add.run(&self.lan.host)?.status.success())
    }

    /// Every call that an ADD makes after it has read its configuration, in order.
    fn syscalls(&self) -> Result<Vec<Syscall>> {
        let container = self.container("counted")?;
        let mut syscalls = self.injector.syscalls(|| self.add(&container))?;
        let network = Network::new(&self.lan.host, self.conflist.clone());
        network.del(&network::Attachment::new(&container))?;
        container.remove()?;
        let first = syscalls
            .iter()
            .position(|(call, _)| call == "setns")
            .context("it enters the container")?;
        syscalls.drain(..first);
        ensure!(
            syscalls.len() > 10,
            "too few syscalls to be true: {syscalls:?}"
        );
        Ok(syscalls)
    }

    /// An ADD that is killed on entry to this call.
    fn add_until(&self, syscall: &Syscall, container: &Node) -> Result {
        self.injector.kill_at(syscall, || self.add(container))?;
        // What it was waiting for goes on without it, and must not be overtaken here.
        until("IPAM has ended", SOON, || !is_running("host-local"))
    }

    fn ensure_nothing_left(&self, container: &Node) -> Result {
        ensure_nothing_left(container)?;
        ensure_host_is_clean(&self.lan.host)?;
        let routes = container.routes()?;
        ensure!(routes.len() == 1, "routes: {routes:?}");
        let (_, mut refusing) = container.netlink()?.routes_and_refused()?;
        refusing.retain(|route| route.protocol == attachment::PROTOCOL);
        ensure!(refusing.is_empty(), "routes: {refusing:?}");
        let mut rules = container.netlink()?.rules()?;
        rules.retain(|rule| rule.protocol == attachment::PROTOCOL);
        ensure!(rules.is_empty(), "rules: {rules:?}");
        let Ok(entries) = fs::read_dir(self.store.join("lan")) else {
            return Ok(());
        };
        let left: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        ensure!(
            !left
                .iter()
                .any(|name| name.to_string_lossy().starts_with("10.")),
            "addresses: {left:?}"
        );
        Ok(())
    }
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
