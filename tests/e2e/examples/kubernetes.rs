//! A pod's two interfaces: the cluster's network, and the LAN beside it in three ways.
//!
//! ```text
//!  far 192.168.7.7 ── router ── LAN 10.99.0.0/24 ── eth1 ┌ node ┐ cni0 10.42.0.1 ── eth0 of the pod
//!                                                        │      │ 10.43.0.10, a service
//!                          pod of another node 10.42.1.5 ─ eth2 ┘
//! ```
//!
//! The cluster's network is Debian's `bridge` with `host-local`, as flannel has it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{self, Value, json};
use lab::suite::packages;
use lab::{Attachment, Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test};
use linknet::Route;

use super::conflist;
use crate::networks::{Lans, at, default_gateways, reverse_path_filter, route};
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(lan_default_keeps_the_routes_to_pods_and_services).needs(&[packages::GO_PLUGINS]),
    test!(lan_beside_routes_only_the_named_prefixes_to_the_lan).needs(&[packages::GO_PLUGINS]),
    test!(lan_answers_clients_on_either_side).needs(&[packages::GO_PLUGINS]),
    test!(the_manifests_have_the_same_networks),
];

const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 43, 0, 10));
const OTHER_POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 42, 1, 5));
const CLUSTERS_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 42, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 7));

/// A node of a cluster that is on a LAN too, with a pod.
struct Cluster {
    lans: Lans,
    pod: Node,
    first: Value,
    _server: DhcpServer,
    _daemon: Daemon,
}

impl Cluster {
    fn new(world: &World) -> Result<Cluster> {
        let lans = Lans::new()?;
        let node = &lans.lan.host;
        let server = DhcpServer::start(&lans.lan.lan, Settings::default())?;
        let daemon = Daemon::start_at_default_path(world, node)?;

        lans.far.add_address("lo", "192.168.7.7/32".parse()?)?;
        route(&lans.lan.lan, "192.168.0.0/16", "far", "192.0.2.2".parse()?)?;
        // The second LAN is what joins the nodes, and its router stands for another node.
        node.add_address(Lans::MASTER2, "10.98.0.2/24".parse()?)?;
        node.add_address("lo", "10.43.0.10/32".parse()?)?;
        lans.lan2.add_address("lo", "10.42.1.5/32".parse()?)?;
        route(node, "10.42.1.0/24", Lans::MASTER2, Lans::ADDRESS2.into())?;
        from(
            OTHER_POD,
            &lans.lan2,
            "10.42.0.0/24",
            Lan::SERVER_LINK,
            "10.98.0.2".parse()?,
        )?;
        node.run(|| linknet::sysctl::set(&["ipv4", "ip_forward"], "1"))??;
        // The node is known to the LAN, and lets in what is for its pods, as with a NodePort.
        node.add_address(Lan::MASTER, "10.99.0.2/24".parse()?)?;
        route(node, "192.168.0.0/16", Lan::MASTER, Lan::ADDRESS.into())?;
        route(
            &lans.lan.lan,
            "10.42.0.0/24",
            Lan::SERVER_LINK,
            "10.99.0.2".parse()?,
        )?;
        for behind in ["10.99.0.0/24", "10.42.0.0/24"] {
            from(FAR, &lans.far, behind, "one", "192.0.2.1".parse()?)?;
        }

        let first = json!({ "cniVersion": "1.0.0", "name": "cluster", "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": true,
            "ipam": { "type": "host-local", "subnet": "10.42.0.0/24", "dataDir": world.dir().join("cluster") },
        }] });
        let pod = lans.lan.container("pod")?;
        Network::new(node, first.clone()).add(&Attachment::new(&pod))?;
        pod.ping(OTHER_POD, SOON).context("the cluster's network")?;
        Ok(Cluster {
            lans,
            pod,
            first,
            _server: server,
            _daemon: daemon,
        })
    }

    /// Attaches the pod to the network of this example.
    fn attach(&self, name: &str) -> Result<Network<'_>> {
        let network = Network::new(&self.lans.lan.host, conflist(name)?);
        network.add(&at(&self.pod, "net1"))?;
        reverse_path_filter(&self.pod, true)?;
        network.check(&at(&self.pod, "net1"))?;
        Ok(network)
    }

    /// Fails unless pods, services and the node reach the pod and are reached, by the cluster's
    /// interface.
    fn ensure_cluster_works(&self) -> Result {
        let inside = self.address("eth0")?;
        for to in [SERVICE, OTHER_POD, CLUSTERS_GATEWAY] {
            self.pod.ping(to, SOON)?;
            ensure!(
                self.source(to)? == inside,
                "{to} is asked from {}",
                self.source(to)?
            );
        }
        // The kubelet's probes come from the node itself.
        for from in [&self.lans.lan.host, &self.lans.lan2] {
            from.ping(inside, SOON)?;
        }
        Ok(())
    }

    /// The address that the pod speaks to another from.
    fn source(&self, to: IpAddr) -> Result<IpAddr> {
        let way = self
            .pod
            .netlink()?
            .route_get(to)?
            .with_context(|| format!("a way to {to}"))?;
        way.source.with_context(|| format!("{way:?}"))
    }

    fn address(&self, ifname: &str) -> Result<IpAddr> {
        let addresses = self.pod.ipv4(ifname)?;
        ensure!(addresses.len() == 1, "{ifname}: {addresses:?}");
        Ok(addresses[0].addr().into())
    }

    /// Fails unless the far client, which comes through the LAN, is answered at this address.
    fn ensure_far_hears_from(&self, address: IpAddr) -> Result {
        self.lans.far.ping(address, SOON).map(drop)
    }

    /// Ends the second attachment, then the first.
    fn leave(&self, network: &Network<'_>) -> Result {
        network.del(&at(&self.pod, "net1"))?;
        ensure!(
            default_gateways(&self.pod, false)? == [CLUSTERS_GATEWAY],
            "{:?}",
            self.pod.routes()?
        );
        self.ensure_cluster_works()?;
        Network::new(&self.lans.lan.host, self.first.clone()).del(&Attachment::new(&self.pod))?;
        ensure_nothing_left(&self.pod)
    }
}

