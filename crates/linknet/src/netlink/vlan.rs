//! VLANs: links that carry what has an IEEE 802.1Q tag on the link below.

use libc::RTM_NEWLINK;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage,
};

use super::macvlan::set_up;
use super::{Change, Link, Netlink};
use crate::{Error, Result};

/// What is particular to a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// The tag's VLAN identifier, 1 to 4094.
    pub id: u16,
    /// The tag's EtherType, in host byte order: [`Vlan::C_TAG`] as a rule.
    pub protocol: u16,
}

impl Vlan {
    /// A customer's tag, which is what everybody means by "VLAN" (IEEE 802.1Q).
    pub const C_TAG: u16 = 0x8100;
    /// The largest identifier: 4095 is reserved (IEEE 802.1Q, table 9-2).
    pub const MAX_ID: u16 = 4094;

    pub(super) fn from_info(infos: &[InfoVlan]) -> Option<Vlan> {
        let id = infos.iter().find_map(|info| match info {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        })?;
        let protocol = infos.iter().find_map(|info| match info {
            InfoVlan::Protocol(protocol) => Some(u16::from(*protocol)),
            _ => None,
        });
        Some(Vlan {
            id,
            protocol: protocol.unwrap_or(Vlan::C_TAG),
        })
    }
}

/// A VLAN to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The link that it is carried on, by index in the namespace of the socket that makes it.
    pub parent: u32,
    /// Its identifier, 1 to 4094.
    pub id: u16,
    /// Whether it is set up at once. The kernel wants its parent up then.
    pub up: bool,
    /// See [`Link::group`].
    pub group: u32,
}

impl Netlink {
    /// Makes a VLAN beside its parent, with the parent's MAC and MTU, and reads it back.
    ///
    /// # Errors
    /// `is_exists` if the name is taken, or the parent has a VLAN of that identifier;
    /// `is_unsupported` if this kernel has no VLANs. Nothing is left behind.
    pub fn add_vlan(&self, new: &NewVlan<'_>) -> Result<Link> {
        let what = || {
            format!(
                "create VLAN {} ({}) on link {}",
                new.name, new.id, new.parent
            )
        };
        self.change(&what, RTM_NEWLINK, Change::Create, &message(new))?;
        let gone = || Error::new(what(), nix::errno::Errno::ENODEV);
        self.link(new.name)?.ok_or_else(gone)
    }

    /// Whether this kernel has VLANs, or the module for them; which is loaded by asking.
    ///
    /// The kernel is asked for a VLAN without an identifier, on no parent. Whoever has the driver
    /// refuses that (EINVAL) before there is a link.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn has_vlan(&self) -> Result<bool> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                InfoKind::Vlan,
            )]));
        match self.change(
            &|| "ask for the VLAN driver".to_owned(),
            RTM_NEWLINK,
            Change::Create,
            &message,
        ) {
            Err(error) if error.is_unsupported() => Ok(false),
            Err(error) if error.is_invalid() => Ok(true),
            end => end.map(|()| true),
        }
    }
}

fn message(new: &NewVlan<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    set_up(&mut message, new.up);
    message
        .attributes
        .push(LinkAttribute::IfName(new.name.to_owned()));
    message.attributes.push(LinkAttribute::Link(new.parent));
    message.attributes.extend(
        Some(new.group)
            .filter(|&group| group != 0)
            .map(LinkAttribute::Group),
    );
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(new.id)])),
    ]));
    message
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable, Parseable};
    use netlink_packet_route::link::VlanProtocol;

    use super::*;

    fn sent(new: &NewVlan<'_>) -> Vec<u8> {
        let message = message(new);
        let mut octets = vec![0; message.buffer_len()];
        message.emit(&mut octets);
        octets
    }

    // Kernels that build machines run may have no VLANs: this is what one would be told.
    #[test]
    fn one_message_asks_for_all_of_it() {
        let new = NewVlan {
            name: "eth1.228",
            parent: 7,
            id: 228,
            up: true,
            group: 0x6c68,
        };
        #[rustfmt::skip]
        assert_eq!(sent(&new), [
            0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, // ifinfomsg: IFF_UP, and the mask that says so
            13, 0, 3, 0, b'e', b't', b'h', b'1', b'.', b'2', b'2', b'8', 0, 0, 0, 0, // IFLA_IFNAME
            8, 0, 5, 0, 7, 0, 0, 0, // IFLA_LINK
            8, 0, 27, 0, 0x68, 0x6c, 0, 0, // IFLA_GROUP
            28, 0, 18, 0, // IFLA_LINKINFO
            9, 0, 1, 0, b'v', b'l', b'a', b'n', 0, 0, 0, 0, // IFLA_INFO_KIND
            12, 0, 2, 0, 6, 0, 1, 0, 228, 0, 0, 0, // IFLA_INFO_DATA: IFLA_VLAN_ID
        ]);
    }

    #[test]
    fn it_is_made_down_and_in_no_group_unless_asked_for() {
        let octets = sent(&NewVlan {
            name: "v",
            parent: 7,
            id: 1,
            up: false,
            group: 0,
        });
        assert_eq!(octets[8..16], [0; 8]);
        assert!(!octets.chunks_exact(4).any(|word| word == [8, 0, 27, 0]));
    }

    #[test]
    fn identifier_and_protocol_are_read_back() {
        let described = |infos: Vec<InfoVlan>| {
            let mut message = message(&NewVlan {
                name: "lan",
                parent: 7,
                id: 5,
                up: true,
                group: 0,
            });
            message.attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(infos)),
            ]));
            let mut octets = vec![0; message.buffer_len()];
            message.emit(&mut octets);
            Link::parse(&octets).unwrap()
        };
        let link = described(vec![
            InfoVlan::Protocol(VlanProtocol::Ieee8021Ad),
            InfoVlan::Id(228),
        ]);
        assert_eq!(
            link.vlan,
            Some(Vlan {
                id: 228,
                protocol: 0x88a8
            })
        );
        assert_eq!((link.parent, link.kind.as_deref()), (Some(7), Some("vlan")));
        let link = described(vec![InfoVlan::Id(4094)]);
        assert_eq!(
            link.vlan,
            Some(Vlan {
                id: 4094,
                protocol: Vlan::C_TAG
            })
        );
        assert_eq!(link.macvlan, None);
    }
}
