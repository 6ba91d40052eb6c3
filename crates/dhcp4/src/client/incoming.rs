//! What arrives: whether it is for us, and what it means in each state.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Candidate, Client, Offer, State};
use crate::event::{Event, Nak, Why};
use crate::lease::{Lease, offered_address};
use crate::report::{Ignored, Kind, Reason};
use crate::time::Instant;
use crate::wire::{Reply, ReplyKind};

/// How welcome an offer is, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// From the server whose last offer came to nothing.
    Unreliable,
    Any,
    /// From the server that we had an address from.
    KnownServer,
    /// Of the address asked for.
    KnownAddress,
}

impl Client {
    pub(super) fn receive(
        &mut self,
        now: Instant,
        payload: &[u8],
        from: Ipv4Addr,
    ) -> Result<(), Ignored> {
        let reply = Reply::decode(payload).map_err(|reason| Ignored {
            kind: Kind::Frame,
            reason,
        })?;
        let kind = reply.kind.into();
        self.check(&reply, from)
            .and_then(|server| self.act(now, reply, server))
            .map_err(|reason| Ignored { kind, reason })
    }

    /// Checks that a reply is to us and to what we asked, and from a server we listen to; returns
    /// that server.
    fn check(&self, reply: &Reply, from: Ipv4Addr) -> Result<Ipv4Addr, Reason> {
        if reply.chaddr != self.config.mac {
            return Err(Reason::WrongChaddr);
        }
        let xid = self.xid().ok_or(Reason::NotAwaited(self.state()))?;
        if reply.xid != xid {
            return Err(Reason::WrongXid);
        }
        // RFC 6842 section 3: absent from older servers, but never another's.
        if reply
            .client_id()
            .is_some_and(|echo| Some(echo) != self.config.client_id.as_deref())
        {
            return Err(Reason::WrongClientId);
        }
        // RFC 2131 table 3: a MUST in OFFER, ACK and NAK alike.
        let server = reply.server_id().ok_or(Reason::NoServerId)?;
        if !self.config.servers.admit(server, from) {
            return Err(Reason::ServerNotAllowed);
        }
        Ok(server)
    }

    fn act(&mut self, now: Instant, reply: Reply, server: Ipv4Addr) -> Result<(), Reason> {
        match (&self.state, reply.kind) {
            (State::Selecting { .. }, ReplyKind::Offer) => self.consider(now, &reply, server),

            (State::Selecting { exchange, .. }, ReplyKind::Ack) => {
                // RFC 4039 section 3.1: only with the option, and only if we asked for it.
                if !(self.config.rapid_commit && reply.rapid_commit()) {
                    return Err(Reason::NotRapidCommit);
                }
                let lease = current(Lease::from_ack(reply, server, exchange.since)?, now)?;
                self.win(now, lease);
                Ok(())
            }

            (State::Requesting { exchange, offer }, ReplyKind::Ack) => {
                if server != offer.server {
                    return Err(Reason::WrongServer);
                }
                let lease = for_address(
                    offer.address,
                    Lease::from_ack(reply, server, exchange.since)?,
                )?;
                let lease = current(lease, now)?;
                self.win(now, lease);
                Ok(())
            }
            (State::Requesting { offer, .. }, ReplyKind::Nak) => {
                if server != offer.server {
                    return Err(Reason::WrongServer);
                }
                self.unreliable = Some(server);
                self.report.last_nak = Some(Nak {
                    server,
                    message: reply.message(),
                });
                self.refused(now);
                Ok(())
            }

            (
                State::Rebooting {
                    exchange, address, ..
                },
                ReplyKind::Ack,
            ) => {
                let lease = for_address(*address, Lease::from_ack(reply, server, exchange.since)?)?;
                let lease = current(lease, now)?;
                match self.take_held() {
                    Some(held) => self.extend(now, held.lease, lease),
                    None => self.win(now, lease),
                }
                Ok(())
            }

            (
                State::Renewing { exchange, held } | State::Rebinding { exchange, held },
                ReplyKind::Ack,
            ) => {
                let lease = for_address(
                    held.lease.address,
                    Lease::from_ack(reply, server, exchange.since)?,
                )?;
                let lease = current(lease, now)?;
                if let Some(held) = self.take_held() {
                    self.extend(now, held.lease, lease);
                }
                Ok(())
            }
            // Asked by unicast, so nobody else has a say.
            (State::Renewing { held, .. }, ReplyKind::Nak) if server != held.lease.server_id => {
                Err(Reason::WrongServer)
            }
            // Asked by broadcast, so any server may know better.
            (
                State::Rebooting { .. } | State::Renewing { .. } | State::Rebinding { .. },
                ReplyKind::Nak,
            ) => {
                let nak = Nak {
                    server,
                    message: reply.message(),
                };
                self.report.last_nak = Some(nak.clone());
                match self.take_held() {
                    Some(held) => self.lose(now, held.lease, Why::Nak(nak)),
                    None => self.refused(now),
                }
                Ok(())
            }

            (State::Informing { .. }, ReplyKind::Ack) => {
                self.transmit = None;
                self.state = State::Stopped;
                self.events.push_back(Event::Informed(reply.into_options()));
                Ok(())
            }

            (State::Selecting { .. } | State::Informing { .. }, ReplyKind::Nak)
            | (
                State::Requesting { .. }
                | State::Rebooting { .. }
                | State::Renewing { .. }
                | State::Rebinding { .. }
                | State::Informing { .. },
                ReplyKind::Offer,
            )
            | (
                State::Init { .. } | State::Granted { .. } | State::Bound { .. } | State::Stopped,
                ReplyKind::Offer | ReplyKind::Ack | ReplyKind::Nak,
            ) => Err(Reason::NotAwaited(self.state())),
        }
    }