/// A route on which the node speaks from this address of its own.
fn from(source: IpAddr, node: &Node, dst: &str, link: &str, gateway: IpAddr) -> Result {
    let route = Route::new(dst.parse::<IpNet>()?, node.link(link)?.index).via(gateway);
    Ok(node.netlink()?.replace_route(&Route {
        source: Some(source),
        ..route
    })?)
}

fn lan_default_keeps_the_routes_to_pods_and_services(world: &World) -> Result {
    let cluster = Cluster::new(world)?;
    let network = cluster.attach("lan-default")?;
    cluster.ensure_cluster_works()?;
    let (inside, ours) = (cluster.address("eth0")?, cluster.address("net1")?);
    cluster.pod.ping(FAR, SOON)?;
    ensure!(cluster.source(FAR)? == ours && cluster.source("203.0.113.7".parse()?)? == ours);
    cluster.ensure_far_hears_from(ours)?;
    // A client that comes through the node with its own address is answered through the LAN, whose
    // router takes the answer for forged.
    let far = &cluster.lans.far;
    ensure!(!far.is_answered(inside, Duration::from_millis(600))?);
    cluster.leave(&network)
}

fn lan_beside_routes_only_the_named_prefixes_to_the_lan(world: &World) -> Result {
    let cluster = Cluster::new(world)?;
    let network = cluster.attach("lan-beside")?;
    cluster.ensure_cluster_works()?;
    cluster.pod.ping(FAR, SOON)?;
    ensure!(cluster.source(FAR)? == cluster.address("net1")?);
    ensure!(cluster.source("203.0.113.7".parse()?)? == cluster.address("eth0")?);
    ensure!(default_gateways(&cluster.pod, false)? == [CLUSTERS_GATEWAY]);
    cluster.ensure_far_hears_from(cluster.address("net1")?)?;
    cluster.leave(&network)
}

fn lan_answers_clients_on_either_side(world: &World) -> Result {
    let cluster = Cluster::new(world)?;
    let network = cluster.attach("lan-answers")?;
    cluster.ensure_cluster_works()?;
    ensure!(default_gateways(&cluster.pod, false)? == [CLUSTERS_GATEWAY]);
    ensure!(
        cluster.source(FAR)? == cluster.address("eth0")?,
        "by itself it goes where it always went"
    );
    for (client, ifname) in [("from the LAN", "net1"), ("from the node", "eth0")] {
        cluster
            .ensure_far_hears_from(cluster.address(ifname)?)
            .with_context(|| format!("a client that comes {client}"))?;
    }
    cluster.leave(&network)
}

/// `examples/kubernetes/networks.yaml` against the files that are tested here.
fn the_manifests_have_the_same_networks(_: &World) -> Result {
    let manifests = include_str!("../../../examples/kubernetes/networks.yaml");
    let mut seen = Vec::new();
    for manifest in manifests.split("---\n").skip(1) {
        let config = manifest
            .split("config: |\n")
            .nth(1)
            .context("a configuration")?;
        let config: Value = serde_json::from_str(config)?;
        let name = config["name"].as_str().context("a name")?.to_owned();
        ensure!(
            manifest.contains(&format!("\n  name: {name}\n")),
            "{manifest}"
        );
        ensure!(
            config == conflist(&name)?,
            "{name} is another than in {name}.conflist"
        );
        seen.push(name);
    }
    ensure!(
        seen == ["lan-default", "lan-beside", "lan-answers"],
        "{seen:?}"
    );
    Ok(())
}
