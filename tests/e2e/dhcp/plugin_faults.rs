//! Every system call of the IPAM plugin failing once, while it asks the daemon: it succeeds or
//! fails with a CNI error, the daemon lives, and no lease is lost or left behind.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{self, STRACE, Syscall};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::plugin::{CniError, NoDocument};
use lab::serde_json::json;
use lab::{
    Attachment, CrashInjector, DhcpServer, Network, Node, Result, Test, World, suite, test, until,
};

use crate::scenario::{SOON, Scenario, conflist, decoded};

pub(super) const TESTS: &[Test] = &[
    test!(whichever_syscall_of_the_plugin_fails_add_leases_or_del_gives_back)
        .needs(&[STRACE])
        .within(Duration::from_secs(120)),
    test!(whichever_syscall_of_the_plugin_fails_del_gives_back_or_fails)
        .needs(&[STRACE])
        .within(Duration::from_secs(120)),
    test!(whichever_syscall_of_the_plugin_fails_check_and_status_change_nothing)
        .needs(&[STRACE])
        .within(Duration::from_secs(120)),
    test!(whichever_syscall_of_the_plugin_fails_gc_gives_back_or_fails)
        .needs(&[STRACE])
        .within(Duration::from_secs(120)),
];

/// Everything that can fail for want of something, or because a file or a socket does. Without
/// memory, Rust ends the process.
const CALLS: &str = "socket,connect,setsockopt,getsockopt,sendto,sendmsg,recvfrom,?open,openat,\
                     read,write,?readlink,?stat,statx,newfstatat,fstatfs,ioctl,fcntl,?poll,\
                     getrandom";

/// A LAN with a server, a daemon, and two containers with interfaces that get no address.
struct Scene {
    scenario: Scenario,
    server: DhcpServer,
    container: Node,
    /// This one has a lease.
    other: Node,
    others: Ipv4Addr,
    injector: CrashInjector,
}

impl Scene {
    fn new(world: &World) -> Result<Scene> {
        let scenario = Scenario::new(world)?;
        let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
        let [container, other] = ["c1", "c2"].map(|name| scenario.lan.container(name));
        let (container, other) = (container?, other?);
        let macvlan = Network::new(&scenario.lan.host, conflist(json!({})));
        for node in [&container, &other] {
            macvlan.add(&Attachment::new(node))?;
        }
        let mut scene = Scene {
            scenario,
            server,
            container,
            other,
            others: Ipv4Addr::UNSPECIFIED,
            injector: CrashInjector::new(world, "dhcp", CALLS)?,
        };
        scene.network(false).add(&Attachment::new(&scene.other))?;
        let leases = scene.server.leases();
        scene.others = leases.first().context("a lease")?.address;
        Ok(scene)
    }

    /// A network of the IPAM plugin alone, with strace or without.
    fn network(&self, is_injected: bool) -> Network<'_> {
        let ipam = json!({ "type": "dhcp", "daemonSocketPath": self.scenario.daemon.socket() });
        let plugin = json!({ "type": "dhcp", "ipam": ipam });
        let conflist = json!({ "cniVersion": "1.1.0", "name": "lan", "plugins": [plugin] });
        let folder = match is_injected {
            true => self.injector.folder(),
            false => suite::plugin_dir().to_owned(),
        };
        Network::with_path(&self.scenario.lan.host, conflist, vec![folder])
    }

    /// For each system call of `verb`: prepares, has it fail in `verb`, and tells `then` whether
    /// that succeeded. The other container keeps its lease.
    fn for_each_fault(
        &self,
        first: usize,
        verb: impl Fn(&Network<'_>) -> Result,
        prepare: impl Fn(&Network<'_>) -> Result,
        then: impl Fn(&Network<'_>, bool) -> Result,
    ) -> Result {
        let (injected, plain) = (self.network(true), self.network(false));
        prepare(&plain)?;
        let syscalls = self.injector.syscalls(|| verb(&injected).map(|()| true))?;
        ensure!(syscalls.len() > 10, "only {syscalls:?}");
        then(&plain, true)?;
        for (syscall, error) in crash_injector::faults(syscalls, first) {
            let outcome = || -> Result {
                prepare(&plain)?;
                let verb = || is_success(&syscall, verb(&injected));
                let succeeded = self.injector.fail_at(&syscall, error, verb)?;
                then(&plain, succeeded)
            };
            outcome()
                .with_context(|| format!("{syscall:?} failed with {error}"))
                .with_context(|| self.scenario.daemon.log())?;
        }
        self.check(&plain, &self.other)?;
        for release in self.server.received_of(MessageType::Release) {
            ensure!(decoded(&release)?.ciaddr() != self.others, "{release:?}");
        }
        Ok(())
    }

    /// CHECK, with a result that lists no addresses to compare.
    fn check(&self, network: &Network<'_>, container: &Node) -> Result {
        let result = json!({ "cniVersion": "1.1.0" });
        let check = network.prepare("CHECK", 0, &Attachment::new(container), Some(&result))?;
        check.run(&self.scenario.lan.host)?.success().map(drop)
    }

    /// Waits until only the other container has a lease.
    fn until_given_back(&self) -> Result {
        until("the lease is given back", SOON, || {
            self.server.leases().len() == 1
        })
    }
}

/// Whether the plugin succeeded. Its failure must be a CNI error, unless it could not be written.
fn is_success(syscall: &Syscall, outcome: Result) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is::<CniError>() => Ok(false),
        Err(error) if syscall.0 == "write" && error.is::<NoDocument>() => Ok(false),
        Err(error) => Err(error),
    }
}

fn whichever_syscall_of_the_plugin_fails_add_leases_or_del_gives_back(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let attachment = Attachment::new(&scene.container);
    scene.for_each_fault(
        0,
        |network| network.add(&attachment).map(drop),
        |_| Ok(()),
        |network, succeeded| {
            if succeeded {
                scene.check(network, &scene.container)?;
            }
            network.del(&attachment)?;
            scene.until_given_back()
        },
    )
}

fn whichever_syscall_of_the_plugin_fails_del_gives_back_or_fails(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let attachment = Attachment::new(&scene.container);
    scene.for_each_fault(
        1,
        |network| network.del(&attachment),
        |network| network.add(&attachment).map(drop),
        |network, succeeded| {
            if !succeeded {
                network.del(&attachment)?;
            }
            scene.until_given_back()
        },
    )
}

fn whichever_syscall_of_the_plugin_fails_check_and_status_change_nothing(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let attachment = Attachment::new(&scene.container);
    let check = |network: &Network<'_>| scene.check(network, &scene.container);
    scene.network(false).add(&attachment)?;
    scene.for_each_fault(2, check, |_| Ok(()), |network, _| check(network))?;
    let status = |network: &Network<'_>| network.status();
    scene.for_each_fault(3, status, |_| Ok(()), |network, _| check(network))?;
    ensure!(scene.server.leases().len() == 2);
    Ok(())
}

fn whichever_syscall_of_the_plugin_fails_gc_gives_back_or_fails(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let (stale, valid) = (
        Attachment::new(&scene.container),
        Attachment::new(&scene.other),
    );
    scene.for_each_fault(
        4,
        |network| network.gc(&[&valid]),
        |network| network.add(&stale).map(drop),
        |network, succeeded| {
            if !succeeded {
                network.gc(&[&valid])?;
            }
            scene.until_given_back()
        },
    )
}
