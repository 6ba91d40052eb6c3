//! What a well-behaved server says (RFC 2131, section 4.3).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};

use super::reaction::{Answers, Reaction};
use crate::Lan;

/// What a server gives, and how it treats whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its address: source of what it sends, and server identifier.
    pub address: Ipv4Addr,
    /// The addresses it gives, the lowest free one first.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// The prefix length, given as a subnet mask.
    pub prefix_len: u8,
    /// The lease time, in whole seconds on the wire; `None` is an infinite lease.
    pub lease_time: Option<Duration>,
    /// The renewal time T1, sent only if set.
    pub t1: Option<Duration>,
    /// The rebinding time T2, sent only if set.
    pub t2: Option<Duration>,
    /// Further options, each sent if the client's parameter request list (55) has it, or if the
    /// client sends none.
    pub options: Vec<DhcpOption>,
    /// What becomes of a REQUEST for an address that the client holds no lease of.
    pub strangers: Strangers,
    /// Whether a DISCOVER that asks for it is answered by an ACK at once (RFC 4039).
    pub rapid_commit: bool,
}

/// How a REQUEST (INIT-REBOOT, renewing, rebinding) is treated from a client without a lease of
/// what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// NAK: this server knows its network.
    Nak,
    /// It gets the address if that is free, as from an authoritative dnsmasq; otherwise NAK.
    Adopt,
    /// Silence (RFC 2131, section 4.3.2: a server without a record of this client).
    Ignore,
}

impl Default for Settings {
    /// 10.99.0.100–199/24 for two minutes, with a router and a DNS server, both [`Lan::ADDRESS`].
    fn default() -> Settings {
        Settings {
            address: Lan::ADDRESS,
            pool: Ipv4Addr::new(10, 99, 0, 100)..=Ipv4Addr::new(10, 99, 0, 199),
            prefix_len: Lan::NET.prefix_len(),
            lease_time: Some(Duration::from_secs(120)),
            t1: None,
            t2: None,
            options: vec![
                DhcpOption::Router(vec![Lan::ADDRESS]),
                DhcpOption::DomainNameServer(vec![Lan::ADDRESS]),
            ],
            strangers: Strangers::Nak,
            rapid_commit: false,
        }
    }
}

/// An address that a client has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's hardware address (`chaddr`).
    pub mac: Vec<u8>,
    /// The client identifier (option 61), if it sent one.
    pub client_id: Option<Vec<u8>>,
    /// When it ends; `None` is never.
    pub expires: Option<Instant>,
    /// Acknowledged, not merely offered.
    acknowledged: bool,
}

