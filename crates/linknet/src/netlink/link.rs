//! Links: reading them, changing one, deleting one.

use std::fmt;

use libc::{
    IFLA_ADDRESS, IFLA_ALT_IFNAME, IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_INFO_SLAVE_KIND, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, IFLA_OPERSTATE, IFLA_PROMISCUITY, IFLA_PROP_LIST, IFNAMSIZ, RTM_DELLINK, RTM_GETLINK,
    RTM_SETLINK,
};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_TYPE_MASK, NlaBuffer, Parseable, parse_i32, parse_u32,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::attribute::{attributes, text};
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

    /// All links. One that is too long even for an answer of its own is left out, with a warning in
    /// the log. If links come and go all the time, as root in a container can arrange, some that are
    /// gone may be among them.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn links(&self) -> Result<Vec<Link>> {
        let what = || "list links".to_owned();
        let all = query(0).build();
        match self.dump_despite_changes(&what, RTM_GETLINK, &all, parse, |link| link.index) {
            Err(error) if error.is_too_long() => self.reopen()?.links_one_by_one(),
            listed => listed,
        }
    }

    /// All links, where the kernel cannot list them because one of them is too long: a macvlan in
    /// mode source can have any number of senders.
    pub(super) fn links_one_by_one(&self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for index in self.indices()? {
            match self.link_by_index(index) {
                Ok(link) => links.extend(link),
                Err(error) if error.is_too_long() => log::warn!("left out a link: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(links)
    }

    /// The indices of all links, from the list of their traffic counters, which is never too long.
    fn indices(&self) -> Result<Vec<u32>> {
        let what = || "list the indices of links".to_owned();
        let index = |payload: &[u8]| {
            let index = payload.get(4..8).ok_or("a header is cut off")?;
            parse_u32(index)
        };
        self.dump_despite_changes(&what, RTM_GETSTATS, &StatsQuery, index, |index| *index)
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

    /// Sets a link down. Its routes and its IPv6 addresses go; its IPv4 addresses stay.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn set_down(&self, index: u32) -> Result<()> {
        self.set_link(
            &|| format!("set link {index} down"),
            LinkUnspec::new_with_index(index).down(),
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

/// Of linux/rtnetlink.h. The `libc` crate has it for glibc alone.
const RTM_GETSTATS: u16 = 94;

/// A request for the counters of all links: `struct if_stats_msg` of linux/if_link.h.
struct StatsQuery;

impl Emitable for StatsQuery {
    fn buffer_len(&self) -> usize {
        12
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        // The filter: `IFLA_STATS_LINK_64` alone.
        buffer[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    }
}

/// A request for one link, or for all if `index` is 0, without their traffic counters.
fn query(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
}

/// The link that a message describes.
pub(super) fn parse(payload: &[u8]) -> Result<Link, DecodeError> {
    let header = LinkHeader::parse(payload)?;
    let flags = header.flags;
    let mut link = Link {
        index: header.index,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        promiscuous: flags.contains(LinkFlags::Promisc),
        ..Link::default()
    };
    let octets = &payload[header.buffer_len()..];
    match octets.len() {
        0..=LONGEST => {
            for attribute in attributes(octets) {
                read(&mut link, attribute.kind(), attribute.value());
            }
        }
        _ => read_long(&mut link, octets),
    }
    Ok(link)
}

/// The longest attribute, in octets: its length is a number of 16 bits.
const LONGEST: usize = u16::MAX as usize;

/// Reads the attributes of a link that has more of them than its properties as one of its kind have
/// room for: their length has wrapped around. The kind comes first among them, and what comes after
/// them cannot be found.
fn read_long(link: &mut Link, mut octets: &[u8]) {
    while let &[a, b, c, d, ref rest @ ..] = octets {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK;
        if kind == IFLA_LINKINFO {
            let first = attributes(rest).next();
            let first = first.filter(|info| info.kind() == IFLA_INFO_KIND);
            link.kind = first.map(|info| text(info.value()));
            return;
        }
        let Some(value) = octets.get(4..length) else {
            return;
        };
        read(link, kind, value);
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn read(link: &mut Link, kind: u16, value: &[u8]) {
    let number = || parse_u32(value).ok();
    match kind {
        IFLA_IFNAME => link.name = text(value),
        IFLA_IFALIAS => link.alias = Some(text(value)),
        IFLA_GROUP => link.group = number().unwrap_or_default(),
        IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
        IFLA_MTU => link.mtu = number().unwrap_or_default(),
        IFLA_PROMISCUITY => link.promiscuity = number().unwrap_or_default(),
        IFLA_OPERSTATE => link.state = oper_state(value),
        IFLA_LINK => link.parent = number().filter(|&index| index != 0),
        IFLA_LINK_NETNSID => link.parent_netnsid = parse_i32(value).ok(),
        IFLA_MASTER => link.master = number(),
        IFLA_PROP_LIST => {
            let names = attributes(value).filter(|property| property.kind() == IFLA_ALT_IFNAME);
            link.alt_names.extend(names.map(|name| text(name.value())));
        }
        IFLA_LINKINFO => read_info(link, value),
        _ => {}
    }
}

/// Reads the properties of particular kinds of links. The kind comes before them.
fn read_info(link: &mut Link, infos: &[u8]) {
    for info in attributes(infos) {
        match (info.kind(), link.kind.as_deref()) {
            (IFLA_INFO_KIND, _) => link.kind = Some(text(info.value())),
            (IFLA_INFO_SLAVE_KIND, _) => link.port_kind = Some(text(info.value())),
            (IFLA_INFO_DATA, Some("macvlan")) => {
                link.macvlan = Some(Macvlan::from_info(decodable(info.value())));
            }
            (IFLA_INFO_DATA, Some("vlan")) => {
                link.vlan = Vlan::from_info(decodable(info.value()));
            }
            _ => {}
        }
    }
}

/// Those properties of a link that can be decoded.
fn decodable<'a, T>(properties: &'a [u8]) -> impl Iterator<Item = T>
where
    T: Parseable<NlaBuffer<&'a [u8]>> + 'a,
{
    attributes(properties).filter_map(|property| T::parse(&property).ok())
}

/// The values are `IF_OPER_…` of linux/if.h.
fn oper_state(value: &[u8]) -> OperState {
    match value {
        [1] => OperState::NotPresent,
        [2] => OperState::Down,
        [3] => OperState::LowerLayerDown,
        [4] => OperState::Testing,
        [5] => OperState::Dormant,
        [6] => OperState::Up,
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
    use rtnetlink::packet_route::link::{InfoData, InfoVlan, VlanProtocol};

    use super::*;

    #[test]
    fn each_operational_state_of_the_kernels_is_read_and_shown() {
        for (number, state, shown) in [
            (0, OperState::Unknown, "unknown"),
            (1, OperState::NotPresent, "not present"),
            (2, OperState::Down, "down"),
            (3, OperState::LowerLayerDown, "lower layer down"),
            (4, OperState::Testing, "testing"),
            (5, OperState::Dormant, "dormant"),
            (6, OperState::Up, "up"),
            (7, OperState::Unknown, "unknown"), // that of a kernel to come
        ] {
            let [low, high] = IFLA_OPERSTATE.to_ne_bytes();
            let attribute = [5, 0, low, high, number, 0, 0, 0];
            let described = [&[0; 16][..], &attribute].concat();
            let link = parse(&described).unwrap();
            assert_eq!((link.state, state.to_string().as_str()), (state, shown));
        }
    }

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
