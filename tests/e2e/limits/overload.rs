//! Hundreds of containers at a time, and few descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{Daemon, DhcpServer, Lan, Network, Result, Test, World, network, suite, test, until};

use super::{daemon_with_few_descriptors, dhcp, script};
use crate::scenario::{SOON, Scenario};

pub(super) const TESTS: &[Test] = &[
    test!(three_hundred_adds_at_a_time_all_succeed).within(Duration::from_secs(180)),
    test!(short_of_descriptors_the_daemon_delays_callers_and_fails_none),
    test!(a_daemon_out_of_descriptors_renews_later),
    test!(leases_without_a_server_take_turns_and_leave_descriptors_for_an_add)
        .within(Duration::from_secs(120)),
    test!(adds_on_a_lan_without_a_server_do_not_hold_up_another_lan),
    test!(gc_of_thousands_of_attachments_is_served),
    test!(a_restart_with_many_overdue_leases_is_no_burst).within(Duration::from_secs(120)),
];

fn three_hundred_adds_at_a_time_all_succeed(world: &World) -> Result {
    adds_at_a_time(world, &suite::plugin_dir().join("dhcp"), 300)
}

fn short_of_descriptors_the_daemon_delays_callers_and_fails_none(world: &World) -> Result {
    let program = script(
        world,
        &format!(
            "ulimit -n 64; exec {}/dhcp \"$@\"",
            suite::plugin_dir().display()
        ),
    )?;
    adds_at_a_time(world, &program, 60)
}

fn adds_at_a_time(world: &World, daemon: &Path, number: usize) -> Result {
    let lan = Lan::new()?;
    let server = DhcpServer::start(
        &lan.lan,
        Settings {
            pool: [10, 99, 1, 0].into()..=[10, 99, 8, 0].into(),
            prefix_len: 16,
            ..Settings::default()
        },
    )?;
    let daemon = Daemon::start_program(world, &lan.host, daemon, &[])?;
    let configuration = dhcp(daemon.socket());
    let containers = (0..number)
        .map(|i| lan.container(&format!("c{i}")))
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    thread::scope(|scope| {
        let adds: Vec<_> = containers
            .iter()
            .map(|container| {
                let network = Network::new(&lan.host, configuration.clone());
                scope.spawn(move || network.add(&network::Attachment::new(container)).map(drop))
            })
            .collect();
        adds.into_iter()
            .try_for_each(|add| add.join().map_err(|_| anyhow!("an ADD panicked"))?)
    })
    .with_context(|| daemon.log())?;
    eprintln!("{number} ADDs in {:?}", began.elapsed());
    ensure!(
        server.leases().len() == number,
        "{} leases",
        server.leases().len()
    );
    Ok(())
}

fn a_daemon_out_of_descriptors_renews_later(world: &World) -> Result {
    let mut scenario = Scenario::new(world)?;
    let server = DhcpServer::start(
        &scenario.lan.lan,
        Settings {
            t1: Some(Duration::from_secs(2)),
            ..Settings::default()
        },
    )?;
    let container = scenario.lan.container("c1")?;
    Network::new(&scenario.lan.host, scenario.dhcp()).add(&network::Attachment::new(&container))?;
    let pid = scenario.daemon.process().pid();
    let limit = |soft: &str| {
        scenario
            .lan
            .host
            .output(&["prlimit", "--pid", &pid.to_string(), soft])
            .map(drop)
    };
    limit("--nofile=5:")?;
    until("the daemon has tried", SOON, || {
        scenario.daemon.log().contains("cannot inspect a container")
    })?;
    limit("--nofile=1024:")?;
    let asked = server.received_of(MessageType::Request).len();
    server.wait_for(MessageType::Request, asked + 1, Duration::from_secs(15))?;
    ensure!(
        !scenario.daemon.log().contains("lease dropped"),
        "{}",
        scenario.daemon.log()
    );
    Ok(())
}

fn leases_without_a_server_take_turns_and_leave_descriptors_for_an_add(world: &World) -> Result {
    const LEASES: usize = 40;
    let lan = Lan::new()?;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let settings = Settings {
        lease_time: seconds(12),
        t1: seconds(8),
        t2: seconds(10),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, settings)?;
    let mut daemon = daemon_with_few_descriptors(world, &lan.host)?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    for number in 0..LEASES {
        let container = lan.container(&format!("c{number}"))?;
        network.add(&network::Attachment::new(&container))?;
    }
    for kind in [MessageType::Discover, MessageType::Request] {
        server.when(kind).then(Reaction::silence());
    }
    until("many leases are lost", Duration::from_secs(60), || {
        daemon.log().matches("address lost").count() >= LEASES / 2
    })
    .with_context(|| daemon.log())?;
    let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.process().pid()))?.count();
    ensure!(descriptors < LEASES, "{descriptors} descriptors are open");
    server.behave();
    let late = lan.container("late")?;
    network.add(&network::Attachment::new(&late))?;
    until("every lease is back", Duration::from_secs(60), || {
        server.leases().len() > LEASES
    })
    .with_context(|| daemon.log())?;
    ensure!(
        !daemon.log().contains("Too many open files"),
        "{}",
        daemon.log()
    );
    Ok(())
}

