//! `sourceRouting` and `keepRoutes` while leases come, change and go.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::{DhcpOption, MessageType};
use lab::serde_json::json;
use lab::suite::packages;
use lab::{Daemon, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};
use linknet::{Route, Rule};

use super::{Lans, at, default_gateways, first, reverse_path_filter, rules, second, settings2};
use crate::scenario::{SOON, ensure_nothing_left};

pub(super) const TESTS: &[Test] = &[
    test!(rule_and_table_follow_a_changed_address).needs(&[packages::GO_PLUGINS]),
    test!(a_new_router_changes_only_the_interfaces_table).needs(&[packages::GO_PLUGINS]),
    test!(rule_and_table_go_with_a_lost_lease_and_return_with_the_next)
        .needs(&[packages::GO_PLUGINS]),
    test!(a_restarted_daemon_still_moves_rule_and_table).needs(&[packages::GO_PLUGINS]),
];

/// A container with a fixed address in the first LAN and a lease in the second.
struct Scene {
    lans: Lans,
    server: DhcpServer,
    daemon: Daemon,
    container: Node,
}

impl Scene {
    const TABLE: u32 = 98;

    /// Its lease is renewed early, and lasts.
    fn new(world: &World) -> Result<Scene> {
        Scene::with(
            world,
            Settings {
                t1: Some(Duration::from_secs(2)),
                ..settings2()
            },
        )
    }

    /// Its lease soon expires when it is not renewed.
    fn with_short_lease(world: &World) -> Result<Scene> {
        Scene::with(
            world,
            Settings {
                lease_time: Some(Duration::from_secs(4)),
                ..settings2()
            },
        )
    }

    fn with(world: &World, settings: Settings) -> Result<Scene> {
        let lans = Lans::new()?;
        let server = DhcpServer::start(&lans.lan2, settings)?;
        let daemon = Daemon::start(world, &lans.lan.host)?;
        let container = lans.lan.container("c1")?;
        let ipam = json!({
            "type": "static",
            "addresses": [{ "address": "10.99.0.60/24", "gateway": "10.99.0.1" }],
            "routes": [{ "dst": "0.0.0.0/0" }],
        });
        Network::new(&lans.lan.host, first(json!({ "ipam": ipam })))
            .add(&at(&container, "eth0"))?;
        let scene = Scene {
            lans,
            server,
            daemon,
            container,
        };
        scene.network().add(&at(&scene.container, "net1"))?;
        reverse_path_filter(&scene.container, true)?;
        scene.ensure_answers(scene.address()?)?;
        Ok(scene)
    }

