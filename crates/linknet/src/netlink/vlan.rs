//! VLANs: what describes one, and the message that creates one.

use rtnetlink::packet_route::link::{InfoKind, InfoVlan, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkVlan};

/// The properties of a link that is a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// The VLAN identifier of its tag, 1 to 4094.
    pub id: u16,
    /// The EtherType of its tag, in host byte order: usually [`Vlan::C_TAG`].
    pub protocol: u16,
}

impl Vlan {
    /// A customer tag, the usual kind of VLAN (IEEE 802.1Q).
    pub const C_TAG: u16 = 0x8100;
    /// The largest identifier: 4095 is reserved (IEEE 802.1Q, table 9-2).
    pub const MAX_ID: u16 = 4094;

    pub(super) fn from_info(infos: impl Iterator<Item = InfoVlan>) -> Option<Vlan> {
        let (mut id, mut protocol) = (None, Vlan::C_TAG);
        for info in infos {
            match info {
                InfoVlan::Id(number) => id = Some(number),
                InfoVlan::Protocol(ether_type) => protocol = ether_type.into(),
                _ => {}
            }
        }
        Some(Vlan { id: id?, protocol })
    }
}

/// A VLAN to be created with [`Netlink::add_vlan`](crate::Netlink::add_vlan).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The index of the link that carries it, in the namespace of the socket that creates it.
    pub parent: u32,
    /// Its identifier, 1 to 4094.
    pub id: u16,
    /// Whether it is set up at once, for which its parent must be up.
    pub up: bool,
    /// See [`Link::group`](crate::Link::group).
    pub group: u32,
}

impl NewVlan<'_> {
    /// The request to create it.
    pub(super) fn message(&self) -> LinkMessage {
        let mut link = LinkVlan::new(self.name, self.parent, self.id);
        if self.up {
            link = link.up();
        }
        if self.group != 0 {
            link = link.link_group(self.group);
        }
        link.build()
    }
}

/// A request for a VLAN without an identifier, on no parent.
pub(super) fn invalid_message() -> LinkMessage {
    LinkMessageBuilder::<LinkVlan>::new_with_info_kind(InfoKind::Vlan).build()
}
