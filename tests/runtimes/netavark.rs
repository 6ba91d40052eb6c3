//! netavark itself, of Debian 13, on networks whose addresses come from DHCP: with its own proxy, and
//! with the daemon in the proxy's place.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType};
use lab::serde_json::{self, Value, json};
use lab::{DhcpServer, Lan, Node, Process, Result, Test, World, test, until};
use linknet::Mac;

use crate::debian::{DEBIAN_13, ROOTS};
use crate::scenario::SOON;
use crate::systemd::Systemd;
use crate::{document, machine};

pub(crate) const TESTS: &[Test] = &[
    test!(netavarks_macvlan_gets_its_address_from_the_daemon)
        .needs(&[ROOTS])
        .within(APT_TIMEOUT),
    test!(an_unmanaged_bridge_gets_its_address_from_the_daemon)
        .needs(&[ROOTS])
        .within(APT_TIMEOUT),
    test!(netavark_shows_its_user_what_the_daemon_found)
        .needs(&[ROOTS])
        .within(APT_TIMEOUT),
    test!(a_container_of_netavarks_proxy_is_handed_over_with_its_address)
        .needs(&[ROOTS])
        .within(APT_TIMEOUT),
    test!(the_documented_commands_put_the_unit_in_the_place_of_netavarks)
        .needs(&[ROOTS])
        .within(APT_TIMEOUT),
    test!(a_lease_outlives_a_restart_with_the_daemon_and_not_with_netavarks_proxy)
        .needs(&[ROOTS])
        .within(APT_TIMEOUT),
];

const APT_TIMEOUT: Duration = Duration::from_secs(120);

const NETAVARK: &str = "/usr/lib/podman/netavark";

/// Where netavark expects its proxy.
const SOCKET: &str = "/run/podman/nv-proxy.sock";

/// A container's ID.
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Who answers netavark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answering {
    Leasehold,
    Netavark,
}

/// A machine with netavark, on a LAN with a server.
struct Machine<'a> {
    world: &'a World,
    lan: Lan,
    server: DhcpServer,
    /// The MAC that the container is to have; any if `None`.
    static_mac: Cell<Option<Mac>>,
}

