//! ADD: a lease is won, or the one that is there is returned.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use cni::{Attachment, CniResult, Error, code};
use dhcp4::Client;
use linknet::Netns;
use tokio::time::{Instant, timeout_at};

use super::attempt::Attempt;
use super::exchange::now;
use super::internal;
use super::lease::{Held, Slot};
use super::memory::Identity;
use super::sockets::Sockets;
use super::table::{Table, Tidying, seed};
use crate::place::Place;
use crate::protocol::Terms;
use crate::store::Record;

/// What an ADD came to.
#[derive(Debug)]
pub(crate) struct Added {
    /// What the container is told.
    pub(crate) result: CniResult,
    /// The lease.
    held: Rc<Held>,
    /// It was not there before.
    anew: bool,
}

impl Table {
    /// Leases an address for the interface of `attachment` in `netns`. A lease that it has already
    /// is returned as it is, so a runtime may ask twice.
    ///
    /// Dropping the future gives back what may have been won by then.
    ///
    /// # Errors
    /// 11 when no server granted an address in time, saying how far it got.
    pub(crate) async fn add(
        &self,
        attachment: &Attachment,
        netns: Netns,
        path: &Path,
        terms: Terms,
    ) -> Result<Added, Error> {
        let patience = terms.timeout.unwrap_or(self.flags.resendtimeout);
        let deadline = Instant::now() + patience;
        let overtaken = || {
            let what = format!("ADD of {attachment} was overtaken by {}", self.ender());
            Error::new(code::TRY_AGAIN_LATER, what)
        };
        loop {
            if self.stopping.get() {
                return Err(overtaken());
            }
            let slot = self.slot(attachment);
            let _tidying = Tidying {
                table: self,
                slot: &slot,
            };
            let added = tokio::select! {
                added = self.add_in_turn(&slot, &netns, path, &terms, deadline) => added,
                () = slot.ending.notified() => Err(overtaken()),
            };
            if let Some(added) = added? {
                return Ok(added);
            }
        }
    }

    /// Gives back what an ADD has won whose caller was gone before it could be told.
    pub(crate) async fn undo(&self, attachment: &Attachment, added: &Added) {
        let ours = |slot: &Slot| {
            slot.held
                .borrow()
                .as_ref()
                .is_some_and(|held| Rc::ptr_eq(held, &added.held))
        };
        let slot = self.slots.borrow().get(attachment).cloned();
        if added.anew && slot.is_some_and(|slot| ours(&slot)) {
            self.del(attachment).await;
        }
    }

    /// `None` when the slot was given up while we waited for our turn.
    async fn add_in_turn(
        &self,
        slot: &Rc<Slot>,
        netns: &Netns,
        path: &Path,
        terms: &Terms,
        deadline: Instant,
    ) -> Result<Option<Added>, Error> {
        let patience = terms.timeout.unwrap_or(self.flags.resendtimeout);
        let attachment = &slot.attachment;
        let late = |waited_for: &str| {
            let what = format!(
                "no address for {attachment} within {} s",
                patience.as_secs()
            );
            Error::new(code::TRY_AGAIN_LATER, what)
                .details(format!("all that time was spent {waited_for}"))
        };
        let turn = timeout_at(deadline, slot.turn.lock()).await;
        let _turn =
            turn.map_err(|_| late("waiting for another exchange of the same attachment"))?;
        if !self
            .slots
            .borrow()
            .get(attachment)
            .is_some_and(|mapped| Rc::ptr_eq(mapped, slot))
        {
            return Ok(None);
        }
        let place = Place::find(netns, &self.on_host(path), attachment.ifname())?;
        // The last container of this name was another.
        self.hosts_ways.forget(attachment);
        let there = slot.held.borrow().clone();
        if let Some(held) = there {
            if let Some(result) = held.result().filter(|_| held.serves(&place, terms)) {
                return Ok(Some(Added {
                    result,
                    held,
                    anew: false,
                }));
            }
            // The netns, the interface or the terms are others now.
            self.end(slot);
        }
        let admitted = timeout_at(deadline, Arc::clone(&self.exchanges).acquire_owned()).await;
        let admitted = admitted
            .map_err(|_| late("in the queue behind other ADDs"))?
            .map_err(|error| internal(&error))?;
        let for_sockets = netns.try_clone().map_err(|error| internal(&error))?;
        let sockets = Sockets::admitted(for_sockets, place.ifindex, admitted);
        let (client, recalled) = self.client(attachment, &place, terms)?;
        let mut attempt = Attempt::new(Held::new(client, place, terms.clone(), netns), sockets);
        let held = Rc::new(attempt.win(netns, deadline, patience).await?);
        let result = held
            .result()
            .ok_or_else(|| internal(&"a lease was bound and is not there"))?;
        self.vanishing.watch(&held.place.path);
        *slot.held.borrow_mut() = Some(Rc::clone(&held));
        // On disk before anybody hears of it: from here on no crash can lose it.
        self.note(slot);
        if let Some(record) = recalled {
            self.books.supersede(&record);
        }
        self.set_alarm(slot);
        tracing::info!(%attachment, address = ?held.address(), "address leased");
        Ok(Some(Added {
            result,
            held,
            anew: true,
        }))
    }

    /// A client for this place: one that asks for the address it had, if it is known to have had
    /// one.
    fn client(
        &self,
        attachment: &Attachment,
        place: &Place,
        terms: &Terms,
    ) -> Result<(Client, Option<Record>), Error> {
        let mut config = self.config(place, terms);
        let identity = Identity::new(attachment.network(), terms, place.mac);
        let recalled = self.books.recall(&identity);
        let Some((remembered, record)) = recalled else {
            return Ok((Client::new(config, seed()?, now()), None));
        };
        let client = if remembered.released || config.requested_address.is_some() {
            config.requested_address.get_or_insert(remembered.address);
            Client::new(config, seed()?, now())
        } else {
            Client::reboot(
                config,
                seed()?,
                remembered.address,
                Some(remembered.server),
                now(),
            )
        };
        Ok((client, Some(record)))
    }

    fn ender(&self) -> &'static str {
        if self.stopping.get() {
            "the end of the daemon: try again"
        } else {
            "a DEL"
        }
    }
}
