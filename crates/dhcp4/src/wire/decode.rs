//! Decoding the messages that a server sends.

use std::net::Ipv4Addr;

use dhcproto::v4::{self, DhcpOption};

use super::header::{FILE, HEADER_LEN, ReplyHeader, SNAME};
use super::raw_options::RawOptions;
use super::values;
use crate::address::{is_host, lan_prefix_len};
use crate::config::Config;
use crate::options::{Options, RawOption, code};
use crate::report::{IgnoreReason, PacketKind};

/// The longest payload that is read, in octets: a jumbo frame, which no reply comes near.
pub(super) const MAX_RECEIVED_LEN: usize = 9216;
/// The longest part of a server's text that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 128;

/// A server's message, its header checked and its options split but not interpreted.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) kind: ReplyKind,
    pub(crate) xid: u32,
    pub(crate) chaddr: [u8; 6],
    pub(crate) yiaddr: Ipv4Addr,
    options: RawOptions,
}

/// The messages that servers send to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    Offer,
    Ack,
    Nak,
}

impl From<ReplyKind> for PacketKind {
    fn from(kind: ReplyKind) -> PacketKind {
        match kind {
            ReplyKind::Offer => PacketKind::Offer,
            ReplyKind::Ack => PacketKind::Ack,
            ReplyKind::Nak => PacketKind::Nak,
        }
    }
}

impl Reply {
    /// Reads a UDP payload.
    pub(crate) fn decode(payload: &[u8]) -> Result<Reply, IgnoreReason> {
        if payload.len() > MAX_RECEIVED_LEN {
            return Err(IgnoreReason::TooLong);
        }
        let (header, field) = payload
            .split_at_checked(HEADER_LEN)
            .ok_or(IgnoreReason::TooShort)?;
        let ReplyHeader {
            xid,
            chaddr,
            yiaddr,
        } = ReplyHeader::read(header)?;
        let options = RawOptions::read(field, &header[FILE], &header[SNAME]);
        let kind = match options.decode(code::MESSAGE_TYPE) {
            Some(DhcpOption::MessageType(v4::MessageType::Offer)) => ReplyKind::Offer,
            Some(DhcpOption::MessageType(v4::MessageType::Ack)) => ReplyKind::Ack,
            Some(DhcpOption::MessageType(v4::MessageType::Nak)) => ReplyKind::Nak,
            _ => return Err(IgnoreReason::WrongType),
        };
        Ok(Reply {
            kind,
            xid,
            chaddr,
            yiaddr,
            options,
        })
    }

    /// Option 61 as the server echoes it (RFC 6842).
    pub(crate) fn client_id(&self) -> Option<&[u8]> {
        self.options.value(code::CLIENT_ID)
    }

    /// Adds the options of an earlier message that this one lacks. Routes and times stay together:
    /// an option of theirs is added only if this message has none of them.
    pub(crate) fn complete(&mut self, earlier: &[RawOption]) {
        let (routes, times) = (self.has_routes(), self.lease_time().is_some());
        let mask = self.prefix_len().is_some();
        for option in earlier {
            let is_answered = match option.code {
                code if Config::is_reserved(code) => true,
                code::ROUTERS
                | code::STATIC_ROUTES
                | code::CLASSLESS_ROUTES
                | code::CLASSLESS_ROUTES_MS => routes,
                code::LEASE_TIME | code::T1 | code::T2 => times,
                code::SUBNET_MASK => mask,
                code => self.options.value(code).is_some(),
            };
            if !is_answered {
                self.options.set(option.clone());
            }
        }
    }

    fn has_routes(&self) -> bool {
        [
            code::ROUTERS,
            code::STATIC_ROUTES,
            code::CLASSLESS_ROUTES,
            code::CLASSLESS_ROUTES_MS,
        ]
        .into_iter()
        .any(|code| self.options.value(code).is_some())
    }

    /// Option 54, if it is an address that a host can have.
    pub(crate) fn server_id(&self) -> Option<Ipv4Addr> {
        match self.options.decode(code::SERVER_ID) {
            Some(DhcpOption::ServerIdentifier(server)) if is_host(server) => Some(server),
            _ => None,
        }
    }

    /// The prefix length of option 1; `None` if the option is absent, or is a mask that no LAN has.
    pub(crate) fn prefix_len(&self) -> Option<u8> {
        match self.options.decode(code::SUBNET_MASK) {
            Some(DhcpOption::SubnetMask(mask)) => lan_prefix_len(mask),
            _ => None,
        }
    }

    /// Option 3.
    pub(crate) fn routers(&self) -> Vec<Ipv4Addr> {
        values::addresses(&self.options, code::ROUTERS)
    }

    /// Option 51 in seconds.
    pub(crate) fn lease_time(&self) -> Option<u32> {
        match self.options.decode(code::LEASE_TIME) {
            Some(DhcpOption::AddressLeaseTime(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// Option 58 in seconds.
    pub(crate) fn t1(&self) -> Option<u32> {
        match self.options.decode(code::T1) {
            Some(DhcpOption::Renewal(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// Option 59 in seconds.
    pub(crate) fn t2(&self) -> Option<u32> {
        match self.options.decode(code::T2) {
            Some(DhcpOption::Rebinding(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// Whether option 80 is present.
    pub(crate) fn rapid_commit(&self) -> bool {
        self.options.value(code::RAPID_COMMIT).is_some()
    }

    /// Option 56 without control characters and cut, because it goes into logs and error messages.
    pub(crate) fn message(&self) -> Option<String> {
        let text = String::from_utf8_lossy(self.options.value(code::MESSAGE)?);
        let text: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_MESSAGE_CHARS)
            .collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// All options as they were received.
    pub(crate) fn into_raw_options(self) -> Vec<RawOption> {
        self.options.into_vec()
    }

    /// All other options.
    pub(crate) fn into_options(self) -> Options {
        values::interpret(self.options)
    }
}
