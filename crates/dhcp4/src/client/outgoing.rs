//! What is sent, as RFC 2131 table 5 has it.
//!
//! | | DISCOVER | REQUEST: selecting | rebooting | renewing | rebinding | DECLINE | RELEASE | INFORM |
//! |---|---|---|---|---|---|---|---|---|
//! | to | broadcast | broadcast | broadcast | server | broadcast | broadcast | server | broadcast |
//! | ciaddr | 0 | 0 | 0 | address | address | 0 | address | address |
//! | secs | counted | as DISCOVER | counted | counted | counted | 0 | 0 | counted |
//! | 50 requested address | remembered | offered | remembered | – | – | declined | – | – |
//! | 54 server identifier | – | yes | – | – | – | yes | yes | – |
//! | 55, 57, configured options | yes | yes | yes | yes | yes | – | – | yes, but 51 |
//! | 61 client identifier | same | same | same | same | same | same | same | same |
//! | 80 rapid commit | by choice | – | – | – | – | – | – | – |

use std::net::Ipv4Addr;

use super::{Client, Offer};
use crate::client::exchange::Exchange;
use crate::config::Config;
use crate::event::{Delivery, Transmit};
use crate::options::{RawOption, code};
use crate::report::Sent;
use crate::time::Instant;
use crate::wire::Outgoing;

const NO_ADDRESS: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const TO_ALL: Delivery = Delivery::Broadcast { source: NO_ADDRESS };

impl Client {
    pub(super) fn send_discover(&mut self, exchange: &Exchange) {
        let mut options = Vec::new();
        options.extend(
            self.remembered
                .address
                .map(|address| address_option(code::REQUESTED_ADDRESS, address)),
        );
        if self.config.rapid_commit {
            options.push(RawOption::new(code::RAPID_COMMIT, []));
        }
        self.send_question(Sent::Discover, exchange, NO_ADDRESS, TO_ALL, options);
    }

    /// REQUEST in SELECTING: takes this offer, and tells the other servers that theirs are not
    /// taken.
    pub(super) fn send_request_for_offer(&mut self, exchange: &Exchange, offer: Offer) {
        let options = vec![
            address_option(code::REQUESTED_ADDRESS, offer.address),
            address_option(code::SERVER_ID, offer.server),
        ];
        self.send_question(Sent::Request, exchange, NO_ADDRESS, TO_ALL, options);
    }

    /// REQUEST in INIT-REBOOT.
    pub(super) fn send_request_for_remembered(&mut self, exchange: &Exchange, address: Ipv4Addr) {
        let options = vec![address_option(code::REQUESTED_ADDRESS, address)];
        self.send_question(Sent::Request, exchange, NO_ADDRESS, TO_ALL, options);
    }

    /// REQUEST in RENEWING, to the server; in REBINDING, to all.
    pub(super) fn send_request_for_more(
        &mut self,
        exchange: &Exchange,
        address: Ipv4Addr,
        to: Delivery,
    ) {
        self.send_question(Sent::Request, exchange, address, to, Vec::new());
    }

    pub(super) fn send_inform(&mut self, exchange: &Exchange, address: Ipv4Addr) {
        self.send_question(
            Sent::Inform,
            exchange,
            address,
            Delivery::Broadcast { source: address },
            Vec::new(),
        );
    }

    pub(super) fn send_decline(&mut self, declined: Offer) {
        let options = vec![
            address_option(code::REQUESTED_ADDRESS, declined.address),
            address_option(code::SERVER_ID, declined.server),
            RawOption::new(code::MESSAGE, "address already in use"),
        ];
        self.send_statement(Sent::Decline, NO_ADDRESS, TO_ALL, options);
    }

    pub(super) fn send_release(&mut self, released: Offer) {
        let Offer { address, server } = released;
        let options = vec![address_option(code::SERVER_ID, server)];
        self.send_statement(
            Sent::Release,
            address,
            Delivery::Unicast {
                source: address,
                server,
            },
            options,
        );
    }

    /// How long acquisition or renewal has been going on. Never 0, which some servers refuse.
    pub(super) fn secs(&self, now: Instant) -> u16 {
        u16::try_from(now.since(self.began).as_secs())
            .unwrap_or(u16::MAX)
            .max(1)
    }

    /// A message that wants an answer.
    fn send_question(
        &mut self,
        kind: Sent,
        exchange: &Exchange,
        ciaddr: Ipv4Addr,
        delivery: Delivery,
        own: Vec<RawOption>,
    ) {
        let config = &self.config;
        let mut options = own;
        options.extend(
            config
                .max_message_size
                .map(|size| RawOption::new(code::MAX_MESSAGE_SIZE, size.to_be_bytes())),
        );
        if !config.request.is_empty() {
            options.push(RawOption::new(
                code::PARAMETER_REQUEST_LIST,
                config.request.as_slice(),
            ));
        }
        let may_have = |option: &&RawOption| {
            let no_lease_asked = kind == Sent::Inform && option.code == code::LEASE_TIME;
            !Config::is_reserved(option.code) && !no_lease_asked
        };
        options.extend(config.options.iter().filter(may_have).cloned());
        // A server answers a ciaddr by unicast whatever the flag says (RFC 2131 section 4.1).
        let broadcast = ciaddr == NO_ADDRESS && (config.broadcast || self.wants_broadcast);
        let Exchange { xid, secs, .. } = *exchange;
        self.queue(
            delivery,
            Outgoing {
                kind,
                xid,
                secs,
                broadcast,
                ciaddr,
                chaddr: config.mac,
                options,
            },
        );
    }

    /// A message that nobody answers.
    fn send_statement(
        &mut self,
        kind: Sent,
        ciaddr: Ipv4Addr,
        delivery: Delivery,
        options: Vec<RawOption>,
    ) {
        let xid = self.rng.next_u32();
        let chaddr = self.config.mac;
        self.queue(
            delivery,
            Outgoing {
                kind,
                xid,
                secs: 0,
                broadcast: false,
                ciaddr,
                chaddr,
                options,
            },
        );
    }

    /// Replaces a message that was not collected: it answers to a state that is no more.
    fn queue(&mut self, delivery: Delivery, mut message: Outgoing) {
        let id = self
            .config
            .client_id
            .as_deref()
            .map(|id| RawOption::new(code::CLIENT_ID, id));
        message.options.splice(0..0, id);
        self.transmit = Some((
            message.kind,
            Transmit {
                payload: message.encode(),
                delivery,
            },
        ));
    }
}

fn address_option(code: u8, address: Ipv4Addr) -> RawOption {
    RawOption::new(code, address.octets())
}
