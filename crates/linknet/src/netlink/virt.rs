//! The virtual links that tests build their networks of.

use std::os::fd::{AsFd, AsRawFd};

use libc::{RTM_NEWLINK, RTM_SETLINK};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};

use super::socket::{Change, Netlink};
use crate::error::Result;
use crate::netns::Netns;

impl Netlink {
    /// Creates a veth `name` here, and its peer, in `netns` if given. Both are down.
    ///
    /// # Errors
    /// `is_exists` if a name is taken.
    pub fn add_veth(&self, name: &str, peer: &str, netns: Option<&Netns>) -> Result<()> {
        let mut other = LinkUnspec::new_with_name(peer);
        if let Some(netns) = netns {
            other = other.setns_by_fd(netns.as_fd().as_raw_fd());
        }
        let peer = InfoData::Veth(InfoVeth::Peer(other.build()));
        self.add_virtual(name, InfoKind::Veth, Some(peer))
    }

    /// Creates a bridge that is down.
    ///
    /// # Errors
    /// `is_exists` if the name is taken.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        self.add_virtual(name, InfoKind::Bridge, None)
    }

    /// Makes a link a port of a bridge; with `None`, of nothing.
    ///
    /// # Errors
    /// If the master refuses it.
    pub fn set_master(&self, index: u32, master: Option<u32>) -> Result<()> {
        let link = LinkUnspec::new_with_index(index).controller(master.unwrap_or(0));
        let what = || format!("set the master of link {index}");
        self.change(&what, RTM_SETLINK, Change::Existing, &link.build())
    }

    fn add_virtual(&self, name: &str, kind: InfoKind, data: Option<InfoData>) -> Result<()> {
        let what = format!("create {kind} {name}");
        let mut message = LinkMessage::default();
        let info = [LinkInfo::Kind(kind)]
            .into_iter()
            .chain(data.map(LinkInfo::Data))
            .collect();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(info),
        ];
        self.change(&|| what.clone(), RTM_NEWLINK, Change::Create, &message)
    }
}
