//! The daemon is killed at each system call of a Setup, and of a Teardown. What netavark does next
//! works, and nothing is left in the end.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{STRACE, Syscall};
use lab::dhcp_server::Settings;
use lab::{DhcpServer, FaultInjector, Lan, Node, Result, Test, Threads, World, test, until};

use super::client::Proxy;
use super::messages::NetworkConfig;
use super::{Podman, config, start};
use crate::scenario::{SOON, address};

pub(super) const TESTS: &[Test] = &[
    test!(a_daemon_that_is_killed_at_any_step_of_setup_leaves_nothing)
        .needs(&[STRACE])
        .within(Duration::from_secs(240)),
    test!(a_daemon_that_is_killed_at_any_step_of_teardown_leaves_nothing)
        .needs(&[STRACE])
        .within(Duration::from_secs(240)),
];

/// The calls at which it is killed. In between it only computes.
const CALLS: &str = "sendto,sendmsg,recvfrom,recvmsg,socket,bind,connect,accept4,read,write,writev,\
                     openat,?rename,renameat,?unlink,unlinkat,setns,clone3,close";

/// What the daemon is killed in.
#[derive(Debug, Clone, Copy)]
enum Call {
    Setup,
    Teardown,
}

impl Call {
    /// Calls the daemon. It may be killed meanwhile.
    fn make(self, proxy: &Proxy, config: &NetworkConfig) -> bool {
        match self {
            Call::Setup => proxy.setup(config).is_ok_and(|answered| answered.is_ok()),
            Call::Teardown => proxy.teardown(config).is_ok(),
        }
    }
}

fn a_daemon_that_is_killed_at_any_step_of_setup_leaves_nothing(world: &World) -> Result {
    killed_at_each_step_of(world, Call::Setup)
}

fn a_daemon_that_is_killed_at_any_step_of_teardown_leaves_nothing(world: &World) -> Result {
    killed_at_each_step_of(world, Call::Teardown)
}

fn killed_at_each_step_of(world: &World, call: Call) -> Result {
    let mut podman = Podman::new(world)?;
    let server = DhcpServer::start(&podman.lan.lan, Settings::default())?;
    let steps = steps(world, &mut podman, call)?;
    ensure!(steps.len() > 30, "{steps:?}");
    let mut kills = 0;
    for (number, step) in steps.iter().enumerate() {
        let container = podman.container(&format!("c{number}"))?;
        let config = config(&container, "eth0")?;
        if let Call::Teardown = call {
            podman.proxy.lease(&config)?;
        }
        let main_thread = (podman.daemon.process().pid(), Threads::Main);
        let injector = FaultInjector::kill_at(world, &podman.lan.host, main_thread, step)?;
        let succeeded = call.make(&podman.proxy, &config);
        // strace ends with the daemon.
        let _ = injector.detach();
        let is_killed = podman.has_ended(match succeeded {
            // It may have been killed after its answer.
            true => Duration::from_millis(50),
            false => SOON,
        });
        kills += usize::from(is_killed);
        ensure!(succeeded || is_killed, "{call:?} failed at {step:?}");
        if is_killed {
            podman.daemon = start(world, &podman.lan, &podman.socket)?;
        }
        ends_well(&podman, &server, call, &container, &config)
            .with_context(|| format!("{call:?}, killed at {step:?}"))?;
        container.remove()?;
    }
    ensure!(2 * kills > steps.len(), "{kills} of {steps:?}");
    Ok(())
}

/// The system calls that the daemon makes.
fn steps(world: &World, podman: &mut Podman, call: Call) -> Result<Vec<Syscall>> {
    let container = podman.container("recorded")?;
    let config = config(&container, "eth0")?;
    if let Call::Teardown = call {
        podman.proxy.lease(&config)?;
    }
    let main_thread = (podman.daemon.process().pid(), Threads::Main);
    let recorder = FaultInjector::record(world, &podman.lan.host, main_thread, CALLS)?;
    ensure!(call.make(&podman.proxy, &config), "{call:?}");
    let steps = recorder.syscalls()?;
    recorder.detach()?;
    podman.proxy.teardown(&config)?;
    container.remove()?;
    Ok(steps)
}

/// netavark tries again, and the container ends.
fn ends_well(
    podman: &Podman,
    server: &DhcpServer,
    call: Call,
    container: &Node,
    config: &NetworkConfig,
) -> Result {
    if let Call::Setup = call {
        let lease = podman.proxy.lease(config)?;
        let leased = address(container)?;
        ensure!(lease.yiaddr == leased.to_string(), "{lease:?} {leased}");
        container.ping(Lan::ADDRESS.into(), SOON)?;
    }
    podman.proxy.teardown(config)?;
    ensure!(container.ipv4("eth0")?.is_empty());
    until("the address is given back", 3 * SOON, || {
        server.leases().is_empty()
    })
}
