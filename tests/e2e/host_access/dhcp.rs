//! The host's route follows the lease.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use attachment::HostLock;
use attachment::host_access::{AttachmentTag, HostAccess, HostAccessKey};
use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{Value, json};
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, network, test, until};

use super::{
    HOST, check_strictly, container, ensure_host_is_clean, ensure_they_talk, reached, shim,
    with_access,
};
use crate::scenario::{SOON, address};

pub(super) const TESTS: &[Test] = &[
    test!(host_and_container_reach_each_other_by_a_lease),
    test!(the_hosts_route_follows_a_changed_lease),
    test!(the_hosts_route_follows_a_lease_into_another_subnet),
    test!(the_hosts_route_waits_for_an_attachment_that_ends),
    test!(the_hosts_route_goes_with_a_lost_lease_and_returns_with_the_next),
    test!(a_renewal_restores_the_hosts_route),
    test!(a_restarted_daemon_restores_missing_routes_and_removes_stale_ones),
    test!(a_restarted_daemon_leads_the_host_to_every_container),
    test!(the_hosts_route_goes_with_a_container_that_vanishes),
    test!(a_recreated_container_keeps_its_own_route),
    test!(many_dels_during_renewals_leave_nothing).within(Duration::from_secs(120)),
    test!(leases_are_kept_up_while_another_process_holds_the_lock),
    test!(a_change_that_waited_in_vain_for_the_lock_is_made_later),
    test!(a_daemon_that_stops_leaves_what_waits_for_the_lock_to_its_successor),
    test!(a_daemon_in_another_netns_reports_that_and_keeps_leasing),
];

/// The host's end, a daemon on it, and a server.
struct Leasing {
    lan: Lan,
    daemon: Daemon,
    server: DhcpServer,
}

impl Leasing {
    fn new(world: &World, settings: Settings) -> Result<Leasing> {
        let lan = lan()?;
        let server = DhcpServer::start(&lan.lan, settings)?;
        let daemon = Daemon::start(world, &lan.host)?;
        Ok(Leasing {
            lan,
            daemon,
            server,
        })
    }

    fn network(&self) -> Network<'_> {
        Network::new(&self.lan.host, conflist(self.daemon.socket()))
    }

    /// Waits until the host has a route to this address alone.
    fn wait_for_route(&self, to: Ipv4Addr) -> Result {
        let alone = [IpAddr::V4(to)];
        until("the route is there", SOON, || {
            reached(&self.lan).is_ok_and(|all| all == alone)
        })
        .with_context(|| format!("{:?}, not {to}\n{}", reached(&self.lan), self.daemon.log()))
    }
}

/// As every other test's, without IPv6.
fn lan() -> Result<Lan> {
    let lan = Lan::new()?;
    lan.host
        .add_address(Lan::MASTER, format!("{HOST}/24").parse()?)?;
    check_strictly(&lan.host)?;
    Ok(lan)
}

fn conflist(socket: &Path) -> Value {
    with_access(json!({ "ipam": { "type": "dhcp", "daemonSocketPath": socket } }))
}

/// Leases that are renewed after a second, and last.
fn early_renewals() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

/// Leases that soon expire when they are not renewed.
fn short_leases() -> Settings {
    Settings {
        lease_time: Some(Duration::from_secs(4)),
        t1: Some(Duration::from_secs(1)),
        t2: Some(Duration::from_secs(3)),
        ..Settings::default()
    }
}

/// Waits until the container has another address than this, and returns it.
fn another(container: &Node, old: Ipv4Addr) -> Result<Ipv4Addr> {
    until("the address is another", Duration::from_secs(15), || {
        address(container).ok().filter(|now| *now != old)
    })
}

