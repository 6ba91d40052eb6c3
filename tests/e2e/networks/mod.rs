//! Several networks in one container.
//!
//! ```text
//!  host                     lan          192.0.2.0/24     far
//!  ┌────────────┐   ┌─────────────────┐              ┌───────────┐
//!  │       eth1─┼───┼─eth0  10.99.0.1 ├──far─────one─┤ 192.0.2.2 │
//!  │            │   └─────────────────┘              │           │
//!  │            │          lan2       198.51.100.0/24 │           │
//!  │            │   ┌─────────────────┐              │           │
//!  │       eth2─┼───┼─eth0  10.98.0.1 ├──far─────two─┤198.51.100.2
//!  └────────────┘   └─────────────────┘              └───────────┘
//! ```
//!
//! Both LANs have a router, each of which lets pass only what comes from where it belongs, as
//! routers do. The far client reaches each LAN through the LAN's own router.

mod keep_routes;
mod leases;
mod several;
mod source_routing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lab::dhcp_server::Settings;
use lab::dhcproto::v4::DhcpOption;
use lab::serde_json::{Value, json};
use lab::{Attachment, Lan, Node, Result, Test, until};
use linknet::{OperState, Route, Rule};

use crate::scenario::{SOON, conflist};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        source_routing::TESTS,
        keep_routes::TESTS,
        leases::TESTS,
        several::TESTS,
    ]
    .concat()
}

/// The host on two LANs, and a client beyond their routers.
pub(crate) struct Lans {
    /// The first, with the host.
    pub(crate) lan: Lan,
    /// The second, at the host's [`Lans::MASTER2`].
    pub(crate) lan2: Node,
    /// The client.
    pub(crate) far: Node,
}

impl Lans {
    pub(crate) const MASTER2: &str = "eth2";
    pub(crate) const ADDRESS2: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
    const ADDRESS2_V6: Ipv6Addr = Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 1);

    pub(crate) fn new() -> Result<Lans> {
        let lan = Lan::with_ipv6()?;
        let (lan2, far) = (Node::new("lan2")?, Node::new("far")?);
        cable((&lan.host, Lans::MASTER2), (&lan2, Lan::SERVER_LINK))?;
        lan2.add_address(Lan::SERVER_LINK, IpNet::new(Lans::ADDRESS2.into(), 24)?)?;
        lan2.add_address(Lan::SERVER_LINK, IpNet::new(Lans::ADDRESS2_V6.into(), 64)?)?;
        for (router, link, ours, theirs, elsewhere, behind) in [
            (
                &lan.lan,
                "one",
                "192.0.2.1/24",
                "192.0.2.2/24",
                "198.51.100.0/24",
                "10.99.0.0/24",
            ),
            (
                &lan.lan,
                "one",
                "2001:db8:1::1/64",
                "2001:db8:1::2/64",
                "2001:db8:2::/64",
                "fd99::/64",
            ),
            (
                &lan2,
                "two",
                "198.51.100.1/24",
                "198.51.100.2/24",
                "192.0.2.0/24",
                "10.98.0.0/24",
            ),
            (
                &lan2,
                "two",
                "2001:db8:2::1/64",
                "2001:db8:2::2/64",
                "2001:db8:1::/64",
                "fd98::/64",
            ),
        ] {
            if far.find_link(link)?.is_none() {
                cable((router, "far"), (&far, link))?;
            }
            let (ours, theirs): (IpNet, IpNet) = (ours.parse()?, theirs.parse()?);
            router.add_address("far", ours)?;
            far.add_address(link, theirs)?;
            // What is sent to the client's other address finds it too, so that only the way back
            // can be wrong.
            route(router, elsewhere, "far", theirs.addr())?;
            route(&far, behind, link, ours.addr())?;
            for setting in [
                ["ipv4", "ip_forward"].as_slice(),
                &["ipv6", "conf", "all", "forwarding"],
            ] {
                router.run(|| linknet::sysctl::set(setting, "1"))??;
            }
            reverse_path_filter(router, true)?;
        }
        Ok(Lans { lan, lan2, far })
    }
}

/// What the second LAN's DHCP server gives: 10.98.0.100 to 199.
fn settings2() -> Settings {
    Settings {
        address: Lans::ADDRESS2,
        pool: Ipv4Addr::new(10, 98, 0, 100)..=Ipv4Addr::new(10, 98, 0, 199),
        options: vec![
            DhcpOption::Router(vec![Lans::ADDRESS2]),
            DhcpOption::DomainNameServer(vec![Lans::ADDRESS2]),
        ],
        ..Settings::default()
    }
}

/// A cable between two nodes, live.
fn cable(one: (&Node, &str), other: (&Node, &str)) -> Result {
    one.0.add_veth(one.1, other)?;
    for (node, link) in [one, other] {
        node.set_up(link)?;
    }
    for (node, link) in [one, other] {
        until("the cable is live", SOON, || {
            node.link(link)
                .is_ok_and(|link| link.state == OperState::Up)
        })?;
    }
    Ok(())
}

pub(crate) fn route(node: &Node, dst: &str, link: &str, gateway: IpAddr) -> Result {
    let route = Route::new(dst.parse::<IpNet>()?, node.link(link)?.index).via(gateway);
    Ok(node.netlink()?.add_route(&route)?)
}

/// Has a node take packets only from where it would answer to (RFC 3704), or from anywhere. IPv6
/// has no such setting.
pub(crate) fn reverse_path_filter(node: &Node, strict: bool) -> Result {
    // Of the setting for all links and that of the one, the greater counts.
    for link in node
        .links()?
        .iter()
        .map(|link| link.name.as_str())
        .chain(["all"])
    {
        let setting = ["ipv4", "conf", link, "rp_filter"];
        node.run(|| linknet::sysctl::set(&setting, if strict { "1" } else { "0" }))??;
    }
    Ok(())
}

/// A network on the first LAN.
fn first(keys: Value) -> Value {
    named("lan", Lan::MASTER, keys)
}

/// A network on the second.
fn second(keys: Value) -> Value {
    named("lan2", Lans::MASTER2, keys)
}

fn named(name: &str, master: &str, keys: Value) -> Value {
    let mut conflist = conflist(keys);
    conflist["name"] = json!(name);
    conflist["plugins"][0]["master"] = json!(master);
    conflist
}

/// An interface of a container by its name.
pub(crate) fn at(container: &Node, ifname: &str) -> Attachment {
    Attachment {
        ifname: ifname.to_owned(),
        ..Attachment::new(container)
    }
}

/// The rules that leasehold made.
fn rules(container: &Node) -> Result<Vec<Rule>> {
    let mut rules = container.netlink()?.rules()?;
    rules.retain(|rule| rule.protocol == attachment::PROTOCOL);
    Ok(rules)
}

/// The gateways of the main table's default routes of a family, the one that is used first.
pub(crate) fn default_gateways(container: &Node, v6: bool) -> Result<Vec<IpAddr>> {
    let mut routes = container.routes()?;
    routes.retain(|route| {
        route.table == Route::MAIN
            && route.dst.prefix_len() == 0
            && route.dst.addr().is_ipv6() == v6
    });
    routes.sort_by_key(|route| route.metric);
    Ok(routes
        .into_iter()
        .filter_map(|route| route.gateway)
        .collect())
}
