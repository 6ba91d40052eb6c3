//! Every reference plugin that can follow macvlan in a list, while the lease is renewed and the
//! server changes its mind.
//!
//! Two renewals later every CHECK passes, and DEL leaves nothing. Some plugins' own CHECK is broken
//! in Debian 12's and 13's version (1.1.1), and left out with the reason.

use std::time::Duration;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::DhcpOption;
use lab::serde_json::{Value, json};
use lab::suite::{Package, packages};
use lab::{Attachment, DhcpServer, Lan, Network, Node, Result, Test, World, test, until};
use linknet::{Link, Route};

use crate::scenario::{SOON, Scenario, address, ensure_nothing_left};

const IPTABLES: Package = Package::new("iptables", "iptables");

pub(crate) const TESTS: &[Test] = &[
    test!(tuning_with_sysctls).needs(&[packages::GO_PLUGINS]),
    test!(tuning_with_a_mac).needs(&[packages::GO_PLUGINS]),
    test!(tuning_with_a_mac_for_a_client_identified_by_it).needs(&[packages::GO_PLUGINS]),
    test!(tuning_with_an_mtu).needs(&[packages::GO_PLUGINS]),
    test!(tuning_with_promiscuous_mode).needs(&[packages::GO_PLUGINS]),
    test!(tuning_with_all_multicasts).needs(&[packages::GO_PLUGINS]),
    // `tuning` has no `txQLen` in Debian's version; it came with 1.2.0.
    test!(sbr_moves_routes).needs(&[packages::GO_PLUGINS]),
    test!(portmap_and_firewall).needs(&[packages::GO_PLUGINS, IPTABLES]),
    test!(bandwidth_without_limits).needs(&[packages::GO_PLUGINS]),
];

const OTHER_MAC: &str = "02:00:00:00:00:55";

/// A list with macvlan, its lease, and what follows.
pub(crate) struct Chain {
    /// Further keys of the `ipam` section.
    pub(crate) ipam: Value,
    pub(crate) after: Vec<Value>,
    pub(crate) capabilities: Value,
    /// The plugins whose CHECK is broken.
    pub(crate) unchecked: &'static [&'static str],
    /// What must hold after ADD and after the renewals.
    pub(crate) holds: fn(&Node, &Link) -> Result,
}

impl Chain {
    pub(crate) fn of(after: &[Value]) -> Chain {
        Chain {
            ipam: json!({}),
            after: after.to_vec(),
            capabilities: json!({}),
            unchecked: &[],
            holds: |_, _| Ok(()),
        }
    }

    /// ADD, two renewals of which the first changes MTU and routes, all CHECKs, DEL.
    pub(crate) fn run(&self, world: &World) -> Result {
        let scenario = Scenario::new(world)?;
        let options = vec![DhcpOption::Router(vec![Lan::ADDRESS])];
        let settings = Settings {
            t1: Some(Duration::from_secs(1)),
            options,
            ..Settings::default()
        };
        let server = DhcpServer::start(&scenario.lan.lan, settings)?;
        let container = scenario.lan.container("c1")?;
        let mut conflist = scenario.dhcp_with(self.ipam.clone());
        let plugins = conflist["plugins"].as_array_mut().context("plugins")?;
        plugins.extend(self.after.iter().cloned());
        let kinds: Vec<String> = plugins
            .iter()
            .filter_map(|plugin| plugin["type"].as_str().map(str::to_owned))
            .collect();
        let network = Network::new(&scenario.lan.host, conflist);
        let mut attachment = Attachment::new(&container);
        attachment.capabilities = self.capabilities.as_object().cloned().unwrap_or_default();
        let links = scenario.lan.host.links()?.len();
        let result = network.add(&attachment)?;
        let leased = address(&container)?;
        let holds = || (self.holds)(&container, &container.link("eth0")?);
        holds().context("after ADD")?;

        server.reconfigure(|settings| {
            let far = ([192, 168, 9, 0].into(), [10, 99, 0, 8].into());
            settings.options.extend([
                DhcpOption::StaticRoutingTable(vec![far]),
                DhcpOption::InterfaceMtu(1400),
            ]);
        });
        let renewals = || scenario.daemon.log().matches("lease renewed").count();
        let before = renewals();
        until("two renewals", SOON, || renewals() >= before + 2)?;
        holds().context("after two renewals")?;
        for (index, kind) in kinds.iter().enumerate() {
            if !self.unchecked.contains(&kind.as_str()) {
                let check = network.prepare("CHECK", index, &attachment, Some(&result))?;
                let outcome = check.run(&scenario.lan.host)?.success();
                outcome.with_context(|| format!("{kind}'s CHECK"))?;
            }
        }
        ensure!(address(&container)? == leased);
        scenario.lan.lan.ping(leased.into(), SOON)?;

        network.del(&attachment)?;
        ensure_nothing_left(&container)?;
        let rules = container.netlink()?.rules()?;
        ensure!(
            !rules.iter().any(|rule| rule.from.addr() == leased),
            "{rules:?}"
        );
        until("the lease is given back", SOON, || {
            server.leases().is_empty()
        })?;
        ensure!(scenario.lan.host.links()?.len() == links);
        Ok(())
    }
}

