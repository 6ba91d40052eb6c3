//! Messages to octets and back: the only module that sees the codec, `dhcproto`, and the one that
//! makes it safe.
//!
//! What comes from the network is taken apart in three steps, each of which can only lose what is
//! itself wrong. The fixed header is checked before anything in it is believed (`dhcproto` trusts
//! `hlen` as a length and ignores the magic cookie). The options are then walked as raw code,
//! length and value, overloaded fields included (RFC 2131 section 4.1), the fragments of a long one
//! joined wherever they stand (RFC 3396). Each is decoded by itself, and only after its length has
//! been checked: `dhcproto` would stop at the first option it dislikes and drop the rest, lease
//! time and server identifier among them.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{self, DhcpOption};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use crate::hostname::domain_name;
use crate::options::{Options, RawOption, code, is_host};
use crate::report::{Kind, Reason, Sent};
use crate::routes::{Route, classful};

/// The fixed fields and the magic cookie.
const HEADER: usize = 240;
/// BOOTP's message length (RFC 951): relays and servers exist that drop less (RFC 1542 section
/// 2.1).
const MIN_SENT: usize = 300;
/// A jumbo frame. Nothing that a server has to say to a host takes more.
const MAX_RECEIVED: usize = 9216;
/// A search list longer than this, in octets, or than [`MAX_SEARCH`] names is nobody's wish:
/// compression lets a packet of a few thousand octets unfold into a megabyte of names.
const MAX_SEARCH_LEN: usize = 1024;
/// See [`MAX_SEARCH_LEN`].
const MAX_SEARCH: usize = 64;
/// An interface MTU below what every host must accept (RFC 791) breaks DHCP itself.
const MIN_MTU: u16 = 576;

/// A message on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: Sent,
    pub(crate) xid: u32,
    pub(crate) secs: u16,
    pub(crate) broadcast: bool,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) chaddr: [u8; 6],
    /// After the message type, in this order.
    pub(crate) options: Vec<RawOption>,
}

impl Outgoing {
    /// The UDP payload: message type first, padded to [`MIN_SENT`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(MIN_SENT);
        self.header()
            .and_then(|header| header.encode(&mut Encoder::new(&mut payload)).ok())
            .expect("a header always fits a vector");

        let kind = match self.kind {
            Sent::Discover => v4::MessageType::Discover,
            Sent::Request => v4::MessageType::Request,
            Sent::Decline => v4::MessageType::Decline,
            Sent::Release => v4::MessageType::Release,
            Sent::Inform => v4::MessageType::Inform,
        };
        put_option(&mut payload, code::MESSAGE_TYPE, &[kind.into()]);
        for option in &self.options {
            put_option(&mut payload, option.code, &option.data);
        }
        payload.push(code::END);
        payload.resize(payload.len().max(MIN_SENT), code::PAD);
        payload
    }

    /// The message without options, of which `dhcproto` then writes header and cookie alone.
    fn header(&self) -> Option<v4::Message> {
        // Decoded from zeroes: `Message::default()` draws a transaction id from the thread's random
        // generator.
        let mut blank = [0; HEADER];
        blank[HEADER - v4::MAGIC.len()..].copy_from_slice(&v4::MAGIC);
        let mut header = v4::Message::decode(&mut Decoder::new(&blank)).ok()?;

        let flags = v4::Flags::default();
        header
            .set_opcode(v4::Opcode::BootRequest)
            .set_htype(v4::HType::Eth)
            .set_xid(self.xid)
            .set_secs(self.secs)
            .set_flags(if self.broadcast {
                flags.set_broadcast()
            } else {
                flags
            })
            .set_ciaddr(self.ciaddr)
            .set_chaddr(&self.chaddr);
        Some(header)
    }
}

/// Writes one option, one longer than 255 octets in several pieces (RFC 3396).
fn put_option(payload: &mut Vec<u8>, code: u8, data: &[u8]) {
    let (first, rest) = data.split_at(data.len().min(255));
    for piece in std::iter::once(first).chain(rest.chunks(255)) {
        payload.extend([code, piece.len() as u8]);
        payload.extend(piece);
    }
}

