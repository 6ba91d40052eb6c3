//! Links: reading them, changing one, deleting one.

use std::fmt;

use libc::{IFLA_ALT_IFNAME, IFNAMSIZ, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK};
use rtnetlink::packet_core::{DecodeError, DefaultNla, Parseable};
use rtnetlink::packet_route::link::{
    InfoData, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, Prop, State,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::macvlan::Macvlan;
use super::socket::{Change, Netlink};
use super::vlan::Vlan;
use crate::error::Result;
use crate::mac::Mac;

/// A network interface, as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// Its alternative names (`ip link property add … altname`).
    pub alt_names: Vec<String>,
    /// The administrator's note on it (`ip link set … alias`).
    pub alias: Option<String>,
    /// The group that it was put into (`ip link set … group`); 0 is the default group.
    pub group: u32,
    /// Its hardware address, if that is an Ethernet address.
    pub mac: Option<Mac>,
    /// The largest packet that it takes, in octets.
    pub mtu: u32,
    /// Whether it was set up (IFF_UP).
    pub up: bool,
    /// Whether it is up and operational (IFF_RUNNING).
    pub running: bool,
    /// Whether it has a carrier (IFF_LOWER_UP): a cable, or a peer that is up.
    pub carrier: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// Whether it was explicitly set promiscuous (IFF_PROMISC).
    pub promiscuous: bool,
    /// How many users need it to be promiscuous: the administrator, a bridge, a macvlan whose MAC
    /// its driver cannot filter. It is promiscuous unless this is 0.
    pub promiscuity: u32,
    /// Its operational state (RFC 2863).
    pub state: OperState,
    /// The kind of virtual device (`macvlan`, `bridge`, `veth`…); `None` for a physical device.
    pub kind: Option<String>,
    /// The index of the link below it or paired with it: a macvlan's parent, a veth's peer. That
    /// link is in namespace [`Link::parent_netnsid`] if there is one, otherwise in this link's own.
    pub parent: Option<u32>,
    /// The number that this namespace has given to the parent's namespace. See
    /// [`Netlink::nsid`](crate::Netlink::nsid).
    pub parent_netnsid: Option<i32>,
    /// The index of the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// What it is a port of: `bridge`, `bond`…
    pub port_kind: Option<String>,
    /// Its properties as a macvlan, if it is one.
    pub macvlan: Option<Macvlan>,
    /// Its properties as a VLAN, if it is one.
    pub vlan: Option<Vlan>,
}

impl Link {
    /// The maximum length of a name in octets (`IFNAMSIZ` without the NUL).
    pub const MAX_NAME_LEN: usize = IFNAMSIZ - 1;
}

/// The operational state of a link (RFC 2863 §3.1.14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OperState {
    /// The driver does not report a state, which is usual for loopback and many virtual devices.
    /// The link works.
    #[default]
    Unknown,
    /// A component of it is missing.
    NotPresent,
    /// Down.
    Down,
    /// Down because the link below it is down.
    LowerLayerDown,
    /// In a test.
    Testing,
    /// Up, but waiting for an external event such as 802.1X authentication.
    Dormant,
    /// Up.
    Up,
}

