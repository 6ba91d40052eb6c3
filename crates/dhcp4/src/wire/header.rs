//! The fixed fields of a message and the magic cookie (RFC 2131 figure 1).

use std::net::Ipv4Addr;
use std::ops::Range;

use dhcproto::v4;
use dhcproto::{Decodable, Decoder};

use crate::report::IgnoreReason;

/// The length of the fixed fields and the magic cookie, in octets.
pub(super) const HEADER_LEN: usize = 240;
/// Where `sname` is.
pub(super) const SNAME: Range<usize> = 44..108;
/// Where `file` is.
pub(super) const FILE: Range<usize> = 108..236;
const COOKIE_AT: usize = HEADER_LEN - v4::MAGIC.len();

/// The fields of a reply's header that a client needs.
pub(super) struct ReplyHeader {
    pub(super) xid: u32,
    pub(super) chaddr: [u8; 6],
    pub(super) yiaddr: Ipv4Addr,
}

impl ReplyHeader {
    /// Reads a header of [`HEADER_LEN`] octets.
    pub(super) fn read(header: &[u8]) -> Result<ReplyHeader, IgnoreReason> {
        let message = v4::borrowed::Message::new(header).map_err(|_| IgnoreReason::TooShort)?;
        if message.opcode() != v4::Opcode::BootReply {
            return Err(IgnoreReason::NotReply);
        }
        // The hardware type is not checked: some servers and relays send another, such as IEEE 802
        // for Wi-Fi, and the address itself tells whether the reply is for this client.
        if message.hlen() != 6 {
            return Err(IgnoreReason::NotEthernet);
        }
        if header[COOKIE_AT..] != v4::MAGIC {
            return Err(IgnoreReason::NoCookie);
        }
        Ok(ReplyHeader {
            xid: message.xid(),
            chaddr: message
                .chaddr()
                .try_into()
                .map_err(|_| IgnoreReason::NotEthernet)?,
            yiaddr: message.yiaddr(),
        })
    }
}

/// Makes a message whose fixed fields are zero. It is decoded from zeroes because
/// `Message::default()` draws a transaction id from the thread's random generator.
pub(super) fn blank() -> Option<v4::Message> {
    let mut zeroes = [0; HEADER_LEN];
    zeroes[COOKIE_AT..].copy_from_slice(&v4::MAGIC);
    v4::Message::decode(&mut Decoder::new(&zeroes)).ok()
}