fn host_and_container_reach_each_other_by_a_lease(world: &World) -> Result {
    let leasing = Leasing::new(world, Settings::default())?;
    let container = container(&leasing.lan, "c1")?;
    let network = leasing.network();
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let leased = address(&container)?;
    ensure!(reached(&leasing.lan)? == [IpAddr::V4(leased)]);
    ensure_they_talk(
        (&leasing.lan.host, HOST.into()),
        (&container, leased.into()),
    )?;
    network.check(&attachment)?;
    network.del(&attachment)?;
    ensure_host_is_clean(&leasing.lan.host)
}

fn the_hosts_route_follows_a_changed_lease(world: &World) -> Result {
    let leasing = Leasing::new(world, early_renewals())?;
    let container = container(&leasing.lan, "c1")?;
    let network = leasing.network();
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    let first = address(&container)?;
    leasing
        .server
        .reconfigure(|settings| settings.pool = [10, 99, 0, 200].into()..=[10, 99, 0, 210].into());
    leasing.server.forget();
    let second = another(&container, first)?;
    leasing.wait_for_route(second)?;
    ensure_they_talk(
        (&leasing.lan.host, HOST.into()),
        (&container, second.into()),
    )?;
    network.del(&attachment)?;
    ensure_host_is_clean(&leasing.lan.host)
}

/// Where the host's address is not on the link any more, and in the container's own table.
fn the_hosts_route_follows_a_lease_into_another_subnet(world: &World) -> Result {
    let leasing = Leasing::new(world, early_renewals())?;
    let container = container(&leasing.lan, "c1")?;
    let mut conflist = conflist(leasing.daemon.socket());
    conflist["plugins"][0]["sourceRouting"] = json!(true);
    conflist["plugins"][0]["hostAccess"] = json!(["10.99.7.0/24"]);
    Network::new(&leasing.lan.host, conflist).add(&network::Attachment::new(&container))?;
    let first = address(&container)?;
    leasing.server.reconfigure(|settings| {
        settings.pool = [10, 99, 7, 200].into()..=[10, 99, 7, 210].into();
        settings.options.clear();
    });
    leasing.server.forget();
    let second = another(&container, first)?;
    leasing.wait_for_route(second)?;
    ensure_they_talk(
        (&leasing.lan.host, HOST.into()),
        (&container, second.into()),
    )
}

/// Meanwhile the change is refused, which affects no other container's route.
fn the_hosts_route_waits_for_an_attachment_that_ends(world: &World) -> Result {
    let leasing = Leasing::new(world, Settings::default())?;
    let host = &leasing.lan.host;
    let next = Ipv4Addr::new(10, 99, 0, 200);
    let parent = host.link(Lan::MASTER)?.index;
    let access =
        || -> Result<HostAccess> { Ok(HostAccess::new(host.netns(), HostLock::acquire()?)?) };
    let ending = AttachmentTag::new(&cni::Attachment::new("c0", "lan", "eth0")?);
    access()?.attach(parent, ending, &[next.into()], &HostAccessKey::OnLink)?;

    let (other, moving) = (
        container(&leasing.lan, "c1")?,
        container(&leasing.lan, "c2")?,
    );
    let network = leasing.network();
    network.add(&network::Attachment::new(&other))?;
    leasing
        .server
        .reconfigure(|settings| settings.t1 = early_renewals().t1);
    network.add(&network::Attachment::new(&moving))?;
    // Once: a renewal would make the change again.
    leasing.server.reconfigure(|settings| {
        settings.pool = next..=next;
        settings.t1 = None;
    });
    leasing.server.forget();
    until(
        "the change is refused twice",
        Duration::from_secs(30),
        || {
            let refusals = "must not be led to 10.99.0.200";
            leasing.daemon.log().matches(refusals).count() >= 2
        },
    )?;
    let stays = IpAddr::V4(address(&other)?);
    ensure!(
        reached(&leasing.lan)? == [stays, next.into()],
        "{:?}",
        reached(&leasing.lan)?
    );

    access()?.detach(|tag, _| tag == ending)?;
    until(
        "the host has a route again",
        Duration::from_secs(30),
        || reached(&leasing.lan).is_ok_and(|reached| reached == [stays, next.into()]),
    )
    .with_context(|| leasing.daemon.log())
}