impl Machine<'_> {
    fn new(world: &World, settings: Settings) -> Result<Machine<'_>> {
        machine::enter_root(world, &DEBIAN_13.root())?;
        machine::run(&["apt-get", "-q", "-y", "install", "netavark"])?;
        let lan = Lan::new()?;
        let server = DhcpServer::start(&lan.lan, settings)?;
        Ok(Machine {
            world,
            lan,
            server,
            static_mac: Cell::default(),
        })
    }

    /// Starts the daemon, or netavark's proxy.
    fn start(&self, who: Answering) -> Result<Process> {
        let command = match who {
            Answering::Leasehold => {
                let program = machine::checkout(&machine::programs()).join("dhcp");
                let mut command = Command::new(program);
                command.args(["daemon", "-podmansocket", SOCKET]);
                command
            }
            Answering::Netavark => {
                fs::create_dir_all("/run/podman")?;
                // It binds no path that exists.
                let _ = fs::remove_file(SOCKET);
                let mut command = Command::new(NETAVARK);
                command.arg("dhcp-proxy");
                command
            }
        };
        let mut process = Process::spawn(self.world, &self.lan.host, "proxy", command)?;
        process.until("its socket accepts", SOON, || {
            UnixStream::connect(SOCKET).is_ok()
        })?;
        Ok(process)
    }

    /// Calls netavark as Podman does, for a container on this network. Returns what it prints.
    fn netavark(&self, verb: &str, container: &Node, network: &Value) -> Result<Value> {
        let mac = self.static_mac.get().map(|mac| mac.to_string());
        let options = json!({ "interface_name": "eth0", "aliases": [], "static_mac": mac });
        let input = json!({
            "container_id": ID,
            "container_name": "web",
            "container_hostname": "web",
            "port_mappings": [],
            "networks": { "lan": options },
            "network_info": { "lan": network },
        });
        let mut command = Command::new(NETAVARK);
        command
            .args(["--config", "/run/netavark", verb])
            .arg(container.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.lan.host.spawn(&mut command)?;
        let mut stdin = child.stdin.take().context("its stdin")?;
        stdin.write_all(input.to_string().as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        match output.status.success() {
            true if printed.trim().is_empty() => Ok(Value::Null),
            true => Ok(serde_json::from_str(&printed)?),
            false => bail!("{printed}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// The container's only address, which netavark must have reported.
    fn set_up(&self, container: &Node, network: &Value) -> Result<Ipv4Addr> {
        let status = self.netavark("setup", container, network)?;
        let subnet = &status["lan"]["interfaces"]["eth0"]["subnets"][0];
        let leased = address(container)?;
        ensure!(subnet["ipnet"] == format!("{leased}/24"), "{status:#}");
        ensure!(subnet["gateway"] == Lan::ADDRESS.to_string(), "{status:#}");
        container.ping(Lan::ADDRESS.into(), SOON)?;
        Ok(leased)
    }
}

fn address(container: &Node) -> Result<Ipv4Addr> {
    match container.ipv4("eth0")?[..] {
        [only] => Ok(only.addr()),
        ref all => bail!("one address: {all:?}"),
    }
}

/// A network as Podman writes it, of this driver and on this device of the host's.
fn network(driver: &str, device: &str, options: &Value) -> Value {
    json!({
        "name": "lan", "id": ID, "driver": driver, "network_interface": device,
        "internal": false, "dns_enabled": false, "ipv6_enabled": false, "subnets": null,
        "ipam_options": { "driver": "dhcp" }, "options": options,
    })
}

fn macvlan() -> Value {
    network("macvlan", Lan::MASTER, &Value::Null)
}

fn netavarks_macvlan_gets_its_address_from_the_daemon(world: &World) -> Result {
    let settings = Settings {
        t1: Some(Duration::from_secs(1)),
        options: vec![
            DhcpOption::Router(vec![Lan::ADDRESS]),
            DhcpOption::DomainName("lan.example".into()),
        ],
        ..Settings::default()
    };
    let machine = Machine::new(world, settings)?;
    let mut daemon = machine.start(Answering::Leasehold)?;
    let container = machine.lan.container("c1")?;
    let status = machine.netavark("setup", &container, &macvlan())?;
    ensure!(
        status["lan"]["dns_search_domains"] == json!(["lan.example"]),
        "{status:#}"
    );
    let leased = address(&container)?;
    daemon.kill()?;
    let mut daemon = machine.start(Answering::Leasehold)?;
    let requests = machine.server.received_of(MessageType::Request).len();
    let renewal = machine
        .server
        .wait_for(MessageType::Request, requests + 1, SOON)?;
    ensure!(*renewal.source.ip() == leased, "{renewal:?}");
    machine.netavark("teardown", &container, &macvlan())?;
    let release = machine.server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(*release.source.ip() == leased, "{release:?}");
    ensure!(container.find_link("eth0")?.is_none());
    daemon.stop()
}

fn an_unmanaged_bridge_gets_its_address_from_the_daemon(world: &World) -> Result {
    let machine = Machine::new(world, Settings::default())?;
    let host = &machine.lan.host;
    host.add_bridge("br0")?;
    host.add_bridge_port("br0", Lan::MASTER)?;
    host.set_up("br0")?;
    let _daemon = machine.start(Answering::Leasehold)?;
    let container = machine.lan.container("c1")?;
    let bridge = network("bridge", "br0", &json!({ "mode": "unmanaged" }));
    machine.set_up(&container, &bridge)?;
    machine.netavark("teardown", &container, &bridge)?;
    until("the address is given back", SOON, || {
        machine.server.leases().is_empty()
    })
}

fn netavark_shows_its_user_what_the_daemon_found(world: &World) -> Result {
    let machine = Machine::new(world, Settings::default())?;
    machine
        .server
        .when(MessageType::Discover)
        .then(Reaction::nak());
    let _daemon = machine.start(Answering::Leasehold)?;
    let container = machine.lan.container("c1")?;
    let error = match machine.netavark("setup", &container, &macvlan()) {
        Ok(status) => bail!("it was to fail: {status:#}"),
        Err(error) => error.to_string(),
    };
    for part in [
        "unable to obtain lease",
        "no address for eth0 within 10s",
        "DISCOVER",
    ] {
        ensure!(error.contains(part), "{error}");
    }
    ensure!(machine.server.leases().is_empty());
    Ok(())
}

/// What `podman network reload --all` does for each container: teardown, and setup with the same MAC.
fn a_container_of_netavarks_proxy_is_handed_over_with_its_address(world: &World) -> Result {
    let machine = Machine::new(world, Settings::default())?;
    let mut theirs = machine.start(Answering::Netavark)?;
    let container = machine.lan.container("c1")?;
    let leased = machine.set_up(&container, &macvlan())?;
    let mac = container.link("eth0")?.mac.context("a MAC")?;
    theirs.stop().or_else(|_| theirs.kill())?;
    fs::remove_file(SOCKET).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;

    let _daemon = machine.start(Answering::Leasehold)?;
    machine.netavark("teardown", &container, &macvlan())?;
    machine.static_mac.set(Some(mac));
    let again = machine.set_up(&container, &macvlan())?;
    ensure!(again == leased, "{leased} became {again}");
    ensure!(container.link("eth0")?.mac == Some(mac));
    Ok(())
}

/// The service is hardened, and has both sockets from systemd.
fn the_documented_commands_put_the_unit_in_the_place_of_netavarks(world: &World) -> Result {
    let machine = Machine::new(world, Settings::default())?;
    let program = machine::checkout(&machine::programs()).join("dhcp");
    let program = program.to_str().context("a path of ours")?;
    machine::run(&[program, "install", "/opt/cni/bin"])?;
    for unit in [
        "cni-dhcp.socket",
        "cni-dhcp-podman.socket",
        "cni-dhcp.service",
    ] {
        let from = machine::checkout("examples/systemd").join(unit);
        fs::copy(from, format!("/etc/systemd/system/{unit}"))?;
    }
    let systemd = Systemd::boot(world, &machine.lan.host)?;
    let shell = |commands: &str| systemd.run(&["sh", "-ec", commands]);
    shell("systemctl enable --now netavark-dhcp-proxy.socket cni-dhcp.socket cni-dhcp.service")?;
    let active = |unit: &str| Ok::<_, lab::anyhow::Error>(systemd.state(unit)? == "active");
    ensure!(active("netavark-dhcp-proxy.socket")? && active("cni-dhcp.service")?);

    let [switch] = document::commands("docs/podman-proxy.md", "Switching")[..] else {
        bail!("the section has other blocks of commands than this test knows");
    };
    // Podman is not installed; another test does what its command would do.
    let (reload, commands): (Vec<&str>, Vec<&str>) =
        switch.lines().partition(|line| line.starts_with("podman "));
    ensure!(reload == ["podman network reload --all"], "{reload:?}");
    shell(&commands.join("\n"))?;
    ensure!(!active("netavark-dhcp-proxy.socket")?);
    ensure!(active("cni-dhcp-podman.socket")? && active("cni-dhcp.service")?);

    let container = machine.lan.container("c1")?;
    let leased = machine
        .set_up(&container, &macvlan())
        .with_context(|| systemd.journal())?;
    shell("systemctl kill --signal=KILL cni-dhcp.service")?;
    until("systemd has started it again", 2 * SOON, || {
        systemd.journal().matches("dhcp daemon is ready").count() == 3
    })?;
    ensure!(systemd.journal().contains("lease resumed"));
    machine.netavark("teardown", &container, &macvlan())?;
    let release = machine.server.wait_for(MessageType::Release, 1, SOON)?;
    ensure!(*release.source.ip() == leased, "{release:?}");

    shell("systemctl start netavark-dhcp-proxy.socket")?;
    ensure!(!active("cni-dhcp-podman.socket")?, "one of them at a time");
    Ok(())
}

fn a_lease_outlives_a_restart_with_the_daemon_and_not_with_netavarks_proxy(
    world: &World,
) -> Result {
    const LEASE: Duration = Duration::from_secs(6);
    let settings = Settings {
        lease_time: Some(LEASE),
        ..Settings::default()
    };
    let machine = Machine::new(world, settings)?;
    for (who, name, survives) in [
        (Answering::Netavark, "theirs", false),
        (Answering::Leasehold, "ours", true),
    ] {
        let mut before = machine.start(who)?;
        let container = machine.lan.container(name)?;
        let leased = machine.set_up(&container, &macvlan())?;
        let ends = machine.server.leases();
        let end = ends.first().and_then(|lease| lease.expires);
        before.kill()?;
        let mut after = machine.start(who)?;
        until("the lease would have ended", 2 * LEASE, || {
            end.is_some_and(|end| end < std::time::Instant::now())
        })?;
        let leases = machine.server.leases();
        let is_leased = leases.iter().any(|lease| lease.address == leased);
        // Without the server's consent, any other machine may get the address that is in use here.
        ensure!(address(&container)? == leased, "{who:?}");
        ensure!(
            is_leased == survives,
            "{who:?}: {}",
            machine.server.transcript()
        );
        machine.netavark("teardown", &container, &macvlan())?;
        after.kill()?;
        let _ = fs::remove_file(SOCKET);
    }
    Ok(())
}