impl Lease {
    fn is_of(&self, client: &Message) -> bool {
        // The identifier is who a client is; the hardware address only where it sends none (RFC
        // 2131, section 4.2).
        match (&self.client_id, client_id(client)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, None) => self.mac == client.chaddr(),
            _ => false,
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// How long an offered address is held for the client.
const OFFER_TIME: Duration = Duration::from_secs(30);

/// The addresses and who has them.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) settings: Settings,
    leases: BTreeMap<Ipv4Addr, Lease>,
    /// The address that each client was given last.
    last: HashMap<Identity, Ipv4Addr>,
    /// Said by a client to be in use by somebody else.
    declined: BTreeSet<Ipv4Addr>,
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Pool {
        Pool {
            settings,
            leases: BTreeMap::new(),
            last: HashMap::new(),
            declined: BTreeSet::new(),
        }
    }

    pub(super) fn forget(&mut self) {
        self.leases.clear();
        self.last.clear();
        self.declined.clear();
    }

    pub(super) fn leases(&self, now: Instant) -> Vec<Lease> {
        self.leases
            .values()
            .filter(|lease| lease.acknowledged && lease.is_live(now))
            .cloned()
            .collect()
    }

    /// What to say to a message, if anything.
    fn answer(&mut self, client: &Message, now: Instant) -> Option<Answer> {
        match client.opts().msg_type()? {
            MessageType::Discover => {
                let address = self.choose(client, now)?;
                let commit =
                    self.settings.rapid_commit && client.opts().contains(OptionCode::RapidCommit);
                self.hold(client, address, commit, now);
                let mut answer = self.grant(
                    client,
                    if commit {
                        MessageType::Ack
                    } else {
                        MessageType::Offer
                    },
                    address,
                );
                if commit {
                    answer.message.opts_mut().insert(DhcpOption::RapidCommit);
                }
                Some(answer)
            }
            MessageType::Request => self.answer_request(client, now),
            MessageType::Release => {
                let address = client.ciaddr();
                let is_theirs = |lease: &Lease| lease.is_of(client);
                if self.leases.get(&address).is_some_and(is_theirs) {
                    self.leases.remove(&address);
                }
                None
            }
            MessageType::Decline => {
                if let Some(address) = requested_address(client) {
                    self.leases.remove(&address);
                    self.declined.insert(address);
                }
                None
            }
            MessageType::Inform => {
                let mut answer = self.reply(client, MessageType::Ack);
                self.add_requested_options(&mut answer.message, client);
                Some(answer)
            }
            _ => None,
        }
    }

    fn answer_request(&mut self, client: &Message, now: Instant) -> Option<Answer> {
        let selected = match client.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
            _ => None,
        };
        if selected.is_some_and(|server| server != self.settings.address) {
            self.leases
                .retain(|_, lease| lease.acknowledged || !lease.is_of(client));
            return None;
        }
        // RFC 2131, section 4.3.2: SELECTING and INIT-REBOOT name the address in option 50,
        // RENEWING and REBINDING in ciaddr.
        let address = if client.ciaddr().is_unspecified() {
            requested_address(client)?
        } else {
            client.ciaddr()
        };
        let held = self.settings.pool.contains(&address)
            && self
                .leases
                .get(&address)
                .is_some_and(|lease| lease.is_of(client) && lease.is_live(now));
        let adopted = self.settings.strangers == Strangers::Adopt && self.is_free(address, now);
        if held || adopted {
            self.hold(client, address, true, now);
            Some(self.grant(client, MessageType::Ack, address))
        } else if selected.is_none() && self.settings.strangers == Strangers::Ignore {
            None
        } else {
            Some(self.nak(client))
        }
    }

    /// The client's own address, else the one it asks for, else the first free one.
    fn choose(&self, client: &Message, now: Instant) -> Option<Ipv4Addr> {
        let own = self.last.get(&identity(client)).copied();
        let own = own.filter(|address| {
            let is_theirs = |lease: &Lease| lease.is_of(client);
            self.settings.pool.contains(address) && self.leases.get(address).is_some_and(is_theirs)
        });
        own.or_else(|| requested_address(client).filter(|address| self.is_free(*address, now)))
            .or_else(|| self.first_free(now))
    }

    /// Found without looking each address up: there may be thousands of leases.
    fn first_free(&self, now: Instant) -> Option<Ipv4Addr> {
        let (first, last) = (*self.settings.pool.start(), *self.settings.pool.end());
        let live = self
            .leases
            .range(first..=last)
            .filter(|(_, lease)| lease.is_live(now));
        let mut held = live.map(|(address, _)| *address).peekable();
        (first.to_bits()..=last.to_bits())
            .map(Ipv4Addr::from_bits)
            .find(|address| held.next_if_eq(address).is_none() && !self.declined.contains(address))
    }

    fn is_free(&self, address: Ipv4Addr, now: Instant) -> bool {
        self.settings.pool.contains(&address)
            && !self.declined.contains(&address)
            && !self
                .leases
                .get(&address)
                .is_some_and(|lease| lease.is_live(now))
    }

    fn hold(&mut self, client: &Message, address: Ipv4Addr, acknowledged: bool, now: Instant) {
        let known = self
            .leases
            .get(&address)
            .is_some_and(|lease| lease.acknowledged && lease.is_live(now));
        if known && !acknowledged {
            return; // an offer of what the client has does not shorten its lease
        }
        let time = if acknowledged {
            self.settings.lease_time
        } else {
            Some(OFFER_TIME)
        };
        let lease = Lease {
            address,
            mac: client.chaddr().to_vec(),
            client_id: client_id(client).map(<[u8]>::to_vec),
            expires: time.map(|time| now + time),
            acknowledged,
        };
        self.last.insert(identity(client), address);
        self.leases.insert(address, lease);
    }