    fn network(&self) -> Network<'_> {
        let ipam = json!({ "type": "dhcp", "daemonSocketPath": self.daemon.socket() });
        let keys =
            json!({ "ipam": ipam, "sourceRouting": Scene::TABLE, "keepRoutes": ["10.42.0.0/16"] });
        Network::new(&self.lans.lan.host, second(keys))
    }

    fn address(&self) -> Result<Ipv4Addr> {
        let addresses = self.container.ipv4("net1")?;
        ensure!(addresses.len() == 1, "{addresses:?}");
        Ok(addresses[0].addr())
    }

    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 254);

    /// The server tells of another router from now on.
    fn reroute(&self) -> Result {
        self.lans.lan2.add_address(
            Lan::SERVER_LINK,
            ipnet::IpNet::new(Scene::ROUTER.into(), 24)?,
        )?;
        self.server.reconfigure(|settings| {
            settings.options = vec![DhcpOption::Router(vec![Scene::ROUTER])];
        });
        Ok(())
    }

    /// The server's next leases are in another range and with another router, and the present one
    /// is refused.
    fn renumber(&self) -> Result {
        self.reroute()?;
        self.server.reconfigure(|settings| {
            settings.pool = Ipv4Addr::new(10, 98, 0, 200)..=Ipv4Addr::new(10, 98, 0, 210);
        });
        self.server
            .when(MessageType::Request)
            .once()
            .then(Reaction::nak());
        self.server.forget();
        Ok(())
    }

    fn wait_until_renumbered(&self) -> Result {
        until(
            "the address is another, with its rule",
            Duration::from_secs(10),
            || {
                let now = self.address().ok()?;
                let moved = rules(&self.container)
                    .is_ok_and(|rules| rules.iter().any(|rule| rule.from.addr() == now));
                (now.octets()[3] >= 200 && moved).then_some(())
            },
        )
        .with_context(|| {
            format!(
                "{:?} {:?}\n{}",
                self.address(),
                rules(&self.container),
                self.daemon.log()
            )
        })?;
        ensure!(
            self.table_gateways()? == [IpAddr::from(Scene::ROUTER)],
            "{:?}",
            self.container.routes()?
        );
        self.ensure_answers(self.address()?)
    }

    /// Fails unless the far client reaches this address, which has the only rule, and all else is
    /// as it was.
    fn ensure_answers(&self, address: Ipv4Addr) -> Result {
        let expected = [Rule {
            from: IpAddr::from(address).into(),
            table: Scene::TABLE,
            priority: 32000,
            protocol: attachment::PROTOCOL,
        }];
        ensure!(
            rules(&self.container)? == expected,
            "{:?}",
            rules(&self.container)?
        );
        self.lans.far.ping(address.into(), SOON)?;
        self.ensure_first_is_as_ever()
    }

    fn ensure_first_is_as_ever(&self) -> Result {
        let gateways = default_gateways(&self.container, false)?;
        ensure!(gateways == [IpAddr::V4(Lan::ADDRESS)], "{gateways:?}");
        let kept = |route: &Route| {
            route.protocol == attachment::PROTOCOL && route.dst.to_string() == "10.42.0.0/16"
        };
        let routes = self.container.routes()?;
        ensure!(
            routes.iter().filter(|route| kept(route)).count() == 1,
            "{routes:?}"
        );
        self.lans.far.ping("10.99.0.60".parse()?, SOON)?;
        Ok(())
    }

    /// The routers of the default routes in the table of the second interface.
    fn table_gateways(&self) -> Result<Vec<IpAddr>> {
        let routes = self.container.routes()?;
        let default = |route: &&Route| route.table == Scene::TABLE && route.dst.prefix_len() == 0;
        Ok(routes
            .iter()
            .filter(default)
            .filter_map(|route| route.gateway)
            .collect())
    }

    fn leave(&self) -> Result {
        self.network().del(&at(&self.container, "net1"))?;
        ensure!(
            rules(&self.container)?.is_empty(),
            "{:?}",
            rules(&self.container)?
        );
        Network::new(&self.lans.lan.host, first(json!({}))).del(&at(&self.container, "eth0"))?;
        ensure_nothing_left(&self.container)
    }
}

fn rule_and_table_follow_a_changed_address(world: &World) -> Result {
    let scene = Scene::new(world)?;
    scene.renumber()?;
    scene.wait_until_renumbered()?;
    scene.leave()
}

fn a_new_router_changes_only_the_interfaces_table(world: &World) -> Result {
    let scene = Scene::new(world)?;
    let address = scene.address()?;
    scene.reroute()?;
    until(
        "the table has the other router",
        Duration::from_secs(10),
        || {
            scene
                .table_gateways()
                .is_ok_and(|gateways| gateways == [IpAddr::from(Scene::ROUTER)])
        },
    )?;
    ensure!(scene.address()? == address, "it was a renewal");
    scene.ensure_answers(address)?;
    scene.leave()
}

fn rule_and_table_go_with_a_lost_lease_and_return_with_the_next(world: &World) -> Result {
    let scene = Scene::with_short_lease(world)?;
    for kind in [MessageType::Request, MessageType::Discover] {
        scene.server.when(kind).then(Reaction::silence());
    }
    until("the rule is gone", Duration::from_secs(10), || {
        rules(&scene.container).is_ok_and(|it| it.is_empty())
    })?;
    until("so is the address", SOON, || {
        scene.container.ipv4("net1").is_ok_and(|it| it.is_empty())
    })?;
    let routes = scene.container.routes()?;
    ensure!(
        !routes.iter().any(|route| route.table == Scene::TABLE),
        "{routes:?}"
    );
    scene.ensure_first_is_as_ever()?;

    scene.server.behave();
    until("there is a rule", Duration::from_secs(20), || {
        rules(&scene.container).is_ok_and(|it| it.len() == 1)
    })?;
    scene.ensure_answers(scene.address()?)?;
    scene.leave()
}

fn a_restarted_daemon_still_moves_rule_and_table(world: &World) -> Result {
    let mut scene = Scene::new(world)?;
    let Scene { daemon, .. } = &mut scene;
    daemon.process().kill()?;
    scene.renumber()?;
    scene.daemon = Daemon::start(world, &scene.lans.lan.host)?;
    scene.wait_until_renumbered()?;
    scene.leave()
}