/// A server's message, its header checked and its options taken apart, not yet interpreted.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) kind: ReplyKind,
    pub(crate) xid: u32,
    pub(crate) chaddr: [u8; 6],
    pub(crate) yiaddr: Ipv4Addr,
    /// In order of first appearance, each code once.
    options: Vec<RawOption>,
}

/// The messages that servers send to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    Offer,
    Ack,
    Nak,
}

impl From<ReplyKind> for Kind {
    fn from(kind: ReplyKind) -> Kind {
        match kind {
            ReplyKind::Offer => Kind::Offer,
            ReplyKind::Ack => Kind::Ack,
            ReplyKind::Nak => Kind::Nak,
        }
    }
}

impl Reply {
    pub(crate) fn decode(payload: &[u8]) -> Result<Reply, Reason> {
        if payload.len() > MAX_RECEIVED {
            return Err(Reason::TooLong);
        }
        let (header, field) = payload.split_at_checked(HEADER).ok_or(Reason::TooShort)?;
        let message = v4::borrowed::Message::new(header).map_err(|_| Reason::TooShort)?;
        if message.opcode() != v4::Opcode::BootReply {
            return Err(Reason::NotReply);
        }
        if message.htype() != v4::HType::Eth || message.hlen() != 6 {
            return Err(Reason::NotEthernet);
        }
        if header[HEADER - v4::MAGIC.len()..] != v4::MAGIC {
            return Err(Reason::NoCookie);
        }

        let (sname, file) = (&header[44..108], &header[108..236]);
        let options = collect(field, sname, file);
        let kind = match typed(&options, code::MESSAGE_TYPE) {
            Some(DhcpOption::MessageType(v4::MessageType::Offer)) => ReplyKind::Offer,
            Some(DhcpOption::MessageType(v4::MessageType::Ack)) => ReplyKind::Ack,
            Some(DhcpOption::MessageType(v4::MessageType::Nak)) => ReplyKind::Nak,
            _ => return Err(Reason::WrongType),
        };
        let chaddr = message
            .chaddr()
            .try_into()
            .map_err(|_| Reason::NotEthernet)?;
        Ok(Reply {
            kind,
            xid: message.xid(),
            chaddr,
            yiaddr: message.yiaddr(),
            options,
        })
    }

    /// Option 61 as the server echoes it (RFC 6842).
    pub(crate) fn client_id(&self) -> Option<&[u8]> {
        raw(&self.options, code::CLIENT_ID)
    }

    /// Option 54, if it can be a server's address.
    pub(crate) fn server_id(&self) -> Option<Ipv4Addr> {
        match self.typed(code::SERVER_ID) {
            Some(DhcpOption::ServerIdentifier(server)) if is_host(server) => Some(server),
            _ => None,
        }
    }

    /// The length of option 1's prefix; `None` when absent, or no prefix that an interface can
    /// have.
    pub(crate) fn prefix_len(&self) -> Option<u8> {
        match self.typed(code::SUBNET_MASK) {
            Some(DhcpOption::SubnetMask(mask)) => {
                ipnet::ipv4_mask_to_prefix(mask).ok().filter(|&len| len > 0)
            }
            _ => None,
        }
    }

