//! Two and three networks with leases, on two LANs and on one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;

use lab::anyhow::{Context, anyhow, ensure};
use lab::dhcp_server::Settings;
use lab::serde_json::{Value, json};
use lab::{Daemon, DhcpServer, Network, Node, Result, Test, World, test, until};
use linknet::Route;

use super::{Lans, at, default_gateways, first, reverse_path_filter, rules, second, settings2};
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(three_networks_have_leases_of_their_own_and_end_in_any_order),
    test!(the_newest_default_route_is_preferred_unless_configured_otherwise),
    test!(concurrent_adds_in_one_container_keep_each_others_rules_and_routes),
];

/// Two LANs with a DHCP server each, and the daemon.
struct Scene {
    lans: Lans,
    servers: [DhcpServer; 2],
    daemon: Daemon,
}

impl Scene {
    fn new(world: &World) -> Result<Scene> {
        let lans = Lans::new()?;
        let servers = [
            DhcpServer::start(&lans.lan.lan, Settings::default())?,
            DhcpServer::start(&lans.lan2, settings2())?,
        ];
        let daemon = Daemon::start(world, &lans.lan.host)?;
        Ok(Scene {
            lans,
            servers,
            daemon,
        })
    }

    /// An `ipam` section with these keys.
    fn ipam(&self, keys: Value) -> Value {
        let mut ipam = json!({ "type": "dhcp", "daemonSocketPath": self.daemon.socket() });
        if let (Some(ipam), Value::Object(keys)) = (ipam.as_object_mut(), keys) {
            ipam.extend(keys);
        }
        ipam
    }

    /// The LAN's node and the address that a container's interface has there.
    fn address(&self, container: &Node, ifname: &str) -> Result<(&Node, IpAddr)> {
        let addresses = container.ipv4(ifname)?;
        ensure!(addresses.len() == 1, "{ifname}: {addresses:?}");
        let address = addresses[0].addr();
        let lan = if address.octets()[1] == 98 {
            &self.lans.lan2
        } else {
            &self.lans.lan.lan
        };
        Ok((lan, address.into()))
    }

    fn ensure_answers(&self, container: &Node, ifname: &str) -> Result {
        let (lan, address) = self.address(container, ifname)?;
        lan.ping(address, SOON)
            .with_context(|| format!("{ifname} at {address}"))?;
        Ok(())
    }
}

/// The interfaces of a container: one on the first LAN, one on the second, and one more on the
/// first.
const NAMES: [&str; 3] = ["eth0", "net1", "net2"];

fn three_networks_have_leases_of_their_own_and_end_in_any_order(world: &World) -> Result {
    let mut scene = Scene::new(world)?;
    let socket = scene.daemon.socket().to_owned();
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let container = scene.lans.lan.container(&format!("c{number}"))?;
        let ipam = scene.ipam(json!({}));
        let host = &scene.lans.lan.host;
        let mut again = first(json!({ "ipam": ipam, "sourceRouting": true }));
        again["name"] = json!("lan-again");
        let networks = [
            Network::new(host, first(json!({ "ipam": ipam }))),
            Network::new(host, second(json!({ "ipam": ipam, "sourceRouting": true }))),
            Network::new(host, again),
        ];
        for (network, name) in networks.iter().zip(NAMES) {
            network.add(&at(&container, name))?;
        }
        // Each answers through itself, however strict anybody is.
        reverse_path_filter(&container, true)?;
        let leases: Vec<_> = scene.servers.iter().flat_map(DhcpServer::leases).collect();
        let macs: BTreeSet<_> = leases.iter().map(|lease| &lease.mac).collect();
        let identities: BTreeSet<_> = leases.iter().map(|lease| &lease.client_id).collect();
        ensure!(
            (leases.len(), macs.len(), identities.len()) == (3, 3, 3),
            "{leases:?}"
        );
        ensure!(
            default_gateways(&container, false)?.len() == 1,
            "{:?}",
            container.routes()?
        );

        // As in an upgrade while it runs.
        scene.daemon.process().kill()?;
        let daemon = Daemon::start(world, host)?;
        ensure!(daemon.socket() == socket);
        for (position, &which) in order.iter().enumerate() {
            for &still in &order[position..] {
                scene
                    .ensure_answers(&container, NAMES[still])
                    .with_context(|| format!("{order:?}"))?;
                networks[still].check(&at(&container, NAMES[still]))?;
            }
            networks[which]
                .del(&at(&container, NAMES[which]))
                .with_context(|| format!("{order:?}"))?;
            let left = order.len() - position - 1;
            until("its lease is given back", SOON, || {
                scene
                    .servers
                    .iter()
                    .map(|server| server.leases().len())
                    .sum::<usize>()
                    == left
            })?;
        }
        ensure_nothing_left(&container)?;
        ensure!(
            rules(&container)?.is_empty() && container.routes()?.is_empty(),
            "{:?}",
            container.routes()?
        );
        container.remove()?;
        drop(networks);
        scene.daemon = daemon;
    }
    Ok(())
}

