//! The crowd: thousands of interfaces in a few network namespaces, each of which gets a lease.

use cni::{Attachment, Env, KnownArgs, Request};
use lab::anyhow::{Context, anyhow};
use lab::serde_json::json;
use lab::{Node, Result};
use leasehold_dhcp::protocol::LeaseParams;
use linknet::{MacvlanMode, Netlink, NewMacvlan, sysctl};

use crate::site::{CONFIG_VERSION, PARENT, Site};

/// How many interfaces share a namespace. The kernel looks through all of them for each that is
/// listed.
const PER_NETNS: usize = 100;

/// The network that the crowd is attached to.
pub(crate) const NETWORK: &str = "crowd";

/// The interfaces, in the order in which they were created.
#[derive(Default)]
pub(crate) struct Crowd {
    nodes: Vec<Node>,
    size: usize,
}

/// One interface of the crowd.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) attachment: Attachment,
    pub(crate) netns: std::path::PathBuf,
}

impl Crowd {
    /// Creates interfaces until there are so many.
    pub(crate) fn grow(&mut self, site: &Site, size: usize) -> Result {
        let host = site.lan.host.netlink()?;
        let parent = site.lan.host.link(PARENT)?.index;
        while self.size < size {
            if self.size.is_multiple_of(PER_NETNS) {
                let node = site.lan.container(&format!("crowd{}", self.nodes.len()))?;
                // Neighbour discovery of so many interfaces would be a flood.
                node.run(|| sysctl::set(&["ipv6", "conf", "default", "disable_ipv6"], "1"))??;
                self.nodes.push(node);
            }
            let node = self.nodes.last().context("no namespace")?;
            let until = size.min(self.nodes.len() * PER_NETNS);
            let inside = node.netlink()?;
            for number in self.size..until {
                add_macvlan(&host, parent, node, &inside, number)?;
            }
            self.size = until;
        }
        Ok(())
    }

    /// The interfaces with these numbers.
    pub(crate) fn members(&self, numbers: std::ops::Range<usize>) -> Result<Vec<Member>> {
        numbers
            .map(|number| {
                let netns = self.nodes[number / PER_NETNS].path();
                let attachment = Attachment::new(container_id(number), NETWORK, ifname(number));
                let attachment = attachment.map_err(|error| anyhow!("{error}"))?;
                Ok(Member { attachment, netns })
            })
            .collect()
    }
}

/// In mode private, so that no member hears what the others broadcast.
fn add_macvlan(
    host: &Netlink,
    parent: u32,
    node: &Node,
    inside: &Netlink,
    number: usize,
) -> Result {
    let name = ifname(number);
    let new = NewMacvlan {
        mode: MacvlanMode::Private,
        up: true,
        ..NewMacvlan::new(&name, parent)
    };
    host.add_macvlan(&new, node.netns(), inside)?;
    Ok(())
}

fn ifname(number: usize) -> String {
    format!("eth{}", number % PER_NETNS)
}

/// An identifier as long as those of Podman and containerd.
fn container_id(number: usize) -> String {
    format!("{number:064x}")
}

impl Member {
    /// The configuration of its network, as the plugin `dhcp` reads it.
    pub(crate) fn config() -> String {
        let config = json!({
            "cniVersion": CONFIG_VERSION,
            "name": NETWORK,
            "type": "macvlan",
            "master": PARENT,
            "ipam": { "type": "dhcp" },
        });
        config.to_string()
    }

    /// What the plugin `dhcp` asks the daemon for.
    pub(crate) fn params(&self) -> Result<LeaseParams> {
        let netns = self.netns.to_str().context("a path in UTF-8")?;
        let variables = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", self.attachment.container_id()),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", self.attachment.ifname()),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        let env: Env = variables.into_iter().collect();
        let request = Request::parse(&env, Self::config().as_bytes(), KnownArgs::Any)?;
        Ok(leasehold_dhcp::lease_params(&request, None)?)
    }
}
