//! Messages from the server's side. The codec reads requests as a whole, as a server would. Replies
//! are written octet by octet, so that a test can make them malformed.

use std::fmt;
use std::net::Ipv4Addr;

use dhcp4::{Delivery, Transmit};
use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Decoder};

use super::MAC;

/// A message that the client sent. Its `Display` shows what matters to a script:
/// `REQUEST to=all 50=10.0.0.5 54=10.0.0.1`.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) message: v4::Message,
    pub(crate) delivery: Delivery,
    pub(crate) payload: Vec<u8>,
}

impl Request {
    /// Reads a message and checks what must hold for every message.
    pub(crate) fn read(transmit: Transmit) -> Request {
        let Transmit {
            payload, delivery, ..
        } = transmit;
        let message =
            v4::Message::decode(&mut Decoder::new(&payload)).expect("a message that decodes");
        assert_eq!(message.opcode(), v4::Opcode::BootRequest);
        assert!(
            payload.len() >= 300,
            "padded to the length that BOOTP relays expect"
        );
        assert_eq!(payload[240], 53, "the message type comes first");
        let request = Request {
            message,
            delivery,
            payload,
        };
        request.assert_conforms_to_table_5();
        request
    }

    /// Checks a message against RFC 2131 table 5.
    fn assert_conforms_to_table_5(&self) {
        use v4::MessageType::{Decline, Discover, Release, Request};

        let ciaddr = self.message.ciaddr();
        let (asks_for, names_server) = (self.has(50), self.has(54));
        let is_question = match self.kind() {
            Discover => {
                assert!(ciaddr.is_unspecified() && !names_server, "{self}");
                true
            }
            // SELECTING has both options, INIT-REBOOT only option 50, RENEWING and REBINDING only
            // ciaddr.
            Request => {
                assert_eq!(ciaddr.is_unspecified(), asks_for, "{self}");
                assert!(asks_for || !names_server, "{self}");
                assert!(!self.has(80), "{self}");
                true
            }
            Decline => {
                assert!(
                    ciaddr.is_unspecified() && asks_for && names_server,
                    "{self}"
                );
                false
            }
            Release => {
                assert!(
                    !ciaddr.is_unspecified() && !asks_for && names_server,
                    "{self}"
                );
                assert_eq!(
                    self.delivery,
                    Delivery::Unicast {
                        source: ciaddr,
                        server: self.server_id().unwrap()
                    }
                );
                false
            }
            other => panic!("clients do not send {other:?}"),
        };
        let source = match self.delivery {
            Delivery::Broadcast { source } | Delivery::Unicast { source, .. } => source,
        };
        assert_eq!(source, ciaddr, "the source is ciaddr: {self}");
        if is_question {
            assert!(self.message.secs() > 0, "{self}");
            assert!(self.has(55) && self.has(57), "{self}");
        } else {
            assert_eq!(self.message.secs(), 0, "{self}");
            let only: Vec<u8> = self
                .message
                .opts()
                .iter()
                .map(|(&code, _)| code.into())
                .collect();
            assert!(
                only.iter().all(|code| [50, 53, 54, 56, 61].contains(code)),
                "{self} with {only:?}"
            );
        }
    }

    pub(crate) fn kind(&self) -> v4::MessageType {
        self.message.opts().msg_type().expect("a message type")
    }

    pub(crate) fn xid(&self) -> u32 {
        self.message.xid()
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        self.message
            .chaddr()
            .try_into()
            .expect("an Ethernet address")
    }

    pub(crate) fn has(&self, code: u8) -> bool {
        self.message.opts().contains(code.into())
    }

