//! The messages that a client sends (RFC 2131 table 5).
//!
//! | | DISCOVER | REQUEST: selecting | rebooting | renewing | rebinding | DECLINE | RELEASE |
//! |---|---|---|---|---|---|---|---|
//! | to | broadcast | broadcast | broadcast | server | broadcast | broadcast | server |
//! | ciaddr | 0 | 0 | 0 | address | address | 0 | address |
//! | secs | counted | as DISCOVER | counted | counted | counted | 0 | 0 |
//! | 50 requested address | only or preferred | offered | known | – | – | declined | – |
//! | 54 server identifier | – | as offered | – | – | – | yes | yes |
//! | 55, 57, configured options | yes | yes | yes | yes | yes | – | – |
//! | 61 client identifier | yes | yes | yes | yes | yes | yes | yes |
//! | 80 rapid commit | if configured, for any address | – | – | – | – | – | – |

use std::net::Ipv4Addr;

use super::state::{Client, Offer, Transaction};
use crate::config::Config;
use crate::lease::Lease;
use crate::options::{RawOption, code};
use crate::time::Instant;
use crate::transmit::{Delivery, OutgoingKind, Transmit};
use crate::wire::Outgoing;

const NO_ADDRESS: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const BROADCAST: Delivery = Delivery::Broadcast { source: NO_ADDRESS };

/// The largest message that the client accepts (option 57), in octets. It fits an Ethernet frame
/// whether or not the server counts the IP and UDP headers. Without the option, servers keep to 576
/// octets (RFC 2131 section 2), which is too short for a long list of routes.
const MAX_MESSAGE_SIZE: u16 = 1472;

/// An address that a server leased to the client or set aside for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lent {
    pub(super) address: Ipv4Addr,
    pub(super) server: Ipv4Addr,
}

impl From<&Lease> for Lent {
    fn from(lease: &Lease) -> Lent {
        Lent {
            address: lease.address,
            server: lease.server_id,
        }
    }
}

impl From<&Offer> for Lent {
    fn from(offer: &Offer) -> Lent {
        Lent {
            address: offer.address,
            server: offer.server.address(),
        }
    }
}

impl Client {
    pub(super) fn send_discover(&mut self, transaction: &Transaction) {
        let mut options = Vec::new();
        let address = self.config.only_address.or(self.preferred_address);
        options.extend(address.map(|address| address_option(code::REQUESTED_ADDRESS, address)));
        if self.wants_rapid_commit() {
            options.push(RawOption::new(code::RAPID_COMMIT, []));
        }
        self.broadcast_question(OutgoingKind::Discover, transaction, options);
    }

    /// Whether a server may grant an address in answer to a DISCOVER (RFC 4039): it may be any.
    pub(super) fn wants_rapid_commit(&self) -> bool {
        self.config.rapid_commit && self.config.only_address.is_none()
    }

    /// Sends the REQUEST that takes this offer and turns down those of other servers. A server that
    /// does not name itself would not recognize a name that the client chose for it.
    pub(super) fn send_request(&mut self, transaction: &Transaction, offer: &Offer) {
        let mut options = vec![address_option(code::REQUESTED_ADDRESS, offer.address)];
        options.extend(
            offer
                .server
                .id
                .map(|id| address_option(code::SERVER_ID, id)),
        );
        self.broadcast_question(OutgoingKind::Request, transaction, options);
    }

    /// Sends the REQUEST of INIT-REBOOT.
    pub(super) fn send_reboot(&mut self, transaction: &Transaction, address: Ipv4Addr) {
        let options = vec![address_option(code::REQUESTED_ADDRESS, address)];
        self.broadcast_question(OutgoingKind::Request, transaction, options);
    }

    /// Sends the REQUEST of RENEWING to the server of this lease.
    pub(super) fn send_renew(&mut self, transaction: &Transaction, lease: &Lease) {
        let (source, server) = (lease.address, lease.server_id);
        self.ask_to_extend(transaction, source, Delivery::Unicast { source, server });
    }

