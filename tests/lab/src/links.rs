//! The virtual links that a test's network is built of. They are made and changed with the crate
//! `rtnetlink` rather than linknet, which is under test and so does not have the only say on what
//! the kernel was asked for.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use rtnetlink::{
    Handle, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, new_connection,
    packet_route::link::{InfoData, InfoVeth, LinkMessage, MacVlanMode},
};

use crate::Node;

impl Node {
    /// Makes a veth pair: `name` on this node, and `peer` on the other. Both ends are down.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn add_veth(&self, name: &str, (other, peer): (&Node, &str)) -> Result<()> {
        let far_end = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .setns_by_fd(other.netns().as_fd().as_raw_fd())
            .build();
        let pair = LinkVeth::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far_end)))
            .build();
        self.request(async |handle| handle.link().add(pair).execute().await)
            .with_context(|| format!("connect {name} on {} with {peer}", self.name()))
    }

    /// Makes a macvlan of mode bridge on `parent`, under this name and down in the container, as a
    /// runtime does.
    ///
    /// # Errors
    /// When there is no such parent, or the name is taken.
    pub fn add_macvlan(&self, parent: &str, (container, name): (&Node, &str)) -> Result<()> {
        let macvlan = LinkMacVlan::new(name, self.link(parent)?.index, MacVlanMode::Bridge)
            .setns_by_fd(container.netns().as_fd().as_raw_fd())
            .build();
        self.request(async |handle| handle.link().add(macvlan).execute().await)
            .with_context(|| format!("make {name} in {} on {parent}", container.name()))
    }

    /// Makes a bridge. It is down and has the kernel's defaults, so a port forwards at once.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        let bridge = LinkBridge::new(name).down().build();
        self.request(async |handle| handle.link().add(bridge).execute().await)
            .with_context(|| format!("make the bridge {name} on {}", self.name()))
    }

    /// Makes `port` a port of `bridge`.
    ///
    /// # Errors
    /// When either does not exist, or the kernel refuses such a port.
    pub fn add_bridge_port(&self, bridge: &str, port: &str) -> Result<()> {
        let index = self.link(bridge)?.index;
        let change = LinkUnspec::new_with_name(port).controller(index).build();
        self.change_link(change)
            .with_context(|| format!("make {port} a port of {bridge} on {}", self.name()))
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// When there is no such link, or its driver refuses.
    pub fn set_up(&self, link: &str) -> Result<()> {
        self.change_link(LinkUnspec::new_with_name(link).up().build())
            .with_context(|| format!("set {link} up on {}", self.name()))
    }

    /// Sets a link down, so its peer loses its carrier. Routes through the link and its IPv6
    /// addresses are lost.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_down(&self, link: &str) -> Result<()> {
        self.change_link(LinkUnspec::new_with_name(link).down().build())
            .with_context(|| format!("set {link} down on {}", self.name()))
    }

    /// Renames a link. Before Linux 6.2 the link must be down.
    ///
    /// # Errors
    /// When there is no such link, or the new name is taken.
    pub fn rename(&self, link: &str, name: &str) -> Result<()> {
        let index = self.link(link)?.index;
        self.change_link(LinkUnspec::new_with_index(index).name(name).build())
            .with_context(|| format!("rename {link} on {} to {name}", self.name()))
    }

    /// Sets a link's alias, a note of at most 255 octets.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_alias(&self, link: &str, alias: &str) -> Result<()> {
        self.change_link(LinkUnspec::new_with_name(link).alias(alias).build())
            .with_context(|| format!("set the alias of {link} on {}", self.name()))
    }

    fn change_link(&self, change: LinkMessage) -> Result<()> {
        self.request(async |handle| handle.link().set(change).execute().await)
    }

    /// Sends a request from this node and waits for the kernel's answer.
    fn request<F>(&self, request: F) -> Result<()>
    where
        F: AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error> + Send,
    {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?;
            runtime.block_on(async {
                let (connection, handle, _) = new_connection()?;
                tokio::spawn(connection);
                Ok(request(handle).await?)
            })
        })?
    }
}
