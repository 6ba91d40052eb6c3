//! Links: reading them, and changing one.

use std::fmt;

use libc::{IFLA_ALT_IFNAME, IFNAMSIZ, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK};
use netlink_packet_core::{DefaultNla, Parseable};
use netlink_packet_route::link::{
    InfoData, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, Prop, State,
};

use super::macvlan::Macvlan;
use super::vlan::Vlan;
use super::{Change, Netlink};
use crate::{Mac, Result};

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// Further names that it answers to (`ip link property add … altname`).
    pub alt_names: Vec<String>,
    /// The administrator's note on it (`ip link set … alias`).
    pub alias: Option<String>,
    /// The group that it was put into (`ip link set … group`); 0 is the default one.
    pub group: u32,
    /// Its hardware address, if that is an Ethernet one.
    pub mac: Option<Mac>,
    /// The largest packet it takes, in octets.
    pub mtu: u32,
    /// What its driver would take at most, where it says so (a macvlan: its parent's MTU).
    pub max_mtu: Option<u32>,
    /// Whether it was set up (IFF_UP).
    pub up: bool,
    /// Whether it is up and operational (IFF_RUNNING).
    pub running: bool,
    /// Whether it has a carrier (IFF_LOWER_UP): a cable, a peer that is up.
    pub carrier: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// Whether it is promiscuous because somebody said so (IFF_PROMISC).
    pub promiscuous: bool,
    /// How many want it to be promiscuous: the administrator, a bridge, a macvlan whose MAC its
    /// driver cannot filter. It receives everybody's frames unless this is 0.
    pub promiscuity: u32,
    /// Its operational state (RFC 2863).
    pub state: OperState,
    /// The kind of virtual device (`macvlan`, `bridge`, `veth`…); none for a physical one.
    pub kind: Option<String>,
    /// The interface that it sits on, or is paired with: a macvlan's parent, a veth's peer. It is
    /// in namespace [`Link::parent_netnsid`], if that is given, and in the link's own if not.
    pub parent: Option<u32>,
    /// The number by which this namespace knows the parent's.
    pub parent_netnsid: Option<i32>,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// What it is a port of: `bridge`, `bond`…
    pub port_kind: Option<String>,
    /// What is particular to a macvlan, if it is one.
    pub macvlan: Option<Macvlan>,
    /// What is particular to a VLAN, if it is one.
    pub vlan: Option<Vlan>,
}

/// The operational state of a link (RFC 2863 §3.1.14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OperState {
    /// The driver does not say, as for loopback and many virtual devices. It works.
    #[default]
    Unknown,
    /// A part of it is missing.
    NotPresent,
    /// Down.
    Down,
    /// Down because the device that it sits on is.
    LowerLayerDown,
    /// In a test.
    Testing,
    /// Up, and waiting for something outside, such as 802.1X.
    Dormant,
    /// Up.
    Up,
}