    /// Option 51 in seconds.
    pub(crate) fn lease_time(&self) -> Option<u32> {
        match self.typed(code::LEASE_TIME) {
            Some(DhcpOption::AddressLeaseTime(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// Option 58 in seconds.
    pub(crate) fn t1(&self) -> Option<u32> {
        match self.typed(code::T1) {
            Some(DhcpOption::Renewal(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// Option 59 in seconds.
    pub(crate) fn t2(&self) -> Option<u32> {
        match self.typed(code::T2) {
            Some(DhcpOption::Rebinding(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// Whether option 80 is there.
    pub(crate) fn rapid_commit(&self) -> bool {
        raw(&self.options, code::RAPID_COMMIT).is_some()
    }

    /// Option 56, made printable: it ends in logs and error messages.
    pub(crate) fn message(&self) -> Option<String> {
        let text = String::from_utf8_lossy(raw(&self.options, code::MESSAGE)?);
        let text: String = text.chars().filter(|c| !c.is_control()).take(128).collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Everything else that was said.
    pub(crate) fn into_options(self) -> Options {
        let (domain, search) = self.domains();
        Options {
            routers: self.addresses(code::ROUTERS),
            static_routes: self.static_routes(),
            classless_routes: self.classless_routes(),
            dns: self.addresses(code::DNS),
            domain,
            search,
            ntp: self.addresses(code::NTP),
            mtu: match self.typed(code::MTU) {
                Some(DhcpOption::InterfaceMtu(mtu)) if mtu >= MIN_MTU => Some(mtu),
                _ => None,
            },
            broadcast: match self.typed(code::BROADCAST) {
                Some(DhcpOption::BroadcastAddr(address)) if !address.is_unspecified() => {
                    Some(address)
                }
                _ => None,
            },
            hostname: self
                .text(code::HOST_NAME)
                .and_then(|name| domain_name(&name)),
            // RFC 8925 assigns 108. `dhcproto` has 106, and leaves this one raw.
            ipv6_only_wait: raw(&self.options, code::IPV6_ONLY)
                .and_then(|data| data.try_into().ok())
                .map(|seconds| Duration::from_secs(u32::from_be_bytes(seconds).into())),
            raw: self.options,
        }
    }

    fn typed(&self, code: u8) -> Option<DhcpOption> {
        typed(&self.options, code)
    }

    /// A list of hosts' addresses.
    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        match self.typed(code) {
            Some(
                DhcpOption::Router(mut list)
                | DhcpOption::DomainNameServer(mut list)
                | DhcpOption::NtpServers(mut list),
            ) => {
                list.retain(|&address| is_host(address));
                list
            }
            _ => Vec::new(),
        }
    }

    fn static_routes(&self) -> Vec<Route> {
        match self.typed(code::STATIC_ROUTES) {
            Some(DhcpOption::StaticRoutingTable(pairs)) => pairs
                .into_iter()
                // RFC 2132 section 5.8: the default route is an illegal destination here.
                .filter(|(dst, gateway)| !dst.is_unspecified() && is_host(*gateway))
                .map(|(dst, gateway)| Route {
                    dst: classful(dst),
                    gateway: Some(gateway),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn classless_routes(&self) -> Vec<Route> {
        [code::CLASSLESS_ROUTES, code::CLASSLESS_ROUTES_MS]
            .into_iter()
            .find_map(|code| {
                let data = raw(&self.options, code)?;
                match decode_one(code::CLASSLESS_ROUTES, data)? {
                    DhcpOption::ClasslessStaticRoute(routes) => Some(routes),
                    _ => None,
                }
            })
            .unwrap_or_default()
            .into_iter()
            // One route that no kernel takes must not cost the container the others, nor its lease.
            .filter(|(_, gateway)| gateway.is_unspecified() || is_host(*gateway))
            .map(|(dst, gateway)| Route {
                dst: dst.trunc(),
                gateway: (!gateway.is_unspecified()).then_some(gateway),
            })
            .collect()
    }

    /// Options 15 and 119. Where the list is absent and the domain is several words, the words are
    /// the list: routers that know no 119 are configured so.
    fn domains(&self) -> (Option<String>, Vec<String>) {
        let words: Vec<String> = self
            .text(code::DOMAIN_NAME)
            .iter()
            .flat_map(|text| text.split_ascii_whitespace())
            .filter_map(domain_name)
            .collect();
        let search: Vec<String> = match self.typed(code::DOMAIN_SEARCH) {
            Some(DhcpOption::DomainSearch(names)) => names
                .iter()
                .filter_map(|name| domain_name(&name.to_ascii()))
                .take(MAX_SEARCH)
                .collect(),
            _ if words.len() > 1 => words.clone(),
            _ => Vec::new(),
        };
        (words.into_iter().next(), search)
    }

    fn text(&self, code: u8) -> Option<String> {
        match self.typed(code) {
            Some(DhcpOption::Hostname(text) | DhcpOption::DomainName(text)) => Some(text),
            _ => None,
        }
    }
}

/// All options of a message: those of the options field, then, where option 52 says that they hold
/// options too, those of `file`, then those of `sname`.
fn collect(field: &[u8], sname: &[u8], file: &[u8]) -> Vec<RawOption> {
    const FILE: u8 = 1;
    const SNAME: u8 = 2;

    let mut options = Vec::new();
    walk(field, &mut options);
    let overload = match typed(&options, code::OVERLOAD) {
        Some(DhcpOption::OptionOverload(fields)) => fields,
        _ => 0,
    };
    if overload & FILE != 0 {
        walk(file, &mut options);
    }
    if overload & SNAME != 0 {
        walk(sname, &mut options);
    }
    options
}

/// Adds the options of one field, up to its end or to one that its field cuts short.
fn walk(mut field: &[u8], options: &mut Vec<RawOption>) {
    while let [code, rest @ ..] = field {
        let (code, rest) = (*code, rest);
        match code {
            code::PAD => field = rest,
            code::END => return,
            _ => {
                let Some((&len, rest)) = rest.split_first() else {
                    return;
                };
                let Some((data, rest)) = rest.split_at_checked(len.into()) else {
                    return;
                };
                match options.iter_mut().find(|option| option.code == code) {
                    Some(option) => option.data.extend(data),
                    None => options.push(RawOption::new(code, data)),
                }
                field = rest;
            }
        }
    }
}

fn raw(options: &[RawOption], code: u8) -> Option<&[u8]> {
    options
        .iter()
        .find(|option| option.code == code)
        .map(|option| option.data.as_slice())
}

fn typed(options: &[RawOption], code: u8) -> Option<DhcpOption> {
    decode_one(code, raw(options, code)?)
}

/// Decodes one option by itself. `None`: it is not well formed, or not one that this module asks
/// for.
fn decode_one(code: u8, data: &[u8]) -> Option<DhcpOption> {
    // RFC 2132 section 2: a receiver must be prepared to drop trailing nulls from texts.
    let is_text = matches!(code, code::HOST_NAME | code::DOMAIN_NAME);
    let nulls = if is_text {
        data.iter().rev().take_while(|&&octet| octet == 0).count()
    } else {
        0
    };
    let data = &data[..data.len() - nulls];
    if !is_well_formed(code, data) {
        return None;
    }
    let mut field = Vec::with_capacity(data.len() + 2);
    put_option(&mut field, code, data);
    v4::borrowed::DhcpOptionIterator::new(&field)
        .next()?
        .into_option()
        .ok()
}

/// Whether an option has a length that its code allows. An option not named here is never decoded.
fn is_well_formed(code: u8, data: &[u8]) -> bool {
    let len = data.len();
    match code {
        code::MESSAGE_TYPE | code::OVERLOAD => len == 1,
        code::MTU => len == 2,
        code::SUBNET_MASK | code::BROADCAST | code::SERVER_ID => len == 4,
        code::LEASE_TIME | code::T1 | code::T2 => len == 4,
        code::ROUTERS | code::DNS | code::NTP => len > 0 && len.is_multiple_of(4),
        code::STATIC_ROUTES => len > 0 && len.is_multiple_of(8),
        code::HOST_NAME | code::DOMAIN_NAME => len > 0,
        code::DOMAIN_SEARCH => (1..=MAX_SEARCH_LEN).contains(&len),
        code::CLASSLESS_ROUTES => len > 0 && are_classless_routes(data),
        _ => false,
    }
}

/// RFC 3442: a prefix length, as many octets of the prefix as it covers, a gateway; again and
/// again.
fn are_classless_routes(mut data: &[u8]) -> bool {
    while let [prefix_len @ 0..=32, rest @ ..] = data {
        let octets = usize::from(prefix_len.div_ceil(8)) + 4;
        match rest.get(octets..) {
            Some(rest) => data = rest,
            None => return false,
        }
    }
    data.is_empty()
}

#[cfg(test)]
mod tests;