    /// Takes an offer, keeps it while better ones may come, or drops it for a better one already
    /// there. One that carries Rapid Commit is an offer all the same: servers exist that copy the
    /// option from the DISCOVER.
    fn consider(&mut self, now: Instant, reply: &Reply, server: Ipv4Addr) -> Result<(), Reason> {
        let offer = Offer {
            address: offered_address(reply)?,
            server,
        };
        let rank = self.rank(offer);
        let wait = match rank {
            Rank::KnownAddress => Duration::ZERO,
            Rank::KnownServer | Rank::Any => self.config.collect,
            Rank::Unreliable => self.config.collect.max(self.config.retry.first),
        };
        let State::Selecting { exchange, best } = &self.state else {
            return Ok(());
        };
        let decide_at = best.map_or(now + wait, |best| best.decide_at.min(now + wait));
        let offer = match best {
            Some(best) if self.rank(best.offer) >= rank => best.offer,
            _ => offer,
        };
        let exchange = exchange.clone();
        if decide_at <= now {
            self.enter_requesting(now, &exchange, offer);
        } else {
            self.transmit = None;
            self.state = State::Selecting {
                exchange,
                best: Some(Candidate { offer, decide_at }),
            };
        }
        Ok(())
    }

    fn rank(&self, offer: Offer) -> Rank {
        if self.unreliable == Some(offer.server) {
            Rank::Unreliable
        } else if self.remembered.address == Some(offer.address) {
            Rank::KnownAddress
        } else if self.remembered.server == Some(offer.server) {
            Rank::KnownServer
        } else {
            Rank::Any
        }
    }

    /// The transaction id that an answer must carry now; `None`: none is awaited.
    fn xid(&self) -> Option<u32> {
        match &self.state {
            State::Selecting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Rebooting { exchange, .. }
            | State::Renewing { exchange, .. }
            | State::Rebinding { exchange, .. }
            | State::Informing { exchange, .. } => Some(exchange.xid),
            State::Init { .. } | State::Granted { .. } | State::Bound { .. } | State::Stopped => {
                None
            }
        }
    }
}

/// An ACK for another address than the one requested is no answer to the request.
fn for_address(requested: Ipv4Addr, lease: Lease) -> Result<Lease, Reason> {
    if lease.address == requested {
        Ok(lease)
    } else {
        Err(Reason::OtherAddress)
    }
}

fn current(lease: Lease, now: Instant) -> Result<Lease, Reason> {
    if lease.is_over(now) {
        Err(Reason::TooLate)
    } else {
        Ok(lease)
    }
}
