//! OpenPERouter runs the daemon as a child of its controller.
//!
//! openperouter/openperouter, `internal/dhcp/supervisor.go`: it removes the socket's file, starts
//! `dhcp daemon -socketpath /run/cni/dhcp.sock -broadcast=true`, connects and closes every 0.1 s
//! until that works, and again before each ADD, CHECK and DEL; ends the daemon by SIGTERM, and by
//! SIGKILL 5 s later; and starts it again 0.5 s after any other end.
//! `internal/cni/cni.go`: the container is `perouter-underlay-NODE`, the interface `net1`.
//! `internal/hostnetwork/underlay.go`, `ensureUnderlayLease`: the daemon forgets its leases, so each
//! interface that is there gets the ADD of the IPAM plugin alone. Issue #610 plans CHECK for that.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::MessageType;
use lab::plugin::Call;
use lab::serde_json::{Value, json};
use lab::{
    Attachment, DhcpServer, Lan, Network, Node, Process, Result, Test, World, suite, test, until,
};

use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(a_killed_daemon_goes_on_where_it_was),
    test!(a_daemon_that_is_ended_leaves_its_leases_to_the_next),
    test!(probes_leave_no_trace),
];

const SOCKET: &str = "/run/cni/dhcp.sock";
const INTERFACE: &str = "net1";

/// The controller's node and the router's netns on it.
struct Router {
    lan: Lan,
    server: DhcpServer,
    netns: Node,
}

impl Router {
    fn new() -> Result<Router> {
        let lan = Lan::new()?;
        let settings = Settings {
            t1: Some(Duration::from_secs(1)),
            ..Settings::default()
        };
        let server = DhcpServer::start(&lan.lan, settings)?;
        let netns = lan.container("perouter")?;
        Ok(Router { lan, server, netns })
    }

    /// Starts the daemon, and waits for it.
    fn supervise(&self, world: &World) -> Result<Process> {
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error)?,
            _ => {}
        }
        let mut command = Command::new(suite::plugin_dir().join("dhcp"));
        command.args(["daemon", "-socketpath", SOCKET, "-broadcast=true"]);
        let mut daemon = Process::spawn(world, &self.lan.host, "dhcp-child", command)?;
        daemon.until("its socket accepts", Duration::from_secs(10), || {
            UnixStream::connect(SOCKET).is_ok()
        })?;
        Ok(daemon)
    }

    fn network(&self) -> Network<'_> {
        let conflist =
            json!({ "cniVersion": "1.0.0", "name": "underlay", "plugins": [underlay()] });
        Network::new(&self.lan.host, conflist)
    }

    fn attachment(&self) -> Attachment {
        Attachment {
            container_id: "perouter-underlay-node1".to_owned(),
            ifname: INTERFACE.to_owned(),
            ..Attachment::new(&self.netns)
        }
    }

    /// The IPAM plugin's own ADD for the interface that is there.
    fn ensure_lease(&self) -> Result<Value> {
        let mut config = underlay();
        config["cniVersion"] = "1.0.0".into();
        config["name"] = "underlay".into();
        Call::new("dhcp", "ADD")
            .container(&self.attachment().container_id)
            .netns(self.netns.path())
            .ifname(INTERFACE)
            .config(&config)
            .run(&self.lan.host)?
            .success()
    }

    fn renewed(&self, daemon: &Process) -> Result {
        until("the lease is renewed", SOON, || {
            daemon.log().contains("lease renewed")
        })
        .with_context(|| daemon.log())
    }
}

fn underlay() -> Value {
    json!({
        "type": "macvlan", "master": Lan::MASTER, "mode": "bridge", "ipam": { "type": "dhcp" },
    })
}

fn a_killed_daemon_goes_on_where_it_was(world: &World) -> Result {
    let router = Router::new()?;
    let mut daemon = router.supervise(world)?;
    let (network, attachment) = (router.network(), router.attachment());
    let added = network.add(&attachment)?;
    let server = &router.server;
    let discovers = || server.received_of(MessageType::Discover).len();
    let before = discovers();
    for _ in 0..2 {
        daemon.kill()?;
        daemon = router.supervise(world)?;
        let ensured = router.ensure_lease()?;
        ensure!(
            ensured["ips"][0]["address"] == added["ips"][0]["address"],
            "{ensured}, not {added}"
        );
        network.check(&attachment)?;
        router.renewed(&daemon)?;
    }
    // No lease was requested a second time.
    ensure!(
        discovers() == before && server.leases().len() == 1,
        "{}",
        server.transcript()
    );
    network.del(&attachment)?;
    ensure_nothing_left(&router.netns)?;
    until("the lease is released", SOON, || server.leases().is_empty())
}

fn a_daemon_that_is_ended_leaves_its_leases_to_the_next(world: &World) -> Result {
    let router = Router::new()?;
    let mut daemon = router.supervise(world)?;
    let (network, attachment) = (router.network(), router.attachment());
    network.add(&attachment)?;
    daemon.stop()?;
    ensure!(router.server.leases().len() == 1, "a stop is no DEL");
    let daemon = router.supervise(world)?;
    router.renewed(&daemon)?;
    network.del(&attachment)?;
    until("the lease is released", SOON, || {
        router.server.leases().is_empty()
    })
}

fn probes_leave_no_trace(world: &World) -> Result {
    let router = Router::new()?;
    let daemon = router.supervise(world)?;
    let network = router.network();
    for _ in 0..200 {
        drop(UnixStream::connect(SOCKET)?);
    }
    // The probes were served before this call.
    network.add(&router.attachment())?;
    until("the lease is logged", SOON, || {
        daemon.log().contains("leased")
    })?;
    let log = daemon.log();
    ensure!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    Ok(())
}
