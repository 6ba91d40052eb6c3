//! OVN-Kubernetes on a localnet with `ipam.mode: DHCP` calls the IPAM plugin itself and applies its
//! answer. Of the Go plugin it documents two limitations, which are tests here.
//!
//! ovn-kubernetes/ovn-kubernetes, `go-controller/pkg/cni/dhcp_linux.go`: `buildDHCPConf` has these
//! keys and no others; `execDHCPAdd` gives the sandbox's id and netns, the interface's name and no
//! arguments, and drops the default routes of the answer; `applyDHCPResultInNS` installs the others
//! as they are, with scope, priority and table, and tolerates what is there already.
//! `docs/okeps/okep-6224-dhcp-ipam-localnet.md`: the interface is one end of a veth pair, and up
//! ("End-to-End Flow"); dnsmasq drops the Go plugin's RELEASE, and a restart of its daemon loses the
//! leases ("Known Limitation").

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::{DhcpOption, MessageType};
use lab::plugin::Call;
use lab::serde_json::{Value, json};
use lab::servers::{Config, DNSMASQ};
use lab::suite::packages::IPROUTE2;
use lab::{Daemon, DhcpServer, Lan, Node, Result, Test, World, suite, test, until};

use crate::scenario::SOON;

pub(super) const TESTS: &[Test] = &[
    test!(a_pod_gets_its_address_and_routes_as_handed_in).needs(&[IPROUTE2]),
    test!(a_renewal_brings_no_route_back_that_was_dropped).needs(&[IPROUTE2]),
    test!(leases_survive_a_restart_of_the_daemon).needs(&[IPROUTE2]),
    test!(dnsmasq_takes_the_release).needs(&[IPROUTE2, DNSMASQ.package]),
    test!(del_is_repeated_when_the_pod_is_gone).needs(&[IPROUTE2]),
];

const INTERFACE: &str = "net1";

/// The pod's sandbox.
const SANDBOX: &str = "8c4f6f5c1d2e4b7a9e0f3d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a3928";

/// A node's switch that joins pods with the LAN, and a pod.
struct Localnet {
    lan: Lan,
    pod: Node,
}

impl Localnet {
    fn new() -> Result<Localnet> {
        let lan = Lan::new()?;
        let (switch, port) = ("br-int", "8c4f6f5c1d2e4b7");
        lan.host.add_bridge(switch)?;
        lan.host.set_up(switch)?;
        let pod = lan.container("pod")?;
        pod.add_veth(INTERFACE, (&lan.host, port))?;
        for port in [Lan::MASTER, port] {
            lan.host.add_bridge_port(switch, port)?;
            lan.host.set_up(port)?;
        }
        let address = ["address", "0a:58:0a:dc:02:12"];
        pod.output(&["ip", "link", "set", INTERFACE, address[0], address[1], "up"])?;
        Ok(Localnet { lan, pod })
    }

    fn call(&self, verb: &str) -> Call {
        // Debian's Go plugins do not know the version that OVN-Kubernetes writes.
        let version = if suite::other_plugins() {
            "1.0.0"
        } else {
            "1.1.0"
        };
        Call::new("dhcp", verb)
            .container(SANDBOX)
            .netns(self.pod.path())
            .ifname(INTERFACE)
            .args("")
            .config(&json!({
                "cniVersion": version,
                "name": "localnet-dhcp",
                "type": "ovn-k8s-cni-overlay",
                "ipam": { "type": "dhcp" },
            }))
    }

    /// ADD, and what OVN-Kubernetes makes of the answer.
    fn add(&self) -> Result<Value> {
        let result = self.call("ADD").run(&self.lan.host)?.success()?;
        let ips = result["ips"].as_array().context("addresses")?;
        ensure!(!ips.is_empty(), "{result}");
        for ip in ips {
            let address = ip["address"].as_str().context("an address")?;
            self.install(&["address", "add", address])?;
        }
        for route in result["routes"].as_array().into_iter().flatten() {
            let destination = route["dst"].as_str().context("a destination")?;
            if destination.ends_with("/0") {
                continue;
            }
            let number = |key: &str| route[key].as_u64().unwrap_or(0).to_string();
            let (scope, priority) = (number("scope"), number("priority"));
            let mut words = vec!["route", "add", destination];
            words.extend(
                route["gw"]
                    .as_str()
                    .iter()
                    .flat_map(|gateway| ["via", gateway]),
            );
            words.extend(["scope", &scope, "metric", &priority]);
            self.install(&words)?;
        }
        Ok(result)
    }