fn the_hosts_route_goes_with_a_lost_lease_and_returns_with_the_next(world: &World) -> Result {
    let leasing = Leasing::new(world, short_leases())?;
    let container = container(&leasing.lan, "c1")?;
    let network = leasing.network();
    let attachment = network::Attachment::new(&container);
    network.add(&attachment)?;
    for kind in [MessageType::Discover, MessageType::Request] {
        leasing.server.when(kind).then(Reaction::silence());
    }
    until("the address is lost", Duration::from_secs(10), || {
        container.ipv4("eth0").is_ok_and(|all| all.is_empty())
    })?;
    until("the host is clean", SOON, || {
        ensure_host_is_clean(&leasing.lan.host).is_ok()
    })?;
    leasing.server.behave();
    let leased = until("an address is leased", Duration::from_secs(15), || {
        address(&container).ok()
    })?;
    leasing.wait_for_route(leased)?;
    ensure_they_talk(
        (&leasing.lan.host, HOST.into()),
        (&container, leased.into()),
    )?;
    network.del(&attachment)?;
    ensure_host_is_clean(&leasing.lan.host)
}

/// After an administrator has removed the host's macvlan, and the route with it.
fn a_renewal_restores_the_hosts_route(world: &World) -> Result {
    let leasing = Leasing::new(world, early_renewals())?;
    let container = container(&leasing.lan, "c1")?;
    leasing
        .network()
        .add(&network::Attachment::new(&container))?;
    let leased = address(&container)?;
    let index = shim(&leasing.lan)?.context("a shim")?.index;
    leasing.lan.host.netlink()?.delete_link(index)?;
    leasing.wait_for_route(leased)?;
    ensure_they_talk(
        (&leasing.lan.host, HOST.into()),
        (&container, leased.into()),
    )
}

fn a_restarted_daemon_restores_missing_routes_and_removes_stale_ones(world: &World) -> Result {
    let leasing = Leasing::new(world, Settings::default())?;
    let (stays, goes) = (
        container(&leasing.lan, "c1")?,
        container(&leasing.lan, "c2")?,
    );
    for container in [&stays, &goes] {
        leasing
            .network()
            .add(&network::Attachment::new(container))?;
    }
    let (kept, gone) = (address(&stays)?, address(&goes)?);
    let Leasing {
        lan,
        daemon,
        server,
    } = leasing;
    daemon.kill()?;
    goes.remove()?;
    let netlink = lan.host.netlink()?;
    for route in netlink.routes_with_protocol(attachment::PROTOCOL)? {
        if route.dst.addr() == IpAddr::V4(kept) {
            netlink.delete_route(&route)?;
        }
    }
    ensure!(reached(&lan)? == [IpAddr::V4(gone)]);
    let daemon = Daemon::start(world, &lan.host)?;
    let leasing = Leasing {
        lan,
        daemon,
        server,
    };
    leasing.wait_for_route(kept)?;
    ensure_they_talk((&leasing.lan.host, HOST.into()), (&stays, kept.into()))
}

fn a_restarted_daemon_leads_the_host_to_every_container(world: &World) -> Result {
    let leasing = Leasing::new(world, Settings::default())?;
    let containers = [
        container(&leasing.lan, "c1")?,
        container(&leasing.lan, "c2")?,
    ];
    let mut leased = Vec::new();
    for container in &containers {
        leasing
            .network()
            .add(&network::Attachment::new(container))?;
        leased.push(IpAddr::V4(address(container)?));
    }
    leased.sort();
    let Leasing {
        lan,
        daemon,
        server: _server,
    } = leasing;
    daemon.kill()?;
    let netlink = lan.host.netlink()?;
    for route in netlink.routes_with_protocol(attachment::PROTOCOL)? {
        if leased.contains(&route.dst.addr()) {
            netlink.delete_route(&route)?;
        }
    }
    ensure!(reached(&lan)?.is_empty());
    let _daemon = Daemon::start(world, &lan.host)?;
    until("the host has both routes", SOON, || {
        let all = reached(&lan).map(|mut all| {
            all.sort();
            all
        });
        all.is_ok_and(|all| all == leased)
    })
}