fn the_newest_default_route_is_preferred_unless_configured_otherwise(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let (one, two): (IpAddr, IpAddr) = ("10.99.0.1".parse()?, "10.98.0.1".parse()?);
    for (number, (keys, expected)) in [
        (json!({}), vec![two, one]),
        (json!({ "priority": 100 }), vec![one, two]),
        (json!({ "suppress": ["gateway"] }), vec![one]),
    ]
    .into_iter()
    .enumerate()
    {
        let container = scene.lans.lan.container(&format!("c{number}"))?;
        let host = &scene.lans.lan.host;
        Network::new(host, first(json!({ "ipam": scene.ipam(json!({})) })))
            .add(&at(&container, "eth0"))?;
        let network = Network::new(host, second(json!({ "ipam": scene.ipam(keys.clone()) })));
        network.add(&at(&container, "net1"))?;
        let gateways = default_gateways(&container, false)?;
        ensure!(gateways == expected, "{keys}: {gateways:?}");
        let way = container
            .netlink()?
            .route_get("203.0.113.7".parse()?)?
            .context("a way")?;
        ensure!(way.gateway == expected.first().copied(), "{keys}: {way:?}");
        for ifname in ["eth0", "net1"] {
            scene.ensure_answers(&container, ifname)?;
        }
        network.del(&at(&container, "net1"))?;
        ensure!(
            default_gateways(&container, false)? == [one],
            "{keys}: {:?}",
            container.routes()?
        );
    }
    Ok(())
}

/// Cleaning up leftovers must not remove what a concurrent ADD has just made.
fn concurrent_adds_in_one_container_keep_each_others_rules_and_routes(world: &World) -> Result {
    const HALF: usize = 8;
    let scene = Scene::new(world)?;
    let container = scene.lans.lan.container("c1")?;
    let host = &scene.lans.lan.host;
    let keys = json!({ "ipam": scene.ipam(json!({})) });
    Network::new(host, first(keys.clone())).add(&at(&container, "eth0"))?;
    let before = container.routes()?;

    let mut keys = keys;
    keys["sourceRouting"] = json!(true);
    keys["keepRoutes"] = json!(["192.0.2.0/24"]);
    let conflist = second(keys);
    let kept = || -> Result<usize> {
        let ours = |route: &&Route| route.protocol == attachment::PROTOCOL;
        Ok(container.routes()?.iter().filter(ours).count())
    };
    // Each half comes while the other goes.
    for round in 0..6 {
        let [coming, going] = [round % 2, (round + 1) % 2]
            .map(|half| (half * HALF..(half + 1) * HALF).collect::<Vec<_>>());
        thread::scope(|scope| {
            let calls: Vec<_> = coming
                .iter()
                .map(|number| (number, true))
                .chain(going.iter().map(|number| (number, false)))
                .map(|(number, comes)| {
                    let (network, attachment) = (
                        Network::new(host, conflist.clone()),
                        at(&container, &format!("net{number}")),
                    );
                    let call = move || match comes {
                        true => network.add(&attachment).map(drop),
                        false => network.del(&attachment),
                    };
                    scope.spawn(call)
                })
                .collect();
            calls
                .into_iter()
                .try_for_each(|call| call.join().map_err(|_| anyhow!("a call panicked"))?)
        })
        .with_context(|| format!("round {round}"))?;
        let rules = rules(&container)?;
        ensure!(
            (rules.len(), kept()?) == (HALF, HALF),
            "round {round}: {rules:?} {:?}",
            container.routes()?
        );
        for number in &coming {
            let (_, address) = scene.address(&container, &format!("net{number}"))?;
            ensure!(
                rules.iter().any(|rule| rule.from.addr() == address),
                "round {round}: {address} in {rules:?}"
            );
        }
    }
    for number in HALF..2 * HALF {
        Network::new(host, conflist.clone()).del(&at(&container, &format!("net{number}")))?;
    }
    ensure!(
        rules(&container)?.is_empty() && container.routes()? == before,
        "{:?}",
        container.routes()?
    );
    Ok(())
}
