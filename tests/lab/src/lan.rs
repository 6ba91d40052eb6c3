//! The network of a world: nodes (named network namespaces) and the LAN that joins two of them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linknet::{Address, Link, Netlink, Netns, NewAddress, OperState, Route};

use crate::{Result, deadline, named_netns, ping, suite::packages::find_program, until};

/// Where network namespaces have their names.
const NETNS_DIR: &str = "/run/netns";

/// The bridge that is the switch between several hosts.
const SWITCH: &str = "br0";

/// The world's LAN: the host that plugins run on, behind a cable to where the servers are.
#[derive(Debug)]
pub struct Lan {
    /// Where the plugins and the daemon run; its parent link `eth1` is one end of the cable.
    pub host: Node,
    /// Where the servers run; the other end, `eth0`, has the addresses [`Lan::ADDRESS`] and, if
    /// asked for, [`Lan::ADDRESS6`].
    pub lan: Node,
}

impl Lan {
    /// The host's end of the cable: the plugins' `master`.
    pub const MASTER: &str = "eth1";
    /// The servers' end of the cable.
    pub const SERVER_LINK: &str = "eth0";
    /// The servers' address, and the LAN's gateway.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    /// The LAN's network, with the servers' address in it.
    pub const NET: Ipv4Net = Ipv4Net::new_assert(Self::ADDRESS, 24);
    /// The servers' address in [`Lan::NET6`].
    pub const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
    /// The LAN's IPv6 network, with the servers' address in it.
    pub const NET6: Ipv6Net = Ipv6Net::new_assert(Self::ADDRESS6, 64);

    /// Makes the two nodes and the cable, everything up, IPv4 only.
    ///
    /// # Errors
    /// Outside a [`World`](crate::World), or when the kernel lacks a kind of link.
    pub fn new() -> Result<Lan> {
        let lan = Lan {
            host: Node::new("host")?,
            lan: Node::new("lan")?,
        };
        lan.host
            .add_veth(Self::MASTER, (&lan.lan, Self::SERVER_LINK))?;
        for (node, link) in [(&lan.host, Self::MASTER), (&lan.lan, Self::SERVER_LINK)] {
            node.set_up(link)?;
        }
        lan.lan.add_address(Self::SERVER_LINK, Self::NET.into())?;
        for (node, link) in [(&lan.host, Self::MASTER), (&lan.lan, Self::SERVER_LINK)] {
            wait_until_live(node, link)?;
        }
        Ok(lan)
    }

    /// Like [`Lan::new`], and with a second host, whose link has the same name. A switch joins both
    /// hosts and the servers.
    ///
    /// # Errors
    /// As [`Lan::new`].
    pub fn with_two_hosts() -> Result<(Lan, Node)> {
        let lan = Lan {
            host: Node::new("host")?,
            lan: Node::new("lan")?,
        };
        let second = Node::new("host2")?;
        let switch = Node::new("switch")?;
        switch.add_bridge(SWITCH)?;
        switch.set_up(SWITCH)?;
        let ends = [
            (&lan.host, Self::MASTER),
            (&second, Self::MASTER),
            (&lan.lan, Self::SERVER_LINK),
        ];
        for (node, link) in ends {
            let port = node.name();
            node.add_veth(link, (&switch, port))?;
            switch.add_bridge_port(SWITCH, port)?;
            switch.set_up(port)?;
            node.set_up(link)?;
        }
        lan.lan.add_address(Self::SERVER_LINK, Self::NET.into())?;
        for (node, link) in ends {
            wait_until_live(node, link)?;
            wait_until_live(&switch, node.name())?;
        }
        wait_until_live(&switch, SWITCH)?;
        Ok((lan, second))
    }

    /// Like [`Lan::new`], and with [`Lan::ADDRESS6`], usable at once (without duplicate address
    /// detection).
    ///
    /// # Errors
    /// As [`Lan::new`].
    pub fn with_ipv6() -> Result<Lan> {
        let lan = Lan::new()?;
        lan.lan.add_address(Self::SERVER_LINK, Self::NET6.into())?;
        Ok(lan)
    }

    /// A container: a further node, connected to nothing yet.
    ///
    /// # Errors
    /// When there is one of this name.
    pub fn container(&self, name: &str) -> Result<Node> {
        Node::new(name)
    }
}

/// Waits until a link has a carrier. The kernel notices one in its own time, and until then it
/// drops what is sent.
fn wait_until_live(node: &Node, link: &str) -> Result {
    until("the cable is live", Duration::from_secs(5), || {
        node.link(link)
            .is_ok_and(|link| link.state == OperState::Up)
    })
}

