//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use libc::{IFA_LABEL, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR};
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::{DecodeError, Emitable};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage,
    AddressScope, CacheInfo,
};

use super::attribute::decode_all_but;
use super::ip::{Protocol, Scope, family};
use super::socket::{Change, Netlink};
use crate::error::{Error, Result, or_absent};

/// An address of a link, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub index: u32,
    /// The address itself, with its prefix length.
    pub net: IpNet,
    /// The address of the other end, on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// Its broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// How far it is valid.
    pub scope: Scope,
    /// How long it remains; `None` means forever.
    pub valid: Option<Duration>,
    /// How long new connections may use it; `None` means forever.
    pub preferred: Option<Duration>,
    /// The state of duplicate address detection; always [`Dad::Done`] for IPv4.
    pub dad: Dad,
    /// Whether it is not the first IPv4 address of its prefix on the link.
    pub secondary: bool,
    /// The metric of the prefix route that came with it, if it is not the default metric.
    pub metric: Option<u32>,
    /// Who configured it, as reported by kernels from 5.18 on.
    pub protocol: Option<Protocol>,
}

/// The state of duplicate address detection (RFC 4862 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dad {
    /// The address can be used: detection found no duplicate, or was not asked for.
    Done,
    /// Detection is in progress, and the address cannot be used yet.
    Tentative,
    /// Another host has the address.
    Failed,
}

/// An address to be added with [`Netlink::add_address`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// The address, with its prefix length.
    pub net: IpNet,
    /// Its broadcast address. `None` is the prefix's last address, and none at all for IPv4
    /// prefixes of 31 or 32 bits (RFC 3021).
    pub broadcast: Option<Ipv4Addr>,
    /// See [`Address::scope`].
    pub scope: Scope,
    /// See [`Address::valid`]. Rounded down to whole seconds, so that the address never outlives
    /// its lease, but at least one second.
    pub valid: Option<Duration>,
    /// See [`Address::preferred`]. Limited to `valid`.
    pub preferred: Option<Duration>,
    /// Whether to use an IPv6 address without duplicate address detection.
    pub nodad: bool,
    /// See [`Address::metric`].
    pub metric: Option<u32>,
    /// See [`Address::protocol`].
    pub protocol: Option<Protocol>,
}

impl NewAddress {
    /// An address that remains forever, with the kernel's defaults for everything else.
    pub fn new(net: impl Into<IpNet>) -> NewAddress {
        NewAddress {
            net: net.into(),
            broadcast: None,
            scope: Scope::UNIVERSE,
            valid: None,
            preferred: None,
            nodad: false,
            metric: None,
            protocol: None,
        }
    }

    fn message(&self, index: u32) -> AddressMessage {
        let mut message = match self.net {
            IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(index)
                .address(net.addr(), net.prefix_len())
                .build(),
            IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(net.addr(), net.prefix_len())
                .build(),
        };
        // The builder has no methods for the rest.
        message.header.scope = AddressScope::from(self.scope.0);
        let attributes = &mut message.attributes;
        if let Some(broadcast) = self.broadcast {
            attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
            attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        attributes.extend(self.metric.map(AddressAttribute::RoutePriority));
        attributes.extend(
            self.protocol
                .map(|Protocol(number)| AddressAttribute::Protocol(number.into())),
        );
        if self.nodad {
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        // Sent even if both are infinite: a replacement without lifetimes keeps the old ones.
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_valid = to_seconds(self.valid);
        lifetimes.ifa_preferred = to_seconds(self.preferred).min(lifetimes.ifa_valid);
        attributes.push(AddressAttribute::CacheInfo(lifetimes));
        message
    }
}

impl Netlink {
    /// The addresses of a link, of both families.
    ///
    /// # Errors
    /// `is_absent` if there is no such link.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        self.addresses_at_most(self.max_listed(), index)
    }

    fn addresses_at_most(&self, max: usize, index: u32) -> Result<Vec<Address>> {
        // By hand: the builder demands a family, and there is none for a dump.
        let mut message = AddressMessage::default();
        message.header.index = index;
        let what = || format!("list the addresses of link {index}");
        let mut addresses = self.dump_addresses(max, &what, &message)?;
        // A kernel without strict checking does not filter.
        addresses.retain(|address| address.index == index);
        Ok(addresses)
    }

    /// The addresses of all links, of both families.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn all_addresses(&self) -> Result<Vec<Address>> {
        let what = || "list addresses".to_owned();
        self.dump_addresses(self.max_listed(), &what, &AddressMessage::default())
    }