    pub(crate) fn requested_address(&self) -> Option<Ipv4Addr> {
        match self.message.opts().get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
            _ => None,
        }
    }

    pub(crate) fn server_id(&self) -> Option<Ipv4Addr> {
        match self.message.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
            _ => None,
        }
    }

    pub(crate) fn client_id(&self) -> Option<&[u8]> {
        match self.message.opts().get(OptionCode::ClientIdentifier) {
            Some(DhcpOption::ClientIdentifier(id)) => Some(id),
            _ => None,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{:?}", self.kind()).to_uppercase())?;
        match self.delivery {
            Delivery::Broadcast { source } if source.is_unspecified() => write!(f, " to=all")?,
            Delivery::Broadcast { source } => write!(f, " to=all from={source}")?,
            Delivery::Unicast { source, server } => write!(f, " to={server} from={source}")?,
        }
        if self.mac() != MAC {
            write!(f, " chaddr=..{}", self.mac()[5])?;
        }
        if !self.message.ciaddr().is_unspecified() {
            write!(f, " ciaddr={}", self.message.ciaddr())?;
        }
        if let Some(address) = self.requested_address() {
            write!(f, " 50={address}")?;
        }
        if let Some(server) = self.server_id() {
            write!(f, " 54={server}")?;
        }
        if self.has(80) {
            f.write_str(" rapid")?;
        }
        if self.message.flags().broadcast() {
            f.write_str(" flag=broadcast")?;
        }
        Ok(())
    }
}

pub(crate) const OFFER: u8 = 2;
pub(crate) const ACK: u8 = 5;
pub(crate) const NAK: u8 = 6;

/// A message that a server sends.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) op: u8,
    pub(crate) htype: u8,
    pub(crate) hlen: u8,
    pub(crate) xid: u32,
    pub(crate) yiaddr: Ipv4Addr,
    pub(crate) chaddr: [u8; 16],
    pub(crate) sname: [u8; 64],
    pub(crate) file: [u8; 128],
    pub(crate) cookie: [u8; 4],
    /// Written in this order, whether or not their lengths are valid.
    pub(crate) options: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    /// A reply of this type and transaction id, with no other option.
    pub(crate) fn new(kind: u8, xid: u32) -> Reply {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&MAC);
        Reply {
            op: 2,
            htype: 1,
            hlen: 6,
            xid,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: [0; 64],
            file: [0; 128],
            cookie: [99, 130, 83, 99],
            options: vec![(53, vec![kind])],
        }
    }

    /// An OFFER or ACK with the options that each must have.
    pub(crate) fn lease(
        kind: u8,
        xid: u32,
        address: Ipv4Addr,
        server: Ipv4Addr,
        seconds: u32,
    ) -> Reply {
        Reply::new(kind, xid)
            .yiaddr(address)
            .option(54, server.octets())
            .option(51, seconds.to_be_bytes())
            .option(1, [255, 255, 255, 0])
    }

    /// A NAK with the options that it must have.
    pub(crate) fn nak(xid: u32, server: Ipv4Addr) -> Reply {
        Reply::new(NAK, xid).option(54, server.octets())
    }

    pub(crate) fn yiaddr(mut self, address: Ipv4Addr) -> Reply {
        self.yiaddr = address;
        self
    }

    pub(crate) fn chaddr(mut self, mac: [u8; 6]) -> Reply {
        self.chaddr[..6].copy_from_slice(&mac);
        self
    }

    /// Adds an option, or another fragment of it.
    pub(crate) fn option(mut self, code: u8, data: impl AsRef<[u8]>) -> Reply {
        self.options.push((code, data.as_ref().to_vec()));
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = vec![self.op, self.htype, self.hlen, 0];
        payload.extend(self.xid.to_be_bytes());
        payload.extend([0; 4]); // secs, flags
        payload.extend([0; 4]); // ciaddr
        payload.extend(self.yiaddr.octets());
        payload.extend([0; 8]); // siaddr, giaddr
        payload.extend(self.chaddr);
        payload.extend(self.sname);
        payload.extend(self.file);
        payload.extend(self.cookie);
        for (code, data) in &self.options {
            payload.extend([*code, data.len() as u8]);
            payload.extend(data);
        }
        payload.push(255);
        payload
    }
}