impl Netlink {
    /// The link with this name or alternative name; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        // The kernel looks up both sorts of name whichever attribute holds the text. The two
        // attributes differ in how long a text they may hold.
        let attribute = match name.len() {
            0..IFNAMSIZ => LinkAttribute::IfName(name.to_owned()),
            _ => LinkAttribute::Other(DefaultNla::new(
                IFLA_ALT_IFNAME,
                [name.as_bytes(), b"\0"].concat(),
            )),
        };
        let message = query(0).append_extra_attribute(attribute).build();
        self.get(
            &|| format!("look up link {name}"),
            RTM_GETLINK,
            &message,
            parse,
        )
    }

    /// The link with this index; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        self.get(
            &|| format!("look up link {index}"),
            RTM_GETLINK,
            &query(index).build(),
            parse,
        )
    }

    /// All links.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn links(&self) -> Result<Vec<Link>> {
        let what = || "list links".to_owned();
        self.dump(&what, RTM_GETLINK, &query(0).build(), parse)
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// `is_address_in_use` if another macvlan on the same parent is up with its MAC, and whatever
    /// else the driver objects to.
    pub fn set_up(&self, index: u32) -> Result<()> {
        self.set_link(
            &|| format!("set link {index} up"),
            LinkUnspec::new_with_index(index).up(),
        )
    }

    /// Sets a link's hardware address.
    ///
    /// # Errors
    /// If it is not a unicast address, or the driver refuses it.
    pub fn set_mac(&self, index: u32, mac: Mac) -> Result<()> {
        self.set_link(
            &|| format!("set the MAC of link {index} to {mac}"),
            LinkUnspec::new_with_index(index).address(mac.octets().to_vec()),
        )
    }

    /// Sets a link's MTU.
    ///
    /// # Errors
    /// If the device does not support that MTU.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        self.set_link(
            &|| format!("set the MTU of link {index} to {mtu}"),
            LinkUnspec::new_with_index(index).mtu(mtu),
        )
    }

    /// Sets a link's alias, at most 255 octets, and its group, in one step.
    ///
    /// # Errors
    /// `is_absent` if there is no such link.
    pub fn set_alias_and_group(&self, index: u32, alias: &str, group: u32) -> Result<()> {
        self.set_link(
            &|| format!("set alias and group of link {index}"),
            LinkUnspec::new_with_index(index)
                .alias(alias)
                .link_group(group),
        )
    }

    /// Deletes a link, with its addresses and routes, and with its peer if it is a veth.
    ///
    /// # Errors
    /// `is_absent` if there is no such link; `is_unsupported` for a physical one.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        self.change(
            &|| format!("delete link {index}"),
            RTM_DELLINK,
            Change::Existing,
            &LinkUnspec::new_with_index(index).build(),
        )
    }

    fn set_link(
        &self,
        what: &dyn Fn() -> String,
        link: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        self.change(what, RTM_SETLINK, Change::Existing, &link.build())
    }
}

/// A request for one link, or for all if `index` is 0, without their traffic counters.
fn query(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
}

/// The link that a message describes.
pub(super) fn parse(payload: &[u8]) -> Result<Link, DecodeError> {
    LinkMessage::parse(payload).map(read)
}

fn read(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        promiscuous: flags.contains(LinkFlags::Promisc),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Group(group) => link.group = group,
            LinkAttribute::Address(octets) => link.mac = octets.try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Promiscuity(count) => link.promiscuity = count,
            LinkAttribute::OperState(state) => link.state = oper_state(state),
            LinkAttribute::Link(parent) => link.parent = Some(parent).filter(|&index| index != 0),
            LinkAttribute::LinkNetNsId(id) => link.parent_netnsid = Some(id),
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::PropList(properties) => {
                link.alt_names.extend(properties.into_iter().filter_map(
                    |property| match property {
                        Prop::AltIfName(name) => Some(name),
                        _ => None,
                    },
                ));
            }
            LinkAttribute::LinkInfo(infos) => read_info(&mut link, infos),
            _ => {}
        }
    }
    link
}

/// Reads the properties of particular kinds of links.
fn read_info(link: &mut Link, infos: Vec<LinkInfo>) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
            LinkInfo::PortKind(kind) => link.port_kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::MacVlan(infos)) => {
                link.macvlan = Some(Macvlan::from_info(infos));
            }
            LinkInfo::Data(InfoData::Vlan(infos)) => link.vlan = Vlan::from_info(&infos),
            _ => {}
        }
    }
}

fn oper_state(state: State) -> OperState {
    match state {
        State::NotPresent => OperState::NotPresent,
        State::Down => OperState::Down,
        State::LowerLayerDown => OperState::LowerLayerDown,
        State::Testing => OperState::Testing,
        State::Dormant => OperState::Dormant,
        State::Up => OperState::Up,
        _ => OperState::Unknown,
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperState::Unknown => "unknown",
            OperState::NotPresent => "not present",
            OperState::Down => "down",
            OperState::LowerLayerDown => "lower layer down",
            OperState::Testing => "testing",
            OperState::Dormant => "dormant",
            OperState::Up => "up",
        })
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::LinkVlan;
    use rtnetlink::packet_core::Emitable;
    use rtnetlink::packet_route::link::{InfoVlan, VlanProtocol};

    use super::*;

    // The kernels that build machines run may lack VLANs, so nothing else may read one back.
    #[test]
    fn a_vlan_is_read_with_its_identifier_and_protocol() {
        let described = |infos: Vec<InfoVlan>| {
            let message = LinkVlan::new("lan", 7, 5)
                .set_info_data(InfoData::Vlan(infos))
                .build();
            let mut octets = vec![0; message.buffer_len()];
            message.emit(&mut octets);
            parse(&octets).unwrap()
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