fn the_hosts_route_goes_with_a_container_that_vanishes(world: &World) -> Result {
    let leasing = Leasing::new(world, Settings::default())?;
    let container = container(&leasing.lan, "c1")?;
    leasing
        .network()
        .add(&network::Attachment::new(&container))?;
    container.remove()?;
    until("the host is clean", SOON, || {
        ensure_host_is_clean(&leasing.lan.host).is_ok()
    })
    .with_context(|| leasing.daemon.log())
}

/// A runtime that recreates a container under the same name without calling DEL.
fn a_recreated_container_keeps_its_own_route(world: &World) -> Result {
    let leasing = Leasing::new(world, Settings::default())?;
    for last in (0..20).map(|nth| nth == 19) {
        let container = container(&leasing.lan, "c1")?;
        leasing
            .network()
            .add(&network::Attachment::new(&container))?;
        let leased = address(&container)?;
        ensure!(reached(&leasing.lan)? == [IpAddr::V4(leased)]);
        if !last {
            container.remove()?;
            continue;
        }
        // Those before may linger, and answer for the address that all of them had.
        let host = &leasing.lan.host;
        until("it is reached", Duration::from_secs(30), || {
            ensure_they_talk((host, HOST.into()), (&container, leased.into())).is_ok()
        })?;
        ensure!(reached(&leasing.lan)? == [IpAddr::V4(leased)]);
    }
    Ok(())
}