/// A network namespace with a name, `lo` up: the host, the servers' side, a container.
///
/// The namespace stays when this is dropped, as a container outlives the runtime that made it.
/// [`Node::remove`] removes it.
#[derive(Debug)]
pub struct Node {
    name: String,
    netns: Netns,
}

impl Node {
    /// Makes a namespace and binds it at `/run/netns/NAME`.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn new(name: &str) -> Result<Node> {
        let node = Node {
            name: name.to_owned(),
            netns: named_netns::create(&Path::new(NETNS_DIR).join(name))?,
        };
        node.run(loopback_up)??;
        Ok(node)
    }

    /// Its name, under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, as a runtime passes it in `CNI_NETNS`.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Removes the name and closes the namespace, which is gone once nothing else refers to it.
    ///
    /// # Errors
    /// When the name has been removed already.
    pub fn remove(self) -> Result {
        named_netns::remove(&self.path())
            .with_context(|| format!("remove network namespace {}", self.name))
    }

    /// Runs `f` on a thread in this namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        self.netns
            .run(f)
            .with_context(|| format!("enter network namespace {}", self.name))
    }

    /// Starts a command in this namespace.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        self.run(|| command.spawn())?
            .with_context(|| format!("start {} in {}", program.display(), self.name))
    }

    /// Runs a command, given as its words, to its end and returns its standard output.
    ///
    /// # Errors
    /// When it fails; the error has its standard error.
    pub fn output(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("a command needs a program")?;
        // `bridge` and its like are in directories that an ordinary user's PATH may lack.
        let mut command = Command::new(find_program(program).unwrap_or_else(|| program.into()));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let Output {
            status,
            stdout,
            stderr,
        } = self.spawn(&mut command)?.wait_with_output()?;
        ensure!(
            status.success(),
            "{} in {}: {status}\n{}",
            words.join(" "),
            self.name,
            String::from_utf8_lossy(&stderr)
        );
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// A netlink socket into this namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn netlink(&self) -> Result<Netlink> {
        Netlink::open_in(&self.netns).with_context(|| format!("netlink in {}", self.name))
    }

    /// All links, `lo` included.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn links(&self) -> Result<Vec<Link>> {
        Ok(self.netlink()?.links()?)
    }

    /// The link of this name, if there is one.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn find_link(&self, name: &str) -> Result<Option<Link>> {
        Ok(self.netlink()?.link(name)?)
    }

    /// The link of this name, which must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn link(&self, name: &str) -> Result<Link> {
        self.find_link(name)?
            .with_context(|| format!("{} has no link {name}", self.name))
    }

    /// The addresses of a link, of both families.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn addresses(&self, link: &str) -> Result<Vec<Address>> {
        Ok(self.netlink()?.addresses(self.link(link)?.index)?)
    }

    /// The IPv4 addresses of a link, with their prefixes.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn ipv4(&self, link: &str) -> Result<Vec<Ipv4Net>> {
        let nets = self
            .addresses(link)?
            .into_iter()
            .filter_map(|address| match address.net {
                IpNet::V4(net) => Some(net),
                IpNet::V6(_) => None,
            });
        Ok(nets.collect())
    }

    /// The routes of all tables.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn routes(&self) -> Result<Vec<Route>> {
        Ok(self.netlink()?.routes(None)?)
    }

    /// Gives a link an address, usable at once.
    ///
    /// # Errors
    /// When there is no such link, or it has the address.
    pub fn add_address(&self, link: &str, net: IpNet) -> Result {
        let index = self.link(link)?.index;
        self.netlink()?.add_address(
            index,
            &NewAddress {
                nodad: true,
                ..NewAddress::new(net)
            },
        )?;
        Ok(())
    }

    /// Pings `to` from here until one answer has come, and returns how long that one took.
    ///
    /// # Errors
    /// When none comes within the time that an idle machine needs
    /// (see [`deadline`](crate::deadline())).
    pub fn ping(&self, to: IpAddr, within: Duration) -> Result<Duration> {
        self.run(|| ping::ping(to, deadline(within)))?
            .with_context(|| format!("ping {to} from {}", self.name))
    }

    /// Whether `to` answers a ping from here within exactly this time: for answers that must not
    /// come. A slow machine can only lose some.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn is_answered(&self, to: IpAddr, within: Duration) -> Result<bool> {
        Ok(self.run(|| ping::ping(to, within))?.is_ok())
    }
}

/// Brings up `lo` in the calling thread's namespace.
pub(crate) fn loopback_up() -> Result {
    let netlink = Netlink::open()?;
    let lo = netlink
        .link("lo")?
        .context("a network namespace has no lo")?;
    netlink.set_up(lo.index).context("bring lo up")
}
