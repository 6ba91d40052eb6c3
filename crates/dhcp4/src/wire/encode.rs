//! Encoding the messages that a client sends.

use std::net::Ipv4Addr;

use dhcproto::v4;
use dhcproto::{Encodable, Encoder};

use super::header;
use super::raw_options::write_option;
use crate::options::{RawOption, code};
use crate::transmit::OutgoingKind;

/// The length to which messages are padded: that of a BOOTP message (RFC 951), because some relays
/// and servers drop shorter ones (RFC 1542 section 2.1).
const MIN_SENT_LEN: usize = 300;

/// A message to send.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: OutgoingKind,
    pub(crate) xid: u32,
    pub(crate) secs: u16,
    pub(crate) broadcast: bool,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) chaddr: [u8; 6],
    /// The options after the message type, in the order of sending.
    pub(crate) options: Vec<RawOption>,
}

impl Outgoing {
    /// Writes the UDP payload, with the message type first and padded to [`MIN_SENT_LEN`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(MIN_SENT_LEN);
        self.header()
            .and_then(|header| header.encode(&mut Encoder::new(&mut payload)).ok())
            .expect("a header always fits a vector");

        let kind = match self.kind {
            OutgoingKind::Discover => v4::MessageType::Discover,
            OutgoingKind::Request => v4::MessageType::Request,
            OutgoingKind::Decline => v4::MessageType::Decline,
            OutgoingKind::Release => v4::MessageType::Release,
        };
        write_option(&mut payload, code::MESSAGE_TYPE, &[kind.into()]);
        for option in &self.options {
            write_option(&mut payload, option.code, &option.data);
        }
        payload.push(code::END);
        payload.resize(payload.len().max(MIN_SENT_LEN), code::PAD);
        payload
    }

    /// The message without options, of which `dhcproto` writes only header and cookie.
    fn header(&self) -> Option<v4::Message> {
        let flags = v4::Flags::default();
        let mut header = header::blank()?;
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
