//! The other virtual links that a LAN can be built of.

use std::os::fd::{AsFd, AsRawFd};

use libc::RTM_NEWLINK;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};

use super::{Change, Netlink};
use crate::{Netns, Result};

impl Netlink {
    /// Makes a cable: `name` here, and `peer` at its other end, in `netns` if given. Both ends are
    /// down.
    ///
    /// # Errors
    /// `is_exists` if a name is taken.
    pub fn add_veth(&self, name: &str, peer: &str, netns: Option<&Netns>) -> Result<()> {
        let mut other = LinkMessage::default();
        other
            .attributes
            .push(LinkAttribute::IfName(peer.to_owned()));
        other
            .attributes
            .extend(netns.map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())));
        self.add_link(
            name,
            InfoKind::Veth,
            Some(InfoData::Veth(InfoVeth::Peer(other))),
        )
    }

    /// Makes a bridge, down, with the kernel's defaults: a port forwards at once.
    ///
    /// # Errors
    /// `is_exists` if the name is taken.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        self.add_link(name, InfoKind::Bridge, None)
    }

    fn add_link(&self, name: &str, kind: InfoKind, data: Option<InfoData>) -> Result<()> {
        let what = format!("create {kind} {name}");
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let info = [LinkInfo::Kind(kind)]
            .into_iter()
            .chain(data.map(LinkInfo::Data))
            .collect();
        message.attributes.push(LinkAttribute::LinkInfo(info));
        self.change(&|| what.clone(), RTM_NEWLINK, Change::Create, &message)
    }
}
