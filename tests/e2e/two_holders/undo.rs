//! An ADD that fails undoes what it did itself, and not what another ADD of the attachment has done
//! since.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lab::anyhow::ensure;
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;

use lab::network::cni_error;
use lab::{Attachment, Daemon, DhcpServer, Network, Result, Test, World, test, until};
use nix::sys::signal::Signal;

use crate::limits::dhcp;
use crate::persistence::{attach_without_lease, ipam_alone};
use crate::scenario::{SOON, Scenario, address, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(an_add_whose_caller_is_gone_releases_the_lease_that_it_obtained),
    test!(an_add_of_macvlan_whose_caller_is_gone_leaves_neither_interface_nor_lease),
    test!(an_add_whose_caller_is_gone_leaves_the_lease_that_an_earlier_add_obtained),
    test!(an_add_that_is_cancelled_leaves_the_lease_of_the_container_that_follows),
    test!(an_add_for_a_container_that_was_replaced_leaves_the_lease_of_its_successor),
];

fn an_add_whose_caller_is_gone_releases_the_lease_that_it_obtained(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    attach_without_lease(&scenario, &container)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    let outcome = ipam_alone("ADD", &container, scenario.daemon.socket())?
        .unread()
        .run(&scenario.lan.host)?;
    ensure!(!outcome.status.success(), "{outcome:?}");
    server.wait_for(MessageType::Release, 2, SOON)?;
    until("the lease is released", SOON, || server.leases().is_empty())
}

fn an_add_of_macvlan_whose_caller_is_gone_leaves_neither_interface_nor_lease(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let outcome = network
        .prepare("ADD", 0, &Attachment::new(&container), None)?
        .unread()
        .run(&scenario.lan.host)?;
    ensure!(!outcome.status.success(), "{outcome:?}");
    ensure_nothing_left(&container)?;
    server.wait_for(MessageType::Release, 1, SOON)?;
    Ok(())
}

fn an_add_whose_caller_is_gone_leaves_the_lease_that_an_earlier_add_obtained(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let container = scenario.lan.container("c1")?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let attachment = Attachment::new(&container);
    let result = network.add(&attachment)?;
    let leased = address(&container)?;
    // A process that an ADD left behind, when its caller was killed, asks late.
    let outcome = ipam_alone("ADD", &container, scenario.daemon.socket())?
        .unread()
        .run(&scenario.lan.host)?;
    ensure!(!outcome.status.success(), "{outcome:?}");
    ensure!(address(&container)? == leased, "it was {leased}");
    ensure!(
        server.received_of(MessageType::Release).is_empty(),
        "{}",
        server.transcript()
    );
    network
        .prepare("CHECK", 0, &attachment, Some(&result))?
        .run(&scenario.lan.host)?
        .success()?;
    Ok(())
}

fn an_add_that_is_cancelled_leaves_the_lease_of_the_container_that_follows(
    world: &World,
) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let network = Network::new(&scenario.lan.host, scenario.dhcp());
    let first = scenario.lan.container("first")?;
    let of_first = Attachment::new(&first);
    server.when(MessageType::Discover).then(Reaction::silence());
    let adding = network
        .prepare("ADD", 0, &of_first, None)?
        .start(&scenario.lan.host)?;
    server.wait_for(MessageType::Discover, 1, SOON)?;
    // The runtime gives up and detaches the container, while a busy machine leaves no time to the
    // ADD to notice.
    adding.signal(Signal::SIGSTOP)?;
    network.del(&of_first)?;
    server.behave();
    // The container is started again, under its ID but in another namespace.
    let second = scenario.lan.container("second")?;
    let of_second = Attachment {
        container_id: of_first.container_id.clone(),
        ..Attachment::new(&second)
    };
    network.add(&of_second)?;
    let leased = address(&second)?;
    adding.signal(Signal::SIGCONT)?;
    let outcome = adding.finish()?;
    ensure!(!outcome.status.success(), "{outcome:?}");
    ensure!(address(&second)? == leased, "it was {leased}");
    network.check(&of_second)?;
    ensure!(
        server.leases().iter().any(|lease| lease.address == leased),
        "{}",
        server.transcript()
    );
    network.del(&of_second)?;
    until("the lease is released", SOON, || server.leases().is_empty())
}

fn an_add_for_a_container_that_was_replaced_leaves_the_lease_of_its_successor(
    world: &World,
) -> Result {
    let Scenario { lan, daemon } = Scenario::new(world)?;
    let server = DhcpServer::start(&lan.lan, Settings::default())?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    let old = lan.container("c1")?;
    network.add(&Attachment::new(&old))?;
    let socket = daemon.socket().to_owned();
    daemon.kill()?;
    // It waits for a daemon, with the namespace open, and outlives the container.
    let mut late = ipam_alone("ADD", &old, &socket)?.start(&lan.host)?;
    let path = old.path().to_owned();
    until("the namespace is open", SOON, || {
        has_open(late.pid(), &path).unwrap_or(false)
    })?;
    late.signal(Signal::SIGSTOP)?;
    old.remove()?;
    let daemon = Daemon::start(world, &lan.host)?;
    ensure!(late.is_running()?, "it did not wait for a daemon");
    let new = lan.container("c1")?;
    let attachment = Attachment::new(&new);
    network.add(&attachment)?;
    let leased = address(&new)?;
    late.signal(Signal::SIGCONT)?;
    let error = cni_error(late.finish()?.success());
    ensure!(error.code == 3, "{error:?}");
    ensure!(address(&new)? == leased, "it was {leased}");
    network.check(&attachment)?;
    ensure!(
        server.leases().iter().any(|lease| lease.address == leased),
        "{}",
        server.transcript()
    );
    daemon.stop()
}

/// Whether the plugin has this namespace open.
fn has_open(pid: u32, namespace: &Path) -> Result<bool> {
    let wanted = fs::metadata(namespace)?.ino();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let opened: Vec<_> = descriptors
        .filter_map(|descriptor| fs::metadata(descriptor.ok()?.path()).ok())
        .collect();
    // Before it is the plugin, the process has all of this test's descriptors.
    let tests = fs::read_dir("/proc/self/fd")?.count();
    Ok(opened.len() < tests && opened.iter().any(|open| open.ino() == wanted))
}