    fn grant(&self, client: &Message, kind: MessageType, address: Ipv4Addr) -> Answer {
        let mut answer = self.reply(client, kind);
        answer.message.set_yiaddr(address);
        if kind == MessageType::Ack {
            answer.message.set_ciaddr(client.ciaddr());
        }
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let lease_time = self.settings.lease_time.map_or(u32::MAX, seconds);
        let options = answer.message.opts_mut();
        options.insert(DhcpOption::AddressLeaseTime(lease_time));
        options.insert(DhcpOption::SubnetMask(netmask(self.settings.prefix_len)));
        if let Some(t1) = self.settings.t1 {
            options.insert(DhcpOption::Renewal(seconds(t1)));
        }
        if let Some(t2) = self.settings.t2 {
            options.insert(DhcpOption::Rebinding(seconds(t2)));
        }
        self.add_requested_options(&mut answer.message, client);
        answer
    }

    fn nak(&self, client: &Message) -> Answer {
        let mut answer = self.reply(client, MessageType::Nak);
        answer
            .message
            .opts_mut()
            .insert(DhcpOption::Message("no lease of that address".to_owned()));
        answer
    }

    /// What every answer has, the client identifier included (RFC 6842).
    fn reply(&self, client: &Message, kind: MessageType) -> Answer {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(
            client.xid(),
            unspecified,
            unspecified,
            unspecified,
            client.giaddr(),
            client.chaddr(),
        );
        message
            .set_opcode(Opcode::BootReply)
            .set_htype(client.htype())
            .set_flags(client.flags());
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.settings.address));
        if let Some(id) = client_id(client) {
            options.insert(DhcpOption::ClientIdentifier(id.to_vec()));
        }
        Answer {
            ciaddr: client.ciaddr(),
            message,
        }
    }

    fn add_requested_options(&self, message: &mut Message, client: &Message) {
        let requested = match client.opts().get(OptionCode::ParameterRequestList) {
            Some(DhcpOption::ParameterRequestList(codes)) => Some(codes),
            _ => None,
        };
        for option in &self.settings.options {
            if requested.is_none_or(|codes| codes.contains(&OptionCode::from(option))) {
                message.opts_mut().insert(option.clone());
            }
        }
    }
}

/// An answer that is not encoded yet.
#[derive(Debug)]
pub(super) struct Answer {
    ciaddr: Ipv4Addr,
    pub(super) message: Message,
}

impl Answer {
    /// Where it goes (RFC 2131, section 4.1): Ethernet and IPv4 destination. `asker` sent the
    /// request's frame.
    pub(super) fn destination(&self, asker: [u8; 6]) -> ([u8; 6], Ipv4Addr) {
        let everybody = ([0xff; 6], Ipv4Addr::BROADCAST);
        if self.message.opts().has_msg_type(MessageType::Nak) {
            everybody
        } else if !self.ciaddr.is_unspecified() {
            (asker, self.ciaddr)
        } else if self.message.flags().broadcast() {
            everybody
        } else {
            (asker, self.message.yiaddr())
        }
    }
}

/// The answer to a message under a reaction. A message that is answered by silence or a NAK does
/// not change the pool.
pub(super) fn answer_of(
    reaction: &Reaction,
    pool: &mut Pool,
    client: &Message,
    now: Instant,
) -> Option<Answer> {
    match reaction.answers() {
        Answers::AsUsual => pool.answer(client, now),
        Answers::Nothing => None,
        Answers::Nak => Some(pool.nak(client)),
    }
}

/// Who a client is: its identifier, or its hardware address if it sends none.
type Identity = (Option<Vec<u8>>, Vec<u8>);

fn identity(client: &Message) -> Identity {
    match client_id(client) {
        Some(id) => (Some(id.to_vec()), Vec::new()),
        None => (None, client.chaddr().to_vec()),
    }
}

fn client_id(message: &Message) -> Option<&[u8]> {
    match message.opts().get(OptionCode::ClientIdentifier) {
        Some(DhcpOption::ClientIdentifier(id)) => Some(id),
        _ => None,
    }
}

fn requested_address(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => None,
    }
}

fn netmask(prefix_len: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(
        u32::MAX
            .checked_shl(32 - u32::from(prefix_len))
            .unwrap_or(0),
    )
}