    /// Runs `ip` on the pod's interface. What is there already is tolerated.
    fn install(&self, words: &[&str]) -> Result {
        let all = [&["ip"], words, &["dev", INTERFACE]].concat();
        let is_there = |error: &lab::anyhow::Error| {
            let text = error.to_string();
            text.contains("File exists") || text.contains("already assigned")
        };
        match self.pod.output(&all) {
            Err(error) if !is_there(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn has_route(&self, destination: &str) -> Result<bool> {
        let routes = self.pod.routes()?;
        Ok(routes
            .iter()
            .any(|route| route.dst.to_string() == destination))
    }
}

fn early_renewals() -> Settings {
    Settings {
        t1: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

fn renewed(daemon: &Daemon) -> Result {
    until("the lease is renewed", SOON, || {
        daemon.log().contains("lease renewed")
    })
    .with_context(|| daemon.log())
}

fn a_pod_gets_its_address_and_routes_as_handed_in(world: &World) -> Result {
    let localnet = Localnet::new()?;
    let net = |text: &str| text.parse();
    let settings = Settings {
        options: vec![
            DhcpOption::Router(vec![Lan::ADDRESS]),
            // A gateway outside the prefix is reached by the route before it, which must therefore
            // have the scope of the link.
            DhcpOption::ClasslessStaticRoute(vec![
                (net("169.254.1.1/32")?, [0, 0, 0, 0].into()),
                (net("10.50.0.0/16")?, [169, 254, 1, 1].into()),
                (net("10.60.0.0/16")?, Lan::ADDRESS),
                (net("0.0.0.0/0")?, [169, 254, 1, 1].into()),
            ]),
        ],
        ..Settings::default()
    };
    let server = DhcpServer::start(&localnet.lan.lan, settings)?;
    let _daemon = Daemon::start_at_default_path(world, &localnet.lan.host)?;
    let result = localnet.add()?;
    for destination in ["169.254.1.1/32", "10.50.0.0/16", "10.60.0.0/16"] {
        ensure!(
            localnet.has_route(destination)?,
            "{destination}: {result}, {:?}",
            localnet.pod.routes()?
        );
    }
    localnet.pod.ping(Lan::ADDRESS.into(), SOON)?;
    // kubelet may call again for the same sandbox.
    let again = localnet.add()?;
    ensure!(again["ips"] == result["ips"], "{again}, not {result}");
    localnet.call("DEL").run(&localnet.lan.host)?.success()?;
    until("the lease is released", SOON, || server.leases().is_empty())
}

/// The pod's primary network owns the default route.
fn a_renewal_brings_no_route_back_that_was_dropped(world: &World) -> Result {
    let localnet = Localnet::new()?;
    let _server = DhcpServer::start(&localnet.lan.lan, early_renewals())?;
    let daemon = Daemon::start_at_default_path(world, &localnet.lan.host)?;
    let result = localnet.add()?;
    ensure!(
        result["routes"].to_string().contains("0.0.0.0/0"),
        "{result}"
    );
    renewed(&daemon)?;
    ensure!(
        !localnet.has_route("0.0.0.0/0")?,
        "{:?}",
        localnet.pod.routes()?
    );
    Ok(())
}

fn leases_survive_a_restart_of_the_daemon(world: &World) -> Result {
    let localnet = Localnet::new()?;
    let server = DhcpServer::start(&localnet.lan.lan, early_renewals())?;
    let daemon = Daemon::start_at_default_path(world, &localnet.lan.host)?;
    let result = localnet.add()?;
    let discovers = || server.received_of(MessageType::Discover).len();
    let before = discovers();
    let restarted = || Daemon::start_at_default_path(world, &localnet.lan.host);
    daemon.stop()?;
    let daemon = restarted()?;
    renewed(&daemon)?;
    daemon.kill()?;
    let daemon = restarted()?;
    renewed(&daemon)?;
    ensure!(discovers() == before, "{}", server.transcript());
    let address = localnet.pod.ipv4(INTERFACE)?[0].to_string();
    ensure!(result["ips"][0]["address"] == json!(address), "{result}");
    localnet.call("DEL").run(&localnet.lan.host)?.success()?;
    until("the lease is released", SOON, || server.leases().is_empty())
}

fn dnsmasq_takes_the_release(world: &World) -> Result {
    let localnet = Localnet::new()?;
    let server = DNSMASQ.start(world, &localnet.lan.lan, &Config::default())?;
    let _daemon = Daemon::start_at_default_path(world, &localnet.lan.host)?;
    localnet.add()?;
    let leased = localnet.pod.ipv4(INTERFACE)?[0].addr();
    until("the lease is written down", SOON, || server.holds(leased))?;
    localnet.call("DEL").run(&localnet.lan.host)?.success()?;
    until("the lease is released", SOON, || !server.holds(leased)).with_context(|| server.log())
}

fn del_is_repeated_when_the_pod_is_gone(world: &World) -> Result {
    let localnet = Localnet::new()?;
    let server = DhcpServer::start(&localnet.lan.lan, Settings::default())?;
    let _daemon = Daemon::start_at_default_path(world, &localnet.lan.host)?;
    localnet.add()?;
    let del = localnet.call("DEL");
    del.clone().run(&localnet.lan.host)?.success()?;
    until("the lease is released", SOON, || server.leases().is_empty())?;
    let Localnet { lan, pod } = localnet;
    pod.remove()?;
    del.run(&lan.host)?.success()?;
    Ok(())
}