fn tuning(keys: Value) -> Value {
    let mut tuning = json!({ "type": "tuning" });
    if let (Some(tuning), Value::Object(keys)) = (tuning.as_object_mut(), keys) {
        tuning.extend(keys);
    }
    tuning
}

fn tuning_with_sysctls(world: &World) -> Result {
    let sysctls = json!({ "sysctl": { "net.ipv4.conf.eth0.rp_filter": "2" } });
    Chain::of(&[tuning(sysctls)]).run(world)
}

fn has_other_mac(_: &Node, link: &Link) -> Result {
    ensure!(link.mac == Some(OTHER_MAC.parse()?), "{link:?}");
    Ok(())
}

fn tuning_with_a_mac(world: &World) -> Result {
    let chain = Chain::of(&[tuning(json!({ "mac": OTHER_MAC }))]);
    Chain {
        holds: has_other_mac,
        ..chain
    }
    .run(world)
}

fn tuning_with_a_mac_for_a_client_identified_by_it(world: &World) -> Result {
    let chain = Chain::of(&[tuning(json!({ "mac": OTHER_MAC }))]);
    Chain {
        ipam: json!({ "clientId": "mac" }),
        holds: has_other_mac,
        ..chain
    }
    .run(world)
}

fn tuning_with_an_mtu(world: &World) -> Result {
    let chain = Chain::of(&[tuning(json!({ "mtu": 1300 }))]);
    Chain {
        holds: |_, link| {
            ensure!(link.mtu == 1300, "{link:?}");
            Ok(())
        },
        ..chain
    }
    .run(world)
}

fn tuning_with_promiscuous_mode(world: &World) -> Result {
    let chain = Chain::of(&[tuning(json!({ "promisc": true }))]);
    Chain {
        holds: |_, link| {
            ensure!(link.promiscuous, "{link:?}");
            Ok(())
        },
        ..chain
    }
    .run(world)
}

fn tuning_with_all_multicasts(world: &World) -> Result {
    Chain::of(&[tuning(json!({ "allmulti": true }))]).run(world)
}

fn sbr_moves_routes(world: &World) -> Result {
    let chain = Chain::of(&[json!({ "type": "sbr" })]);
    Chain {
        holds: |container, link| {
            let mut routes = container.routes()?;
            routes.retain(|route| route.index == link.index && route.gateway.is_some());
            let defaults = routes.iter().filter(|route| route.dst.prefix_len() == 0);
            let tables: Vec<u32> = defaults.map(|route| route.table).collect();
            ensure!(
                tables.len() == 1 && tables[0] != Route::MAIN,
                "the default route is in {tables:?}"
            );
            Ok(())
        },
        ..chain
    }
    .run(world)
}

fn portmap_and_firewall(world: &World) -> Result {
    let chain = Chain::of(&[
        json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": false }),
        json!({ "type": "firewall", "backend": "iptables" }),
    ]);
    Chain {
        capabilities: json!({
            "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        }),
        // It looks for an IPv6 mapping that it has not made.
        unchecked: &["portmap"],
        ..chain
    }
    .run(world)
}

/// With limits it refuses a macvlan, which has no end on the host to shape.
fn bandwidth_without_limits(world: &World) -> Result {
    let bandwidth = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } });
    Chain {
        // It looks for that end even without limits.
        unchecked: &["bandwidth"],
        ..Chain::of(&[bandwidth])
    }
    .run(world)
}