impl Netlink {
    /// The link of that name or alternative name; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut message = request(0);
        // The kernel looks for both sorts of name under either attribute, which differ in the
        // length that they may have.
        message.attributes.push(match name.len() {
            0..IFNAMSIZ => LinkAttribute::IfName(name.to_owned()),
            _ => LinkAttribute::Other(DefaultNla::new(
                IFLA_ALT_IFNAME,
                [name.as_bytes(), b"\0"].concat(),
            )),
        });
        self.get(&|| format!("look up link {name}"), RTM_GETLINK, &message)
    }

    /// The link of that number; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        self.get(
            &|| format!("look up link {index}"),
            RTM_GETLINK,
            &request(index),
        )
    }

    /// All links.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn links(&self) -> Result<Vec<Link>> {
        self.dump(&|| "list links".to_owned(), RTM_GETLINK, &request(0))
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// `is_address_in_use` if another macvlan of the same parent that is up has its MAC, and
    /// whatever else the driver objects to.
    pub fn set_up(&self, index: u32) -> Result<()> {
        let mut message = change(index);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set_link(&|| format!("set link {index} up"), &message)
    }

    /// Sets a link down, which takes away the routes through it and its IPv6 addresses.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn set_down(&self, index: u32) -> Result<()> {
        let mut message = change(index);
        message.header.change_mask = LinkFlags::Up;
        self.set_link(&|| format!("set link {index} down"), &message)
    }

    /// Sets a link's hardware address.
    ///
    /// # Errors
    /// If the address is no unicast address, or the driver will not have it.
    pub fn set_mac(&self, index: u32, mac: Mac) -> Result<()> {
        let attribute = LinkAttribute::Address(mac.octets().to_vec());
        self.set_attribute(
            &|| format!("set the MAC of link {index} to {mac}"),
            index,
            attribute,
        )
    }

    /// Sets a link's MTU.
    ///
    /// # Errors
    /// If the device cannot take as much or as little.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let attribute = LinkAttribute::Mtu(mtu);
        self.set_attribute(
            &|| format!("set the MTU of link {index} to {mtu}"),
            index,
            attribute,
        )
    }

    /// Gives a link another name. Kernels before 6.2 ask for it to be down.
    ///
    /// # Errors
    /// `is_exists` if the name is taken.
    pub fn rename(&self, index: u32, name: &str) -> Result<()> {
        let attribute = LinkAttribute::IfName(name.to_owned());
        self.set_attribute(
            &|| format!("rename link {index} to {name}"),
            index,
            attribute,
        )
    }

    /// Notes something on a link, at most 255 octets.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn set_alias(&self, index: u32, alias: &str) -> Result<()> {
        let attribute = LinkAttribute::IfAlias(alias.to_owned());
        self.set_attribute(
            &|| format!("set the alias of link {index}"),
            index,
            attribute,
        )
    }

    /// Notes something on a link, at most 255 octets, and puts it into a group, both at once.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn set_alias_and_group(&self, index: u32, alias: &str, group: u32) -> Result<()> {
        let mut message = change(index);
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        message.attributes.push(LinkAttribute::Group(group));
        self.set_link(&|| format!("set alias and group of link {index}"), &message)
    }

    /// Makes a link a port of a bridge, bond or VRF; with `None`, of nothing.
    ///
    /// # Errors
    /// If the master will not have it.
    pub fn set_master(&self, index: u32, master: Option<u32>) -> Result<()> {
        let attribute = LinkAttribute::Controller(master.unwrap_or(0));
        let what = || match master {
            Some(master) => format!("make link {index} a port of link {master}"),
            None => format!("free link {index} of its master"),
        };
        self.set_attribute(&what, index, attribute)
    }

    /// Deletes a link, and with it its addresses, routes and, for a veth, its peer.
    ///
    /// # Errors
    /// `is_absent` if there is none; `is_unsupported` for a physical one.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        self.change(
            &|| format!("delete link {index}"),
            RTM_DELLINK,
            Change::Existing,
            &change(index),
        )
    }

    pub(super) fn set_link(&self, what: &dyn Fn() -> String, message: &LinkMessage) -> Result<()> {
        self.change(what, RTM_SETLINK, Change::Existing, message)
    }

    fn set_attribute(
        &self,
        what: &dyn Fn() -> String,
        index: u32,
        attribute: LinkAttribute,
    ) -> Result<()> {
        let mut message = change(index);
        message.attributes.push(attribute);
        self.set_link(what, &message)
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

/// A question about one link, or all of them, without the counters that nobody here reads.
fn request(index: u32) -> LinkMessage {
    let mut message = change(index);
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

pub(super) fn change(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

impl Parseable<[u8]> for Link {
    fn parse(payload: &[u8]) -> Result<Link, netlink_packet_core::DecodeError> {
        LinkMessage::parse(payload).map(Link::from)
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Link {
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
                // Zero stands for "no limit of its own".
                LinkAttribute::MaxMtu(mtu) => link.max_mtu = Some(mtu).filter(|&mtu| mtu != 0),
                LinkAttribute::OperState(state) => link.state = state.into(),
                LinkAttribute::Link(parent) => {
                    link.parent = Some(parent).filter(|&index| index != 0)
                }
                LinkAttribute::LinkNetNsId(id) => link.parent_netnsid = Some(id),
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::PropList(properties) => {
                    link.alt_names
                        .extend(
                            properties
                                .into_iter()
                                .filter_map(|property| match property {
                                    Prop::AltIfName(name) => Some(name),
                                    _ => None,
                                }),
                        );
                }
                LinkAttribute::LinkInfo(infos) => link.read_info(infos),
                _ => {}
            }
        }
        link
    }
}

impl Link {
    /// The longest that a name may be, in octets (`IFNAMSIZ` without the NUL).
    pub const MAX_NAME_LEN: usize = IFNAMSIZ - 1;

    fn read_info(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
                LinkInfo::PortKind(kind) => self.port_kind = Some(kind.to_string()),
                LinkInfo::Data(InfoData::MacVlan(infos)) => {
                    self.macvlan = Some(Macvlan::from_info(infos))
                }
                LinkInfo::Data(InfoData::Vlan(infos)) => self.vlan = Vlan::from_info(&infos),
                _ => {}
            }
        }
    }
}

impl From<State> for OperState {
    fn from(state: State) -> OperState {
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
}
