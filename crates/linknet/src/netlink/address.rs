//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use libc::{RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR};
use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};

use super::{Change, Netlink, Protocol, Scope, family};
use crate::Result;

/// An address as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link that it belongs to.
    pub index: u32,
    /// The address itself, with the length of its prefix.
    pub net: IpNet,
    /// The address at the other end, on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// The broadcast address that goes with it.
    pub broadcast: Option<Ipv4Addr>,
    /// How far it is known.
    pub scope: Scope,
    /// For how long it stays; `None` is for ever.
    pub valid: Option<Duration>,
    /// For how long it is used for new connections; `None` is for ever.
    pub preferred: Option<Duration>,
    /// How duplicate address detection stands (IPv6; for IPv4 it is always done).
    pub dad: Dad,
    /// Whether another address of the same prefix comes before it.
    pub secondary: bool,
    /// The metric of the route that came with it, if not the usual one.
    pub metric: Option<u32>,
    /// Who put it there, from kernel 5.18 on.
    pub protocol: Option<Protocol>,
}

/// How duplicate address detection stands (RFC 4862 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dad {
    /// The address can be used: nobody else has it, or nobody was asked.
    Done,
    /// The others are being asked, and the address cannot be used yet.
    Tentative,
    /// Somebody else has it.
    Failed,
}

/// An address to be given to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// The address, with the length of its prefix.
    pub net: IpNet,
    /// See [`Address::broadcast`].
    pub broadcast: Option<Ipv4Addr>,
    /// See [`Address::scope`].
    pub scope: Scope,
    /// See [`Address::valid`]. In whole seconds, rounded down, so that the address never outlives
    /// its lease.
    pub valid: Option<Duration>,
    /// See [`Address::preferred`]. No longer than `valid`.
    pub preferred: Option<Duration>,
    /// Whether an IPv6 address is used without asking the others.
    pub nodad: bool,
    /// Whether no route to the prefix comes with it.
    pub noprefixroute: bool,
    /// See [`Address::metric`].
    pub metric: Option<u32>,
    /// See [`Address::protocol`].
    pub protocol: Option<Protocol>,
}

impl NewAddress {
    /// An address for ever, with the usual broadcast address: none for a prefix of 31 or 32 bits
    /// (RFC 3021), and none in IPv6.
    pub fn new(net: impl Into<IpNet>) -> NewAddress {
        let net = net.into();
        let broadcast = match net {
            IpNet::V4(v4) if v4.prefix_len() < 31 => Some(v4.broadcast()),
            IpNet::V4(_) | IpNet::V6(_) => None,
        };
        NewAddress {
            net,
            broadcast,
            scope: Scope::UNIVERSE,
            valid: None,
            preferred: None,
            nodad: false,
            noprefixroute: false,
            metric: None,
            protocol: None,
        }
    }
}

impl Netlink {
    /// The addresses of a link, of both families.
    ///
    /// # Errors
    /// `is_absent` if there is no such link.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        let found = self.dump(
            &|| format!("list the addresses of link {index}"),
            RTM_GETADDR,
            &message,
        )?;
        // A kernel that does not check strictly does not filter either.
        Ok(found
            .into_iter()
            .filter_map(|Read(address)| address)
            .filter(|a| a.index == index)
            .collect())
    }

    /// The addresses of all links, of both families.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn all_addresses(&self) -> Result<Vec<Address>> {
        let message = AddressMessage::default();
        let found = self.dump(&|| "list addresses".to_owned(), RTM_GETADDR, &message)?;
        Ok(found
            .into_iter()
            .filter_map(|Read(address)| address)
            .collect())
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// `is_exists` if it has it already, be it with other lifetimes.
    pub fn add_address(&self, index: u32, new: &NewAddress) -> Result<()> {
        let what = || format!("add address {} to link {index}", new.net);
        self.change(&what, RTM_NEWADDR, Change::Create, &message(index, new))
    }

    /// Gives a link an address, or sets the lifetimes, flags and metric of the one that it has.
    ///
    /// # Errors
    /// If the kernel objects to a value.
    pub fn replace_address(&self, index: u32, new: &NewAddress) -> Result<()> {
        let what = || format!("set address {} of link {index}", new.net);
        self.change(&what, RTM_NEWADDR, Change::Replace, &message(index, new))
    }

    /// Takes an address away from a link, and with it the routes that use it as their source.
    ///
    /// # Errors
    /// `is_absent` if the link does not have it.
    pub fn delete_address(&self, index: u32, net: impl Into<IpNet>) -> Result<()> {
        let net = net.into();
        let what = || format!("delete address {net} of link {index}");
        self.change(
            &what,
            RTM_DELADDR,
            Change::Existing,
            &message_for(index, net),
        )
    }
}

