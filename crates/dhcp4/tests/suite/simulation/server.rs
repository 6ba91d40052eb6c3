//! A server that follows RFC 2131 section 4.3. It remembers its leases across restarts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp4::Instant;
use dhcproto::v4::MessageType;

use crate::support::message::{ACK, OFFER, Reply, Request};

/// How long an offered address is reserved.
const OFFER_RESERVATION: Duration = Duration::from_secs(30);

pub(super) type Mac = [u8; 6];

pub(super) struct Server {
    pub(super) is_up: bool,
    base: [u8; 4],
    pool: u32,
    lease_time: u32,
    /// Each address' client and the end of its lease, kept after the end as a preference.
    leases: BTreeMap<Ipv4Addr, (Mac, Instant)>,
}

impl Server {
    /// A server with a pool for this many clients.
    pub(super) fn new(clients: usize, lease_time: u32) -> Server {
        // A /24, or half as many addresses again as there are clients.
        let pool = if clients < 1000 {
            253
        } else {
            3 * clients as u32 / 2
        };
        Server {
            is_up: true,
            base: [10, 0, 0, 0],
            pool,
            lease_time,
            leases: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self) -> Ipv4Addr {
        self.address(1)
    }

    pub(super) fn forget_and_renumber(&mut self, base: [u8; 4]) {
        self.base = base;
        self.leases.clear();
    }

    /// When this client's lease of the address ends.
    pub(super) fn end_of(&self, address: Ipv4Addr, mac: Mac) -> Option<Instant> {
        self.leases
            .get(&address)
            .filter(|lease| lease.0 == mac)
            .map(|lease| lease.1)
    }

    pub(super) fn handle(&mut self, now: Instant, request: &Request) -> Option<Reply> {
        let mac = request.mac();
        if !self.is_up
            || request
                .server_id()
                .is_some_and(|server| server != self.id())
        {
            return None;
        }
        let ciaddr = Some(request.message.ciaddr()).filter(|address| !address.is_unspecified());
        match request.kind() {
            MessageType::Discover => {
                let address = self.choose(now, mac, request.requested_address())?;
                if request.has(80) {
                    self.commit(now, mac, address);
                    return Some(self.grant(ACK, request, address).option(80, []));
                }
                // Reserved for a short time only.
                self.leases.insert(
                    address,
                    (
                        mac,
                        self.end_of(address, mac)
                            .unwrap_or(now)
                            .max(now + OFFER_RESERVATION),
                    ),
                );
                Some(self.grant(OFFER, request, address))
            }
            MessageType::Request => {
                let address = ciaddr.or(request.requested_address())?;
                let is_ours = (2..self.pool + 2).any(|index| self.address(index) == address);
                if is_ours && self.is_free_for(now, mac, address) {
                    self.commit(now, mac, address);
                    Some(self.grant(ACK, request, address))
                } else {
                    Some(Reply::nak(request.xid(), self.id()).chaddr(mac))
                }
            }
            MessageType::Release => {
                let address = ciaddr?;
                if self.end_of(address, mac).is_some() {
                    self.leases.remove(&address);
                }
                None
            }
            _ => None,
        }
    }

    /// The client's last address, the one it asks for, or any other.
    fn choose(&self, now: Instant, mac: Mac, wish: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let last = self
            .leases
            .iter()
            .find(|(_, lease)| lease.0 == mac)
            .map(|(address, _)| *address);
        let wish = wish.filter(|wish| (2..self.pool + 2).any(|index| self.address(index) == *wish));
        last.or(wish.filter(|wish| self.is_free_for(now, mac, *wish)))
            .or_else(|| {
                // One that no client had before, if possible.
                let mut all = (2..self.pool + 2).map(|index| self.address(index));
                all.clone()
                    .find(|address| !self.leases.contains_key(address))
                    .or_else(|| all.find(|address| self.is_free_for(now, mac, *address)))
            })
    }

    fn is_free_for(&self, now: Instant, mac: Mac, address: Ipv4Addr) -> bool {
        self.leases
            .get(&address)
            .is_none_or(|(owner, end)| *owner == mac || *end <= now)
    }

    fn commit(&mut self, now: Instant, mac: Mac, address: Ipv4Addr) {
        self.leases
            .retain(|other, lease| lease.0 != mac || *other == address);
        self.leases.insert(
            address,
            (mac, now + Duration::from_secs(self.lease_time.into())),
        );
    }

    fn grant(&self, kind: u8, request: &Request, address: Ipv4Addr) -> Reply {
        Reply::lease(kind, request.xid(), address, self.id(), self.lease_time).chaddr(request.mac())
    }

    fn address(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from_be_bytes(self.base) + index)
    }
}
