//! The cable between host and switch, and who is on it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lab::serde_json::{Value, json};
use lab::{Lan, Network, Node, Result, network};
use linknet::sysctl;

use crate::macvlan::addresses;
use crate::scenario::{conflist, ensure_nothing_left};

/// The host's own address, on the parent.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// A way of attaching a container.
pub(super) struct Manner {
    pub(super) label: &'static str,
    pub(super) mode: &'static str,
    pub(super) host_access: bool,
    /// Mode source: whether the others' MACs are listed.
    pub(super) listed: bool,
}

impl Manner {
    pub(super) const fn new(mode: &'static str) -> Manner {
        Manner {
            label: mode,
            mode,
            host_access: false,
            listed: true,
        }
    }
}

/// A container on the parent, with the address and MAC of its number.
pub(super) struct Attached<'a> {
    network: Network<'a>,
    container: Node,
    number: u8,
}

impl<'a> Attached<'a> {
    /// A refused attachment leaves nothing.
    pub(super) fn new(lan: &'a Lan, manner: &Manner, number: u8) -> Result<Attached<'a>> {
        let container = lan.container(&format!("c{number}"))?;
        // Duplicate addresses are another test's business, and looking for them takes a second.
        container.run(|| sysctl::set(&["ipv6", "conf", "default", "accept_dad"], "0"))??;
        let attached = Attached {
            network: network(lan, manner, number),
            container,
            number,
        };
        if let Err(refusal) = attached
            .network
            .add(&network::Attachment::new(&attached.container))
        {
            ensure_nothing_left(&attached.container)?;
            attached.container.remove()?;
            return Err(refusal);
        }
        settle(&attached.container)?;
        settle(&lan.host)?; // which may have a link more
        Ok(attached)
    }

    /// Where it is, and its address there.
    pub(super) fn node(&self) -> (&Node, Ipv4Addr) {
        (&self.container, address(self.number))
    }

    pub(super) fn mac(&self) -> String {
        mac(self.number)
    }

    /// Nothing of it is left afterwards.
    pub(super) fn detach(self) -> Result {
        self.network
            .del(&network::Attachment::new(&self.container))?;
        ensure_nothing_left(&self.container)?;
        self.container.remove()
    }
}

/// Has the links of a node ask for their neighbours as a measurement wants it.
fn settle(node: &Node) -> Result {
    let links = node.links()?.into_iter().filter(|link| !link.loopback);
    for name in links.map(|link| link.name) {
        node.run(|| {
            ["ipv4", "ipv6"].iter().try_for_each(|family| {
                let set = |key, value| sysctl::set(&[family, "neigh", &name, key], value);
                // Who was not found behind the one switch is asked for again at once behind the
                // other.
                set("retrans_time_ms", "50")?;
                // A host that has only answered sends no ARP request of its own, from which others
                // would learn its address.
                set("delay_first_probe_time", "3600")
            })
        })??;
    }
    Ok(())
}

/// Puts a switch between the cable and the LAN's address, and gives the host an address of its own.
pub(super) fn wire(lan: &Lan) -> Result {
    lan.lan.add_bridge("br0")?;
    let port = lan.lan.link(Lan::SERVER_LINK)?.index;
    lan.lan.netlink()?.delete_address(port, Lan::NET)?;
    lan.lan.add_bridge_port("br0", Lan::SERVER_LINK)?;
    lan.lan.set_up("br0")?;
    lan.lan.add_address("br0", Lan::NET.into())?;
    lan.lan.add_address("br0", Lan::NET6.into())?;
    settle(&lan.lan)?;
    lan.host
        .add_address(Lan::MASTER, IpNet::new(HOST.into(), 24)?)?;
    lan.host
        .add_address(Lan::MASTER, IpNet::new(address6(HOST).into(), 64)?)
}

/// Whether the switch sends frames back where they came from (802.1Qbg, reflective relay).
pub(super) fn hairpin(lan: &Lan, on: bool) -> Result {
    let state = if on { "on" } else { "off" };
    lan.lan.output(&[
        "bridge",
        "link",
        "set",
        "dev",
        Lan::SERVER_LINK,
        "hairpin",
        state,
    ])?;
    Ok(())
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, number)
}

/// The same host's.
pub(super) fn address6(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, address.octets()[3].into())
}

fn mac(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn network<'a>(lan: &'a Lan, manner: &Manner, number: u8) -> Network<'a> {
    let mut keys = json!({
        "mode": manner.mode,
        "mac": mac(number),
        "ipam": addresses(&[&format!("{}/24", address(number)), &format!("{}/64", address6(address(number)))]),
    });
    if manner.host_access {
        keys["hostAccess"] = json!(true);
    }
    if manner.mode == "source" {
        keys["sourceMacs"] = match manner.listed {
            true => everybody(lan),
            false => json!(["02:00:00:00:00:99"]),
        };
    }
    Network::new(&lan.host, conflist(keys))
}

fn everybody(lan: &Lan) -> Value {
    let real = [lan.lan.link(Lan::SERVER_LINK), lan.host.link(Lan::MASTER)];
    let real = real
        .into_iter()
        .flatten()
        .filter_map(|link| Some(link.mac?.to_string()));
    (10..40).map(mac).chain(real).collect()
}
