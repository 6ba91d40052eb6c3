//! Received packets: whether they are for this client, and what they mean in each state.

use std::net::Ipv4Addr;

use super::grant::{granted_lease, lasting_options, offered_address};
use super::state::{Client, Fallback, MAX_OTHERS, Offer, Server, State};
use crate::address::is_host;
use crate::event::{Event, LossReason, Nak};
use crate::lease::Lease;
use crate::report::{ExcludedServer, IgnoreReason, Ignored, PacketKind};
use crate::time::Instant;
use crate::wire::{Reply, ReplyKind};

impl Client {
    /// Reads a payload, checks it and acts upon it.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        payload: &[u8],
        from: Ipv4Addr,
    ) -> Result<(), Ignored> {
        let reply = Reply::decode(payload).map_err(|reason| Ignored {
            kind: PacketKind::Frame,
            reason,
        })?;
        let kind = reply.kind.into();
        self.check(&reply, from)
            .and_then(|server| self.act(now, reply, server))
            .map_err(|reason| Ignored { kind, reason })
    }

    /// Checks that a reply is for this client, belongs to the current transaction and comes from a
    /// server that the configuration accepts. Returns that server.
    fn check(&self, reply: &Reply, from: Ipv4Addr) -> Result<Server, IgnoreReason> {
        if reply.chaddr != self.config.mac {
            return Err(IgnoreReason::WrongChaddr);
        }
        let xid = self.state.xid().ok_or_else(|| self.not_awaited())?;
        if reply.xid != xid {
            return Err(IgnoreReason::WrongXid);
        }
        // RFC 6842 section 3. Older servers do not echo the identifier.
        if reply
            .client_id()
            .is_some_and(|echo| Some(echo) != self.config.client_id.as_deref())
        {
            return Err(IgnoreReason::WrongClientId);
        }
        let server = Server {
            id: reply.server_id(),
            source: from,
        };
        if !is_host(server.address()) {
            return Err(IgnoreReason::NoServerId);
        }
        if !self.config.servers.accepts(server.address(), from) {
            let excluded = ExcludedServer {
                id: server.address(),
                source: from,
            };
            return Err(IgnoreReason::ServerNotAllowed(Some(excluded)));
        }
        Ok(server)
    }

    fn act(&mut self, now: Instant, reply: Reply, server: Server) -> Result<(), IgnoreReason> {
        match (&self.state, reply.kind) {
            (State::Selecting { .. }, ReplyKind::Offer) => self.consider(now, reply, server),

            (State::Selecting { transaction, .. }, ReplyKind::Ack) => {
                // RFC 4039 section 3.1: valid only with the option, and only if the client sent it.
                if !(self.wants_rapid_commit() && reply.rapid_commit()) {
                    return Err(IgnoreReason::NotRapidCommit);
                }
                let lease = granted_lease(reply, server, transaction.started_at, &[])?;
                self.lease_granted(now, not_over(lease, now)?);
                Ok(())
            }

            (State::Requesting { offer, .. }, ReplyKind::Ack | ReplyKind::Nak)
                if !server.is(offer.server) =>
            {
                Err(IgnoreReason::WrongServer)
            }
            (
                State::Requesting {
                    transaction, offer, ..
                },
                ReplyKind::Ack,
            ) => {
                let requested_at = transaction.started_at;
                let lease = granted_lease(reply, server, requested_at, &offer.options)?;
                let lease = not_over(for_address(offer.address, lease)?, now)?;
                self.lease_granted(now, lease);
                Ok(())
            }
            (State::Requesting { .. }, ReplyKind::Nak) => {
                self.note_nak(&reply, server);
                self.offer_refused(now);
                Ok(())
            }
            (State::Requesting { .. }, ReplyKind::Offer) => self.keep_offer(reply, server),

            (State::Rebooting { transaction, past }, ReplyKind::Ack) => {
                let earlier = lasting_options(past, &reply);
                let lease = granted_lease(reply, server, transaction.started_at, &earlier)?;
                let lease = not_over(for_address(past.address, lease)?, now)?;
                self.lease_granted(now, lease);
                Ok(())
            }
            (State::Rebooting { .. }, ReplyKind::Nak) => {
                self.note_nak(&reply, server);
                self.request_refused(now);
                Ok(())
            }

            (
                State::Reconfirming { transaction, timed }
                | State::Renewing { transaction, timed }
                | State::Rebinding { transaction, timed },
                ReplyKind::Ack,
            ) => {
                let earlier = lasting_options(&timed.lease, &reply);
                let lease = granted_lease(reply, server, transaction.started_at, &earlier)?;
                let lease = not_over(for_address(timed.lease.address, lease)?, now)?;
                if let Some(old) = self.state.take_lease() {
                    self.extend(now, old.lease, lease);
                }
                Ok(())
            }
            // The REQUEST was sent to one server only.
            (State::Renewing { timed, .. }, ReplyKind::Nak)
                if server.address() != timed.lease.server_id =>
            {
                Err(IgnoreReason::WrongServer)
            }
            // The REQUEST was broadcast, so any server may refuse it.
            (
                State::Reconfirming { .. } | State::Renewing { .. } | State::Rebinding { .. },
                ReplyKind::Nak,
            ) => {
                let nak = self.note_nak(&reply, server);
                if let Some(old) = self.state.take_lease() {
                    self.lose(now, old.lease, LossReason::Nak(nak));
                }
                Ok(())
            }

            (State::Selecting { .. }, ReplyKind::Nak)
            | (
                State::Rebooting { .. }
                | State::Reconfirming { .. }
                | State::Renewing { .. }
                | State::Rebinding { .. },
                ReplyKind::Offer,
            )
            | (
                State::Init { .. } | State::Granted { .. } | State::Bound { .. } | State::Stopped,
                ReplyKind::Offer | ReplyKind::Ack | ReplyKind::Nak,
            ) => Err(self.not_awaited()),
        }
    }

    /// Takes an offer at once, unless it comes from an unreliable server; that one has to wait for
    /// a better one. An OFFER with the Rapid Commit option is an ordinary offer, because some
    /// servers copy the option from the DISCOVER.
    fn consider(&mut self, now: Instant, reply: Reply, server: Server) -> Result<(), IgnoreReason> {
        let offer = self.acceptable_offer(reply, server)?;
        let State::Selecting {
            transaction,
            fallback,
        } = &mut self.state
        else {
            return Ok(());
        };
        if self.unreliable_server == Some(server.address()) {
            self.transmit = None;
            fallback.get_or_insert(Fallback {
                offer,
                take_at: now + self.config.retry.first,
            });
        } else {
            let discovery = transaction.clone();
            let others = fallback.take().map(|fallback| fallback.offer);
            self.enter_requesting(now, &discovery, offer, others.into_iter().collect());
        }
        Ok(())
    }

    /// Keeps the offer of another server, in case the one that was asked does not grant its own.
    fn keep_offer(&mut self, reply: Reply, server: Server) -> Result<(), IgnoreReason> {
        let not_awaited = self.not_awaited();
        let State::Requesting { offer, others, .. } = &self.state else {
            return Err(not_awaited);
        };
        let is_known =
            server.is(offer.server) || others.iter().any(|other| server.is(other.server));
        if is_known || others.len() == MAX_OTHERS {
            return Err(not_awaited);
        }
        let another = self.acceptable_offer(reply, server)?;
        if let State::Requesting { others, .. } = &mut self.state {
            others.push(another);
        }
        Ok(())
    }

    /// What a server offers, if the client may take it.
    fn acceptable_offer(&mut self, reply: Reply, server: Server) -> Result<Offer, IgnoreReason> {
        let offer = offer(reply, server)?;
        let address = offer.address;
        if self.config.only_address.is_some_and(|only| only != address) {
            self.events.push_back(Event::OtherOffered {
                address,
                server: server.address(),
            });
            return Err(IgnoreReason::NotOnlyAddress);
        }
        Ok(offer)
    }

    /// Requests the next offer after a NAK, or discovers again.
    fn offer_refused(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Requesting {
                transaction,
                offer,
                others,
            } if !others.is_empty() => self.offer_failed(now, &transaction, &offer, others),
            State::Requesting { offer, .. } => {
                self.unreliable_server = Some(offer.server.address());
                self.request_refused(now);
            }
            state => self.state = state,
        }
    }

    /// Keeps a NAK for the report.
    fn note_nak(&mut self, reply: &Reply, server: Server) -> Nak {
        let nak = Nak {
            server: server.address(),
            message: reply.message(),
        };
        self.report_mut().last_nak = Some(nak.clone());
        nak
    }

    fn not_awaited(&self) -> IgnoreReason {
        IgnoreReason::NotAwaited(self.state.name())
    }
}

/// What a server offers.
fn offer(reply: Reply, server: Server) -> Result<Offer, IgnoreReason> {
    Ok(Offer {
        address: offered_address(&reply, server)?,
        server,
        options: reply.into_raw_options(),
    })
}

/// Refuses an ACK for an address that was not requested.
fn for_address(requested: Ipv4Addr, lease: Lease) -> Result<Lease, IgnoreReason> {
    if lease.address == requested {
        Ok(lease)
    } else {
        Err(IgnoreReason::WrongAddress)
    }
}

/// Refuses an ACK whose lease has expired on arrival.
fn not_over(lease: Lease, now: Instant) -> Result<Lease, IgnoreReason> {
    if lease.is_over(now) {
        Err(IgnoreReason::TooLate)
    } else {
        Ok(lease)
    }
}