    fn dump_addresses(
        &self,
        max: usize,
        what: &dyn Fn() -> String,
        message: &AddressMessage,
    ) -> Result<Vec<Address>> {
        let found = self.dump_at_most(max, what, RTM_GETADDR, message, parse)?;
        Ok(found.iter().filter_map(read).collect())
    }

    /// Adds an address to a link.
    ///
    /// # Errors
    /// `is_exists` if the link has the address already, even with other lifetimes; `is_invalid`
    /// for a multicast address.
    pub fn add_address(&self, index: u32, new: &NewAddress) -> Result<()> {
        let what = || format!("add address {} to link {index}", new.net);
        self.change(&what, RTM_NEWADDR, Change::Create, &new.message(index))
    }

    /// Adds an address to a link, or changes the lifetimes, flags and metric of an existing one.
    ///
    /// # Errors
    /// If the kernel refuses a value.
    pub fn replace_address(&self, index: u32, new: &NewAddress) -> Result<()> {
        let what = || format!("set address {} of link {index}", new.net);
        self.change(&what, RTM_NEWADDR, Change::Replace, &new.message(index))
    }

    /// Removes an address from a link, and with it the routes that use it as their source.
    ///
    /// # Errors
    /// `is_absent` if the link does not have the address.
    pub fn delete_address(&self, index: u32, net: impl Into<IpNet>) -> Result<()> {
        let net = net.into();
        self.delete(index, net, net.addr())
    }

    /// Removes an address that was found on a link, point-to-point or not.
    ///
    /// # Errors
    /// `is_absent` if it is gone.
    pub fn remove_address(&self, found: &Address) -> Result<()> {
        // An IPv4 address is known by both ends, an IPv6 address by its own.
        let peer = found.peer.filter(IpAddr::is_ipv4);
        self.delete(found.index, found.net, peer.unwrap_or(found.net.addr()))
    }

    /// Removes an address from a link, whatever its prefix and its other end, and returns whether
    /// it was there. It does not list the link's addresses, of which there may be any number.
    ///
    /// # Errors
    /// `is_busy` if the address is still there after having been removed many times.
    pub fn take_off(&self, index: u32, address: IpAddr) -> Result<bool> {
        for attempt in 0..TAKE_OFF_ATTEMPTS {
            match self.take_off_once(index, address) {
                Ok(()) => {}
                Err(error) if error.is_absent() => return Ok(attempt > 0),
                Err(error) => return Err(error),
            }
        }
        let what = format!("take {address} off link {index}");
        let why = "it is there again each time";
        Err(Error::refusal(what, libc::EBUSY, Some(why)))
    }

    /// Removes all addresses of a link, if there are no more than `max`.
    ///
    /// # Errors
    /// `is_too_many` if there are more; none is removed then. Otherwise the kernel's first refusal;
    /// the other addresses are still removed.
    pub fn take_all_off(&self, index: u32, max: usize) -> Result<()> {
        let addresses = self.addresses_at_most(max, index)?;
        let mut outcome = Ok(());
        for address in addresses {
            // The kernel removes secondary addresses with their primary one.
            outcome = outcome.and(or_absent(self.remove_address(&address)));
        }
        outcome
    }

