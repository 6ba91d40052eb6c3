//! Every system call of the daemon failing once, while a renewal changes address, routes and MTU:
//! afterwards the interface is as the lease says.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::crash_injector::{ERRORS, STRACE};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::DhcpOption;
use lab::{
    Attachment, DhcpServer, FaultInjector, Network, Node, Result, Test, Threads, World, test, until,
};
use linknet::Protocol;

use crate::scenario::{Scenario, address};

pub(super) const TESTS: &[Test] = &[
    test!(whichever_request_to_the_kernel_fails_the_interface_follows_the_lease)
        .needs(&[STRACE])
        .within(Duration::from_secs(300)),
    test!(whichever_answer_of_the_kernel_fails_the_interface_follows_the_lease)
        .needs(&[STRACE])
        .within(Duration::from_secs(300)),
    test!(whichever_socket_or_descriptor_fails_the_interface_follows_the_lease)
        .needs(&[STRACE])
        .within(Duration::from_secs(300)),
    test!(whichever_file_fails_the_interface_follows_the_lease)
        .needs(&[STRACE])
        .within(Duration::from_secs(300)),
];

/// How long a lease may take to come right. A renewal that fails is tried again after ten seconds.
const REPAIRED_WITHIN: Duration = Duration::from_secs(25);

/// A LAN's two configurations, between which the server changes.
#[derive(Clone, Copy, Debug)]
enum Era {
    First,
    Second,
}

impl Era {
    fn next(self) -> Era {
        match self {
            Era::First => Era::Second,
            Era::Second => Era::First,
        }
    }

    fn number(self) -> u8 {
        match self {
            Era::First => 1,
            Era::Second => 2,
        }
    }

    fn configure(self, settings: &mut Settings) {
        let number = self.number();
        let far = ([192, 168, number, 0].into(), [10, 99, 0, 8].into());
        settings.pool = [10, 99, 0, number * 100].into()..=[10, 99, 0, number * 100 + 9].into();
        settings.options = vec![
            DhcpOption::Router(vec![[10, 99, 0, number].into()]),
            DhcpOption::StaticRoutingTable(vec![far]),
            DhcpOption::InterfaceMtu(1400 + u16::from(number)),
        ];
    }

    /// Whether the interface is as a lease of this era says, with nothing left of the other.
    fn is_on(self, container: &Node) -> Result<bool> {
        let number = self.number();
        let mut routes: Vec<String> = container
            .routes()?
            .into_iter()
            .filter(|route| route.protocol != Protocol::KERNEL && route.dst.addr().is_ipv4())
            .map(|route| format!("{} via {:?}", route.dst, route.gateway))
            .collect();
        routes.sort();
        let expected = [
            format!("0.0.0.0/0 via Some(10.99.0.{number})"),
            format!("192.168.{number}.0/24 via Some(10.99.0.8)"),
        ];
        let last = address(container)?.octets()[3];
        Ok(last / 10 == number * 10
            && routes == expected
            && container.link("eth0")?.mtu == 1400 + u32::from(number))
    }
}

fn whichever_request_to_the_kernel_fails_the_interface_follows_the_lease(world: &World) -> Result {
    follows_the_lease_whichever_fails(world, "sendto,sendmsg")
}

fn whichever_answer_of_the_kernel_fails_the_interface_follows_the_lease(world: &World) -> Result {
    follows_the_lease_whichever_fails(world, "recvfrom,recvmsg")
}

fn whichever_socket_or_descriptor_fails_the_interface_follows_the_lease(world: &World) -> Result {
    follows_the_lease_whichever_fails(
        world,
        "socket,bind,connect,setsockopt,getsockname,ioctl,fcntl,epoll_ctl,clone3",
    )
}

/// Without `write`, by which tokio wakes itself, and which cannot fail there.
fn whichever_file_fails_the_interface_follows_the_lease(world: &World) -> Result {
    follows_the_lease_whichever_fails(
        world,
        "?open,openat,read,fstat,statx,?rename,?unlink,?mkdir",
    )
}

fn follows_the_lease_whichever_fails(world: &World, calls: &str) -> Result {
    let mut scenario = Scenario::new(world)?;
    let mut settings = Settings {
        lease_time: Some(Duration::from_secs(20)),
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let mut era = Era::First;
    era.configure(&mut settings);
    let server = DhcpServer::start(&scenario.lan.lan, settings)?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&Attachment::new(&container))?;
    let main_thread = (scenario.daemon.process().pid(), Threads::Main);
    let host = &scenario.lan.host;
    // The server knows nobody any more, refuses the renewal, and leases another address.
    let change = |era: Era| -> Result {
        server.reconfigure(|settings| era.configure(settings));
        server.forget();
        let what = format!("the interface is as in the {era:?} era");
        until(&what, REPAIRED_WITHIN, || {
            era.is_on(&container).unwrap_or(false)
        })
    };

    let recorded = FaultInjector::record(world, host, main_thread, calls)?;
    era = era.next();
    change(era)?;
    let syscalls = recorded.syscalls()?;
    recorded.detach()?;
    ensure!(!syscalls.is_empty(), "{calls} are not called");
    eprintln!("{} calls", syscalls.len());
    let mut struck = 0;
    for (syscall, error) in syscalls.iter().zip(ERRORS.iter().cycle()) {
        let mut fail = || -> Result {
            let injector = FaultInjector::fail_at(world, host, main_thread, syscall, error)?;
            change(era.next())?;
            struck += usize::from(injector.has_struck());
            injector.detach()
        };
        fail()
            .with_context(|| format!("{syscall:?} failed with {error}"))
            .with_context(|| scenario.daemon.log())?;
        era = era.next();
    }
    eprintln!("{struck} of {} have failed", syscalls.len());
    ensure!(struck > syscalls.len() / 2, "only {struck} have failed");
    let log = scenario.daemon.log();
    ensure!(!log.contains("this is a bug"), "{log}");
    Ok(())
}