fn message(index: u32, new: &NewAddress) -> AddressMessage {
    let mut message = message_for(index, new.net);
    message.header.scope = AddressScope::from(new.scope.0);
    let attributes = &mut message.attributes;
    attributes.extend(new.broadcast.map(AddressAttribute::Broadcast));
    attributes.extend(new.metric.map(AddressAttribute::RoutePriority));
    attributes.extend(
        new.protocol
            .map(|Protocol(number)| AddressAttribute::Protocol(number.into())),
    );

    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, new.nodad);
    flags.set(AddressFlags::Noprefixroute, new.noprefixroute);
    if !flags.is_empty() {
        attributes.push(AddressAttribute::Flags(flags));
    }
    // Always there, because a replacement without it leaves the old lifetimes as they are.
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = seconds(new.valid);
    lifetimes.ifa_preferred = seconds(new.preferred).min(lifetimes.ifa_valid);
    attributes.push(AddressAttribute::CacheInfo(lifetimes));
    message
}

fn message_for(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message
        .attributes
        .push(AddressAttribute::Address(net.addr()));
    message
}

/// `INFINITY_LIFE_TIME` of linux/if_addr.h.
const FOREVER: u32 = u32::MAX;

fn seconds(lifetime: Option<Duration>) -> u32 {
    match lifetime {
        None => FOREVER,
        // Zero would be refused as a valid lifetime, and mean "for ever" to nobody.
        Some(lifetime) => lifetime.as_secs().clamp(1, u64::from(FOREVER - 1)) as u32,
    }
}

fn lifetime(seconds: u32) -> Option<Duration> {
    (seconds != FOREVER).then(|| Duration::from_secs(seconds.into()))
}

/// What was read: nothing, if it is of a family other than the two.
struct Read(Option<Address>);

impl Parseable<[u8]> for Read {
    fn parse(payload: &[u8]) -> Result<Read, DecodeError> {
        AddressMessage::parse(payload).map(|message| Read(read(&message)))
    }
}

fn read(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut address = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let mut broadcast = None;
    let mut lifetimes = (FOREVER, FOREVER);
    let mut metric = None;
    let mut protocol = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(it) => local = Some(*it),
            AddressAttribute::Address(it) => address = Some(*it),
            AddressAttribute::Broadcast(it) => broadcast = Some(*it),
            AddressAttribute::Flags(it) => flags = *it,
            AddressAttribute::CacheInfo(it) => lifetimes = (it.ifa_valid, it.ifa_preferred),
            AddressAttribute::RoutePriority(it) => metric = Some(*it),
            AddressAttribute::Protocol(it) => protocol = Some(Protocol((*it).into())),
            _ => {}
        }
    }
    // IFA_ADDRESS is the prefix's own address, which differs from the local one on a point-to-point
    // link only; IPv6 sends IFA_LOCAL in that case only (linux/if_addr.h).
    let own = local.or(address)?;
    let dad = if flags.contains(AddressFlags::Dadfailed) {
        Dad::Failed
    } else if flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic) {
        Dad::Tentative
    } else {
        Dad::Done
    };
    Some(Address {
        index: message.header.index,
        net: IpNet::new(own, message.header.prefix_len).ok()?,
        peer: address.filter(|&address| address != own),
        broadcast,
        scope: Scope(message.header.scope.into()),
        valid: lifetime(lifetimes.0),
        preferred: lifetime(lifetimes.1),
        dad,
        secondary: own.is_ipv4() && flags.contains(AddressFlags::Secondary),
        metric,
        protocol,
    })
}