    /// Removes one address of a link that is this one.
    fn take_off_once(&self, index: u32, address: IpAddr) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.index = index;
        if address.is_ipv4() {
            // Without IFA_ADDRESS the kernel compares neither the prefix nor the other end.
            message.attributes = vec![AddressAttribute::Local(address)];
            let what = || format!("take {address} off link {index}");
            return self.change(&what, RTM_DELADDR, Change::Existing, &message);
        }
        // A link has an IPv6 address with one prefix at most, which the kernel wants to be told.
        message.attributes = vec![AddressAttribute::Address(address)];
        let what = || format!("look up {address} on link {index}");
        let found = self.get(&what, RTM_GETADDR, &message, parse)?;
        let Some(found) = found.as_ref().and_then(read) else {
            return Err(Error::refusal(what(), libc::EADDRNOTAVAIL, None));
        };
        self.delete_address(index, found.net)
    }

    fn delete(&self, index: u32, net: IpNet, far_end: IpAddr) -> Result<()> {
        let what = || format!("delete address {net} of link {index}");
        // By hand: the builder leaves a multicast address out, and a request without an address
        // deletes whichever address the link has.
        let mut message = AddressMessage::default();
        message.header.family = family(net.addr());
        message.header.prefix_len = net.prefix_len();
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(net.addr()),
            AddressAttribute::Address(far_end),
        ];
        self.change(&what, RTM_DELADDR, Change::Existing, &message)
    }
}

/// How often [`Netlink::take_off`] removes an address. A link can have an IPv4 address several
/// times, with different prefixes or other ends.
const TAKE_OFF_ATTEMPTS: u32 = 100;

/// `INFINITY_LIFE_TIME` of linux/if_addr.h.
const FOREVER: u32 = u32::MAX;

fn to_seconds(lifetime: Option<Duration>) -> u32 {
    match lifetime {
        None => FOREVER,
        // The kernel refuses a valid lifetime of zero.
        Some(lifetime) => lifetime.as_secs().clamp(1, u64::from(FOREVER - 1)) as u32,
    }
}

fn from_seconds(seconds: u32) -> Option<Duration> {
    (seconds != FOREVER).then(|| Duration::from_secs(seconds.into()))
}

/// Decodes a message, but for the address's label: the name of its link is in it.
pub(super) fn parse(payload: &[u8]) -> Result<AddressMessage, DecodeError> {
    let mut message = AddressMessage::default();
    message.header = AddressHeader::parse(payload)?;
    let attributes = &payload[message.header.buffer_len()..];
    message.attributes = decode_all_but(&[IFA_LABEL], attributes)?;
    Ok(message)
}

/// The address that a message describes; `None` for families other than IPv4 and IPv6.
fn read(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut address = None;
    // The header has the first eight flags, which include all of these.
    let flags = message.header.flags;
    let mut broadcast = None;
    let mut lifetimes = (FOREVER, FOREVER);
    let mut metric = None;
    let mut protocol = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(it) => local = Some(*it),
            AddressAttribute::Address(it) => address = Some(*it),
            AddressAttribute::Broadcast(it) => broadcast = Some(*it),
            AddressAttribute::CacheInfo(it) => lifetimes = (it.ifa_valid, it.ifa_preferred),
            AddressAttribute::RoutePriority(it) => metric = Some(*it),
            AddressAttribute::Protocol(it) => protocol = Some(Protocol((*it).into())),
            _ => {}
        }
    }
    // IFA_ADDRESS differs from IFA_LOCAL only on a point-to-point link, where it is the peer's. For
    // IPv6 the kernel sends IFA_LOCAL only in that case (linux/if_addr.h).
    let own = local.or(address)?;
    let dad = if flags.contains(AddressHeaderFlags::Dadfailed) {
        Dad::Failed
    } else if flags.contains(AddressHeaderFlags::Tentative)
        && !flags.contains(AddressHeaderFlags::Optimistic)
    {
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
        valid: from_seconds(lifetimes.0),
        preferred: from_seconds(lifetimes.1),
        dad,
        secondary: own.is_ipv4() && flags.contains(AddressHeaderFlags::Secondary),
        metric,
        protocol,
    })
}
