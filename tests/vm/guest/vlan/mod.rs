//! VLANs that the plugin makes when a container needs one, and removes with the last.

mod crowd;
mod examples;
mod found;
mod host_access;
mod killed;
mod leaving;
mod made;

use std::path::Path;

use lab::anyhow::{Context, ensure};
use lab::plugin::CniError;
use lab::serde_json::{Value, json};
use lab::{Attachment, Lan, Network, Node, Result, Test};
use linknet::{Link, NewVlan};

use super::conflist;

/// All of them.
pub(super) fn tests() -> Vec<Test> {
    [
        made::TESTS,
        found::TESTS,
        leaving::TESTS,
        crowd::TESTS,
        host_access::TESTS,
        killed::TESTS,
        examples::TESTS,
    ]
    .concat()
}

/// The VLAN of most tests, and what it is called.
const ID: u16 = 228;
const NAME: &str = "eth1.228";

/// A cable that carries VLAN 228, on which the LAN's side has [`Lan::ADDRESS`]. Outside the VLAN it
/// has no address.
struct Trunk {
    lan: Lan,
}

impl Trunk {
    /// The LAN's end of the VLAN.
    const SERVER_LINK: &str = "eth0.228";

    fn new() -> Result<Trunk> {
        let lan = Lan::new()?;
        let servers = lan.lan.netlink()?;
        let cable = lan.lan.link(Lan::SERVER_LINK)?.index;
        servers.delete_address(cable, Lan::NET)?;
        servers.add_vlan(&NewVlan {
            name: Trunk::SERVER_LINK,
            parent: cable,
            id: ID,
            up: true,
            group: 0,
        })?;
        lan.lan.add_address(Trunk::SERVER_LINK, Lan::NET.into())?;
        Ok(Trunk { lan })
    }

    fn host(&self) -> &Node {
        &self.lan.host
    }

    /// A network of macvlan on `eth1` with these keys.
    fn network(&self, keys: Value) -> Network<'_> {
        Network::new(self.host(), conflist(keys))
    }

    /// Like [`Trunk::network`], for the verbs that version 1.1.0 introduced and Debian's IPAM
    /// plugins do not know yet.
    fn modern(&self, keys: Value) -> Network<'_> {
        let mut conflist = conflist(keys);
        conflist["cniVersion"] = json!("1.1.0");
        Network::new(self.host(), conflist)
    }

    /// GC, with these attachments still valid.
    fn gc(&self, valid: &[&Attachment]) -> Result {
        self.modern(json!({ "vlan": ID })).gc(valid)
    }

    /// A container in a network.
    fn attached(&self, name: &str, network: &Network<'_>) -> Result<(Node, Attachment)> {
        let container = self.lan.container(name)?;
        let attachment = Attachment::new(&container);
        network
            .add(&attachment)
            .with_context(|| format!("add {name}"))?;
        Ok((container, attachment))
    }

    /// The error of an ADD, which must leave everything as it was.
    fn refusal(&self, keys: Value) -> Result<CniError> {
        let links = || -> Result<Vec<_>> {
            let links = self.host().links()?.into_iter();
            Ok(links
                .map(|link| (link.index, link.name, link.alias, link.up))
                .collect())
        };
        let before = links()?;
        let container = self.lan.container("refused")?;
        let network = self.network(keys);
        let error = network
            .prepare("ADD", 0, &Attachment::new(&container), None)?
            .run(self.host())?
            .error()?;
        ensure!(
            container.links()?.len() == 1,
            "left in the container: {:?}",
            container.links()?
        );
        let after = links()?;
        ensure!(after == before, "{error}, and not as before: {after:?}");
        container.remove()?;
        Ok(error)
    }

    /// A VLAN that an administrator makes on the host.
    fn administrators(&self, name: &str, id: u16) -> Result<Link> {
        let parent = self.host().link(Lan::MASTER)?.index;
        Ok(self.host().netlink()?.add_vlan(&NewVlan {
            name,
            parent,
            id,
            up: true,
            group: 0,
        })?)
    }

    /// Fails unless the host has `lo`, the cable, and these.
    fn ensure_host_has(&self, more: &[&str]) -> Result {
        let names: Vec<String> = self
            .host()
            .links()?
            .into_iter()
            .map(|link| link.name)
            .collect();
        ensure!(
            names == [&["lo", Lan::MASTER], more].concat(),
            "on the host: {names:?}"
        );
        Ok(())
    }
}

/// An `ipam` section with this address.
fn fixed(address: &str) -> Value {
    json!({ "type": "static", "addresses": [{ "address": address }] })
}

/// An `ipam` section that gives the next of the LAN's addresses.
fn counted(folder: &Path) -> Value {
    json!({
        "type": "host-local",
        "dataDir": folder,
        "ranges": [[{ "subnet": "10.99.0.0/24", "rangeStart": "10.99.0.100", "gateway": "10.99.0.1" }]],
    })
}
