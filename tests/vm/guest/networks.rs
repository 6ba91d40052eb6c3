//! Two networks in one container: rules, tables and routes as an older kernel has them.

use ipnet::IpNet;
use lab::anyhow::{Context, ensure};
use lab::serde_json::{Value, json};
use lab::{Attachment, Lan, Network, Node, Result, Test, World, test};
use linknet::{Protocol, Route, Rule};

use super::{SOON, conflist};

pub(super) const TESTS: &[Test] = &[test!(the_second_interface_answers_on_its_own_and_leaves_nothing)];

/// Addresses of both families with default routes, in 10.LAN.0.0/24.
fn ipam(lan: u8) -> Value {
    json!({
        "type": "static",
        "addresses": [
            { "address": format!("10.{lan}.0.60/24"), "gateway": format!("10.{lan}.0.1") },
            { "address": format!("fd{lan}::60/64"), "gateway": format!("fd{lan}::1") },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    })
}

/// A second LAN at the host's `eth2`, from which somebody asks who seems to be far away.
fn second_lan(lan: &Lan) -> Result<Node> {
    let node = Node::new("lan2")?;
    lan.host.netlink()?.add_veth("eth2", Lan::SERVER_LINK, Some(node.netns()))?;
    for (node, link) in [(&lan.host, "eth2"), (&node, Lan::SERVER_LINK)] {
        node.netlink()?.set_up(node.link(link)?.index)?;
    }
    let index = node.link(Lan::SERVER_LINK)?.index;
    for (address, prefix, asker) in
        [("10.98.0.1/24", "10.98.0.0/24", "192.0.2.7/32"), ("fd98::1/64", "fd98::/64", "2001:db8::7/128")]
    {
        let (prefix, asker): (IpNet, IpNet) = (prefix.parse()?, asker.parse()?);
        node.add_address(Lan::SERVER_LINK, address.parse()?)?;
        node.add_address("lo", asker)?;
        let route = Route { source: Some(asker.addr()), metric: 1, ..Route::new(prefix, index) };
        node.netlink()?.add_route_beside(&route)?;
        // Before the one that came with the address.
        for theirs in node.netlink()?.routes(Some(index))? {
            if theirs.dst == prefix && !theirs.is_same(&route) {
                node.netlink()?.delete_route(&theirs)?;
            }
        }
    }
    Ok(node)
}

fn ours(container: &Node) -> Result<(Vec<Rule>, Vec<Route>)> {
    let (mut rules, mut routes) = (container.netlink()?.rules()?, container.routes()?);
    rules.retain(|rule| rule.protocol == Protocol::LEASEHOLD);
    routes.retain(|route| route.protocol == Protocol::LEASEHOLD);
    Ok((rules, routes))
}

fn the_second_interface_answers_on_its_own_and_leaves_nothing(_: &World) -> Result {
    let lan = Lan::with_ipv6()?;
    let lan2 = second_lan(&lan)?;
    let container = lan.container("c1")?;
    Network::new(&lan.host, conflist(json!({ "ipam": ipam(99) }))).add(&Attachment::new(&container))?;
    let before = container.routes()?;
    let second = Attachment { ifname: "net1".to_owned(), ..Attachment::new(&container) };
    let keys = json!({
        "master": "eth2", "ipam": ipam(98), "sourceRouting": true, "keepRoutes": ["10.42.0.0/16", "fd42::/16"],
    });
    let network = Network::new(&lan.host, conflist(keys));
    network.add(&second)?;
    let (rules, routes) = ours(&container)?;
    ensure!((rules.len(), routes.len()) == (2, 2), "{rules:?} {routes:?}");
    for address in ["10.98.0.60", "fd98::60"] {
        lan2.ping(address.parse()?, SOON).context("from somebody far away")?;
    }
    for address in ["10.99.0.60", "fd99::60"] {
        lan.lan.ping(address.parse()?, SOON)?;
    }
    network.check(&second)?;
    network.del(&second)?;
    ensure!(ours(&container)? == (vec![], vec![]), "{:?}", ours(&container)?);
    let after = container.routes()?;
    ensure!(after == before, "{after:?}\nrather than\n{before:?}");
    Ok(())
}