    /// Sends the REQUEST of REBINDING to all servers.
    pub(super) fn send_rebind(&mut self, transaction: &Transaction, lease: &Lease) {
        let source = lease.address;
        self.ask_to_extend(transaction, source, Delivery::Broadcast { source });
    }

    fn ask_to_extend(&mut self, transaction: &Transaction, ciaddr: Ipv4Addr, delivery: Delivery) {
        let kind = OutgoingKind::Request;
        self.send_question(kind, transaction, ciaddr, delivery, Vec::new());
    }

    pub(super) fn send_decline(&mut self, declined: Lent) {
        let options = vec![
            address_option(code::REQUESTED_ADDRESS, declined.address),
            address_option(code::SERVER_ID, declined.server),
            RawOption::new(code::MESSAGE, "address already in use"),
        ];
        self.send_notice(OutgoingKind::Decline, NO_ADDRESS, BROADCAST, options);
    }

    pub(super) fn send_release(&mut self, released: Lent) {
        let Lent { address, server } = released;
        let options = vec![address_option(code::SERVER_ID, server)];
        let delivery = Delivery::Unicast {
            source: address,
            server,
        };
        self.send_notice(OutgoingKind::Release, address, delivery, options);
    }

    /// The seconds since acquisition or renewal began. At least 1, because some servers refuse 0.
    pub(super) fn elapsed_secs(&self, now: Instant) -> u16 {
        u16::try_from(now.since(self.began_at).as_secs())
            .unwrap_or(u16::MAX)
            .max(1)
    }

    /// Sends a question to all servers, from no address.
    fn broadcast_question(
        &mut self,
        kind: OutgoingKind,
        transaction: &Transaction,
        options: Vec<RawOption>,
    ) {
        self.send_question(kind, transaction, NO_ADDRESS, BROADCAST, options);
    }

    /// Queues a message that servers answer.
    fn send_question(
        &mut self,
        kind: OutgoingKind,
        transaction: &Transaction,
        ciaddr: Ipv4Addr,
        delivery: Delivery,
        mut options: Vec<RawOption>,
    ) {
        let config = &self.config;
        options.push(RawOption::new(
            code::MAX_MESSAGE_SIZE,
            MAX_MESSAGE_SIZE.to_be_bytes(),
        ));
        if !config.request.is_empty() {
            options.push(RawOption::new(
                code::PARAMETER_REQUEST_LIST,
                config.request.as_slice(),
            ));
        }
        let allowed = |option: &&RawOption| !Config::is_reserved(option.code);
        options.extend(config.options.iter().filter(allowed).cloned());
        // A server replies to `ciaddr` by unicast, whatever the flag says (RFC 2131 section 4.1).
        let broadcast = ciaddr == NO_ADDRESS && (config.broadcast || self.wants_broadcast);
        let message = Outgoing {
            kind,
            xid: transaction.xid,
            secs: transaction.secs,
            broadcast,
            ciaddr,
            chaddr: config.mac,
            options,
        };
        self.queue(delivery, message);
    }

    /// Queues a message that no server answers.
    fn send_notice(
        &mut self,
        kind: OutgoingKind,
        ciaddr: Ipv4Addr,
        delivery: Delivery,
        options: Vec<RawOption>,
    ) {
        let message = Outgoing {
            kind,
            xid: self.rng.next_u32(),
            secs: 0,
            broadcast: false,
            ciaddr,
            chaddr: self.config.mac,
            options,
        };
        self.queue(delivery, message);
    }

    /// Queues a message in place of one that the driver has not fetched, which belongs to a state
    /// that the client has left.
    fn queue(&mut self, delivery: Delivery, mut message: Outgoing) {
        let id = self
            .config
            .client_id
            .as_deref()
            .map(|id| RawOption::new(code::CLIENT_ID, id));
        message.options.splice(0..0, id);
        self.transmit = Some(Transmit {
            kind: message.kind,
            payload: message.encode(),
            delivery,
        });
    }
}

fn address_option(code: u8, address: Ipv4Addr) -> RawOption {
    RawOption::new(code, address.octets())
}