/// Each renewal has the daemon look after the route that DEL is about to remove.
fn many_dels_during_renewals_leave_nothing(world: &World) -> Result {
    const NUMBER: usize = 32;
    let leasing = Leasing::new(world, early_renewals())?;
    let containers: Vec<Node> = (0..NUMBER)
        .map(|nth| leasing.lan.container(&format!("c{nth}")))
        .collect::<Result<_>>()?;
    let all = |work: &(dyn Fn(&Network<'_>, &network::Attachment) -> Result + Sync)| -> Result {
        thread::scope(|scope| {
            let started: Vec<_> = containers
                .iter()
                .map(|container| {
                    scope.spawn(|| work(&leasing.network(), &network::Attachment::new(container)))
                })
                .collect();
            started
                .into_iter()
                .try_for_each(|one| one.join().map_err(|_| anyhow!("a caller panicked"))?)
        })
    };
    for _ in 0..2 {
        all(&|network, attachment| network.add(attachment).map(drop))?;
        let before = leasing.server.received_of(MessageType::Request).len();
        leasing
            .server
            .wait_for(MessageType::Request, before + NUMBER / 2, SOON)?;
        ensure!(
            reached(&leasing.lan)?.len() == NUMBER,
            "{:?}",
            reached(&leasing.lan)?
        );
        all(&|network, attachment| network.del(attachment))?;
        ensure_host_is_clean(&leasing.lan.host)?;
        // It does not come back either: all who waited for the lock have had it before this one.
        let one = network::Attachment::new(&containers[0]);
        leasing.network().add(&one)?;
        leasing.network().del(&one)?;
        ensure_host_is_clean(&leasing.lan.host)?;
    }
    ensure!(
        !leasing.daemon.log().contains("ERROR"),
        "{}",
        leasing.daemon.log()
    );
    Ok(())
}

fn leases_are_kept_up_while_another_process_holds_the_lock(world: &World) -> Result {
    let leasing = Leasing::new(world, early_renewals())?;
    let other = container(&leasing.lan, "c2")?;
    let (lock, first, second) = another_address_under_the_lock(&leasing)?;
    // An ADD that needs no lock is served meanwhile.
    let plain = json!({ "ipam": { "type": "dhcp", "daemonSocketPath": leasing.daemon.socket() } });
    Network::new(&leasing.lan.host, crate::scenario::conflist(plain))
        .add(&network::Attachment::new(&other))?;
    ensure!(
        reached(&leasing.lan)? == [IpAddr::V4(first)],
        "the lock is held"
    );
    drop(lock);
    leasing.wait_for_route(second)
}

fn a_change_that_waited_in_vain_for_the_lock_is_made_later(world: &World) -> Result {
    let leasing = Leasing::new(world, early_renewals())?;
    let (lock, _, second) = another_address_under_the_lock(&leasing)?;
    until("the daemon gives up", Duration::from_secs(20), || {
        leasing.daemon.log().contains("another process holds it")
    })?;
    drop(lock);
    until("the route follows", Duration::from_secs(30), || {
        reached(&leasing.lan).is_ok_and(|reached| reached == [IpAddr::V4(second)])
    })
}

fn a_daemon_that_stops_leaves_what_waits_for_the_lock_to_its_successor(world: &World) -> Result {
    let leasing = Leasing::new(world, early_renewals())?;
    let (lock, first, second) = another_address_under_the_lock(&leasing)?;
    let Leasing {
        lan,
        mut daemon,
        server: _server,
    } = leasing;
    daemon.process().stop()?;
    ensure!(
        !daemon.log().contains("cannot update the host's route to"),
        "it did not wait for the lock: {}",
        daemon.log()
    );
    ensure!(reached(&lan)? == [IpAddr::V4(first)], "the lock is held");
    let _successor = Daemon::start(world, &lan.host)?;
    drop(lock);
    until("the route follows", SOON, || {
        reached(&lan).is_ok_and(|reached| reached == [IpAddr::V4(second)])
    })
}

/// A container gets another address while another process holds the lock. Returns that lock, and
/// the first and the second address.
fn another_address_under_the_lock(leasing: &Leasing) -> Result<(File, Ipv4Addr, Ipv4Addr)> {
    let moving = container(&leasing.lan, "c1")?;
    leasing.network().add(&network::Attachment::new(&moving))?;
    let first = address(&moving)?;
    let lock = File::open("/run/cni/leasehold.lock")?;
    lock.lock()?;
    leasing
        .server
        .reconfigure(|settings| settings.pool = [10, 99, 0, 200].into()..=[10, 99, 0, 210].into());
    leasing.server.forget();
    let second = another(&moving, first)?;
    ensure!(
        reached(&leasing.lan)? == [IpAddr::V4(first)],
        "the lock is held"
    );
    Ok((lock, first, second))
}

fn a_daemon_in_another_netns_reports_that_and_keeps_leasing(world: &World) -> Result {
    let lan = lan()?;
    let server = DhcpServer::start(&lan.lan, early_renewals())?;
    let elsewhere = lan.container("elsewhere")?;
    let daemon = Daemon::start(world, &elsewhere)?;
    let leasing = Leasing {
        lan,
        daemon,
        server,
    };
    let container = container(&leasing.lan, "c1")?;
    leasing
        .network()
        .add(&network::Attachment::new(&container))?;
    let first = address(&container)?;
    ensure_they_talk((&leasing.lan.host, HOST.into()), (&container, first.into()))?;
    leasing
        .server
        .reconfigure(|settings| settings.pool = [10, 99, 0, 200].into()..=[10, 99, 0, 210].into());
    leasing.server.forget();
    let second = another(&container, first)?;
    until("it says so", SOON, || {
        leasing
            .daemon
            .log()
            .contains("not in the network namespace of eth0's parent")
    })?;
    container.ping(Lan::ADDRESS.into(), SOON)?;
    ensure!(elsewhere.links()?.len() == 1, "{:?}", elsewhere.links()?);
    ensure!(address(&container)? == second);
    leasing
        .network()
        .del(&network::Attachment::new(&container))?;
    ensure_host_is_clean(&leasing.lan.host)
}