fn adds_on_a_lan_without_a_server_do_not_hold_up_another_lan(world: &World) -> Result {
    let lan = Lan::new()?;
    let _server = DhcpServer::start(&lan.lan, Settings::default())?;
    let dead = lan.container("dead")?;
    lan.host.add_veth("eth2", (&dead, Lan::SERVER_LINK))?;
    lan.host.set_up("eth2")?;
    dead.set_up(Lan::SERVER_LINK)?;
    let listener = DhcpServer::start(&dead, Settings::default())?;
    listener
        .when(MessageType::Discover)
        .then(Reaction::silence());
    let daemon = daemon_with_few_descriptors(world, &lan.host)?;
    let healthy = dhcp(daemon.socket());
    let mut deaf = healthy.clone();
    deaf["name"] = json!("deaf");
    deaf["plugins"][0]["master"] = json!("eth2");
    let containers = (0..15)
        .map(|number| lan.container(&format!("c{number}")))
        .collect::<Result<Vec<_>>>()?;
    let container = lan.container("healthy")?;
    thread::scope(|scope| {
        let adds: Vec<_> = containers
            .iter()
            .map(|container| {
                let network = Network::new(&lan.host, deaf.clone());
                scope.spawn(move || network.add(&network::Attachment::new(container)).map(drop))
            })
            .collect();
        let added = until("many ADDs ask in vain", SOON, || {
            let asking = listener.received_of(MessageType::Discover);
            let macs = asking.iter().map(|discover| discover.ethernet_source);
            macs.collect::<std::collections::BTreeSet<_>>().len() >= 7
        })
        .and_then(|()| {
            let network = Network::new(&lan.host, healthy);
            network.add(&network::Attachment::new(&container))
        });
        let waiting = adds.iter().filter(|add| !add.is_finished()).count();
        // They are told to try again.
        daemon.stop()?;
        added?;
        ensure!(waiting == adds.len(), "{waiting} ADDs were still waiting");
        Ok(())
    })
}

fn gc_of_thousands_of_attachments_is_served(world: &World) -> Result {
    let scenario = Scenario::new(world)?;
    let server = DhcpServer::start(&scenario.lan.lan, Settings::default())?;
    let [kept, gone] = [scenario.lan.container("c1")?, scenario.lan.container("c2")?];
    let mut conflist = scenario.dhcp();
    conflist["cniVersion"] = json!("1.1.0");
    let network = Network::new(&scenario.lan.host, conflist);
    let kept = network::Attachment::new(&kept);
    network.add(&kept)?;
    network.add(&network::Attachment::new(&gone))?;
    let others = (0..3000).map(|nth| network::Attachment {
        container_id: format!("{nth:064x}"),
        ..network::Attachment::new(&gone)
    });
    let valid: Vec<_> = others.chain([kept.clone()]).collect();
    network.gc(&valid.iter().collect::<Vec<_>>())?;
    until("the other's address is released", SOON, || {
        server.leases().len() == 1
    })?;
    network.check(&kept)
}

/// The daemon leaves 10 ms between two overdue leases. A busy machine may hold some of them up, and
/// then they are asked for together; what comes first and last says little for the same reason.
fn a_restart_with_many_overdue_leases_is_no_burst(world: &World) -> Result {
    const LEASES: usize = 40;
    const MIDDLE_HALF: Duration = Duration::from_millis(150);
    const RESTARTS: usize = 5;
    let lan = Lan::new()?;
    let t1 = Duration::from_secs(3);
    let server = DhcpServer::start(
        &lan.lan,
        Settings {
            t1: Some(t1),
            ..Settings::default()
        },
    )?;
    let mut daemon = Daemon::start(world, &lan.host)?;
    let network = Network::new(&lan.host, dhcp(daemon.socket()));
    for number in 0..LEASES {
        let container = lan.container(&format!("c{number}"))?;
        network
            .add(&network::Attachment::new(&container))
            .with_context(|| daemon.log())?;
    }
    // They stay overdue.
    server.when(MessageType::Request).then(Reaction::silence());
    let last = Instant::now();
    until("all leases are overdue", SOON, || last.elapsed() > t1)?;
    let mut spreads = Vec::new();
    for _ in 0..RESTARTS {
        daemon.kill()?;
        let before = server.received_of(MessageType::Request).len();
        daemon = Daemon::start(world, &lan.host)?;
        let first_requests = until("every lease is asked for", SOON, || {
            let mut asked = BTreeMap::new();
            for request in server.received_of(MessageType::Request).split_off(before) {
                asked.entry(request.ethernet_source).or_insert(request.at);
            }
            Some(asked).filter(|asked| asked.len() == LEASES)
        })?;
        let mut times: Vec<Instant> = first_requests.into_values().collect();
        times.sort();
        let middle_half = times[LEASES * 3 / 4] - times[LEASES / 4];
        if middle_half >= MIDDLE_HALF {
            return Ok(());
        }
        spreads.push(middle_half);
    }
    lab::anyhow::bail!("half of {LEASES} REQUESTs within {spreads:?}")
}
