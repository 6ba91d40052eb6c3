//! What the daemon may do: with the capabilities that unit and manifest leave it, it does
//! everything; with one less, it does not.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::json;
use lab::{
    DhcpServer, Lan, Network, Node, Process, Result, Test, World, network, suite, test, until,
};

use crate::scenario::{SOCKET, SOON, accepts};

pub(crate) const TESTS: &[Test] = &[
    test!(the_unit_and_the_daemonset_give_the_same_capabilities),
    test!(the_daemon_does_everything_with_the_capabilities_of_its_unit),
    test!(without_sys_admin_the_daemon_enters_no_container),
    test!(without_net_raw_the_daemon_hears_no_server),
    test!(without_net_admin_the_interface_does_not_follow_the_lease),
];

/// In setpriv's words.
const ALL: [&str; 3] = ["sys_admin", "net_raw", "net_admin"];

/// When a renewal is due. The lease lasts much longer, so the second REQUEST can only be a renewal.
const T1: Duration = Duration::from_secs(3);

fn the_unit_and_the_daemonset_give_the_same_capabilities(_: &World) -> Result {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let unit = std::fs::read_to_string(examples.join("systemd/cni-dhcp.service"))?;
    let line = format!(
        "CapabilityBoundingSet={}\n",
        ALL.map(|name| format!("CAP_{}", name.to_uppercase()))
            .join(" ")
    );
    ensure!(unit.contains(&line), "not in the unit: {line}");
    let manifest = std::fs::read_to_string(examples.join("kubernetes/daemonset.yaml"))?;
    let (_, added) = manifest
        .split_once("add:\n")
        .context("capabilities are added")?;
    let added = added
        .lines()
        .map_while(|line| line.trim().strip_prefix("- ")?.split(' ').next());
    ensure!(
        added.eq(ALL.map(str::to_uppercase)),
        "not in the manifest: {ALL:?}"
    );
    Ok(())
}

fn the_daemon_does_everything_with_the_capabilities_of_its_unit(world: &World) -> Result {
    life(world, &ALL).map_err(|(stage, error)| error.context(format!("{stage:?}")))
}

fn without_sys_admin_the_daemon_enters_no_container(world: &World) -> Result {
    fails_without(world, "sys_admin", Stage::Add)
}

fn without_net_raw_the_daemon_hears_no_server(world: &World) -> Result {
    fails_without(world, "net_raw", Stage::Add)
}

fn without_net_admin_the_interface_does_not_follow_the_lease(world: &World) -> Result {
    fails_without(world, "net_admin", Stage::Follow)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Add,
    Renew,
    Follow,
    Del,
}

fn fails_without(world: &World, capability: &str, expected: Stage) -> Result {
    let rest: Vec<&str> = ALL.into_iter().filter(|name| *name != capability).collect();
    match life(world, &rest) {
        Err((stage, _)) if stage == expected => Ok(()),
        Err((stage, error)) => bail!("failed at {stage:?}, not at {expected:?}: {error:?}"),
        Ok(()) => bail!("{capability} is not needed"),
    }
}

/// A lease from ADD to DEL, with a renewal and a change between, by a daemon with these
/// capabilities. The error says which stage failed.
fn life(
    world: &World,
    capabilities: &[&str],
) -> std::result::Result<(), (Stage, lab::anyhow::Error)> {
    let at = |stage| move |error| (stage, error);
    let lan = Lan::new().map_err(at(Stage::Start))?;
    let lease = Settings {
        t1: Some(T1),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, lease).map_err(at(Stage::Start))?;
    let mut daemon = start(world, &lan, capabilities).map_err(at(Stage::Start))?;
    let container = lan.container("c1").map_err(at(Stage::Start))?;
    let ipam = json!({ "type": "dhcp", "timeout": "5s" });
    let macvlan = json!({ "type": "macvlan", "master": Lan::MASTER, "ipam": ipam });
    let network = Network::new(
        &lan.host,
        json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [macvlan] }),
    );
    let attachment = network::Attachment::new(&container);

    network.add(&attachment).map_err(at(Stage::Add))?;
    let first = address(&container).map_err(at(Stage::Add))?;
    let renewed = || server.received_of(MessageType::Request).len() >= 2;
    // Without a capability it may fail to look after the interface before it sends the REQUEST.
    until("a renewal", 2 * T1, renewed)
        .with_context(|| daemon.log())
        .map_err(at(Stage::Renew))?;

    let pool = Ipv4Addr::new(10, 99, 0, 200)..=Ipv4Addr::new(10, 99, 0, 210);
    server.reconfigure(|settings| settings.pool = pool);
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::nak());
    server.forget();
    let changed = || address(&container).is_ok_and(|now| now != first);
    wait_for(&daemon, "the address is another", 5 * T1, changed)
        .and_then(|()| lan.lan.ping(address(&container)?.into(), SOON).map(drop))
        .with_context(|| daemon.log())
        .map_err(at(Stage::Follow))?;

    network.del(&attachment).map_err(at(Stage::Del))?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })
    .map_err(at(Stage::Del))?;
    daemon.stop().map_err(at(Stage::Del))
}

/// Waits like [`until`](until()), and fails at once when the daemon has logged that it cannot do
/// its part.
fn wait_for(
    daemon: &Process,
    what: &str,
    within: Duration,
    condition: impl Fn() -> bool,
) -> Result {
    let problem = until(what, within, || {
        let log = daemon.log();
        let problem = log
            .lines()
            .find(|line| line.contains(" ERROR ") || line.contains("cannot send a message"));
        match (condition(), problem) {
            (true, _) => Some(None),
            (false, problem) => problem.map(|line| Some(line.to_owned())),
        }
    })?;
    match problem {
        None => Ok(()),
        Some(line) => bail!("{what}: {line}"),
    }
}

fn start(world: &World, lan: &Lan, capabilities: &[&str]) -> Result<Process> {
    let kept: String = capabilities
        .iter()
        .map(|name| format!(",+{name}"))
        .collect();
    let mut command = Command::new("setpriv");
    command.args([
        "--no-new-privs",
        "--inh-caps=-all",
        &format!("--bounding-set=-all{kept}"),
    ]);
    command
        .arg(suite::plugin_dir().join("dhcp"))
        .args(["daemon", "-socketpath", SOCKET]);
    let mut daemon = Process::spawn(world, &lan.host, "dhcp-daemon", command)?;
    daemon.until("its socket accepts", SOON, accepts)?;
    Ok(daemon)
}

fn address(container: &Node) -> Result<Ipv4Addr> {
    match container.ipv4("eth0")?[..] {
        [one] => Ok(one.addr()),
        ref other => bail!("one address is expected: {other:?}"),
    }
}
