//! The leases of all containers, and what the verbs do to them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use cni::{CniResult, Error, code};
use dhcp4::Client;
use linknet::Netns;
use tokio::time::timeout;

use super::alarm::Alarms;
use super::exchange::now;
use super::flags::Flags;
use super::lease::{Held, Slot};
use super::place::Place;
use super::sockets::Sockets;
use crate::protocol::{Attachment, Terms};

/// All leases.
#[derive(Debug)]
pub(crate) struct Table {
    slots: RefCell<HashMap<Attachment, Rc<Slot>>>,
    alarms: Alarms<Weak<Slot>>,
    flags: Flags,
}

impl Table {
    /// No leases yet. Needs a tokio runtime.
    pub(crate) fn new(flags: Flags) -> std::io::Result<Table> {
        Ok(Table { slots: RefCell::default(), alarms: Alarms::new()?, flags })
    }

    /// Leases an address for the interface of `attachment` in `netns`. A lease that it has already is returned as it
    /// is, so a runtime may ask twice.
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
    ) -> Result<CniResult, Error> {
        let slot = self.slot(attachment);
        let _turn = slot.turn.lock().await;
        let place = Place::find(&netns, &self.on_host(path), &attachment.ifname)?;
        let there = slot.held.borrow().clone();
        if let Some(held) = there {
            if let Some(result) = held.result().filter(|_| held.serves(&place, &terms)) {
                return Ok(result);
            }
            // The netns, the interface or the terms are others now.
            self.end(&slot);
        }
        let client = Client::new(self.config(&place, &terms), seed()?, now());
        let sockets = Sockets::new(netns.try_clone().map_err(|error| internal(&error))?, place.ifindex);
        let mut attempt = Attempt { held: Some(Held::new(client, place, terms)), sockets };
        let held = tokio::select! {
            held = attempt.win(&netns, self.flags.resendtimeout) => Rc::new(held?),
            () = slot.ending.notified() => {
                return Err(Error::new(code::TRY_AGAIN_LATER, format!("ADD of {attachment} was overtaken by a DEL")));
            }
        };
        let result = held.result().ok_or_else(|| internal(&"a lease was bound and is not there"))?;
        tracing::info!(%attachment, address = %result.ips[0].address, "address leased");
        *slot.held.borrow_mut() = Some(held);
        self.set_alarm(&slot);
        Ok(result)
    }

    /// Whether the attachment has a lease, of one of these addresses. Never waits for the network.
    pub(crate) fn check(&self, attachment: &Attachment, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        let held = self.slots.borrow().get(attachment).and_then(|slot| slot.held.borrow().clone());
        let Some(held) = held else {
            return Err(Error::new(crate::NO_LEASE, format!("no lease is held for {attachment}"))
                .details("the dhcp daemon was restarted, or the lease was released: the container must be attached anew"));
        };
        match held.address() {
            None => Err(Error::new(
                crate::NO_LEASE,
                format!("{attachment} has lost its address, and no server grants another"),
            )
            .details(held.report())),
            Some(address) if addresses.is_empty() || addresses.contains(&address) => Ok(()),
            Some(address) => Err(Error::new(
                crate::LEASE_DIFFERS,
                format!("the lease of {attachment} is {address}, which prevResult does not list"),
            )),
        }
    }

    /// Gives the address back and forgets the lease. Wins over an ADD that is still asking. Without a lease there is
    /// nothing to do.
    pub(crate) async fn del(&self, attachment: &Attachment) {
        let Some(slot) = self.slots.borrow().get(attachment).cloned() else { return };
        slot.ending.notify_waiters();
        let _turn = slot.turn.lock().await;
        self.end(&slot);
        // An ADD that queues behind us keeps the slot.
        if Rc::strong_count(&slot) == 2 {
            self.slots.borrow_mut().remove(attachment);
        }
    }

    /// Ends every lease of the network whose attachment is not to be kept.
    pub(crate) async fn gc(&self, network: &str, keep: &[Attachment]) {
        let stale: Vec<Attachment> = self
            .slots
            .borrow()
            .keys()
            .filter(|attachment| attachment.network == network && !keep.contains(attachment))
            .cloned()
            .collect();
        for attachment in stale {
            tracing::info!(%attachment, "lease belongs to no valid attachment");
            self.del(&attachment).await;
        }
    }

    /// How many leases there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Waits until a lease wants attention.
    pub(crate) async fn due(&self) -> std::io::Result<Rc<Slot>> {
        loop {
            if let Some(slot) = self.alarms.next(now).await?.upgrade() {
                return Ok(slot);
            }
        }
    }

    /// Renews the lease of a slot, or does whatever else is due.
    pub(crate) async fn maintain(&self, slot: Rc<Slot>) {
        // Whoever has the turn sets the alarm anew when done.
        let Ok(_turn) = slot.turn.try_lock() else { return };
        let Some(held) = slot.held.borrow().clone() else { return };
        tokio::select! {
            maintained = held.maintain(&slot.attachment) => match maintained {
                Ok(()) => self.set_alarm(&slot),
                Err(gone) => {
                    tracing::info!(attachment = %slot.attachment, "lease dropped: {gone}");
                    slot.held.take();
                    self.slots.borrow_mut().remove(&slot.attachment);
                }
            },
            () = slot.ending.notified() => {}
        }
    }

    fn slot(&self, attachment: &Attachment) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(attachment.clone()).or_insert_with(|| Rc::new(Slot::new(attachment.clone())));
        Rc::clone(slot)
    }

    /// Releases the lease of a slot whose turn we have.
    fn end(&self, slot: &Slot) {
        if let Some(alarm) = slot.alarm.take() {
            self.alarms.cancel(alarm);
        }
        let Some(held) = slot.held.take() else { return };
        let address = held.address();
        match held.release_in_place() {
            Ok(()) => tracing::info!(attachment = %slot.attachment, ?address, "address given back"),
            Err(gone) => {
                tracing::info!(attachment = %slot.attachment, ?address, "lease forgotten, not given back: {gone}")
            }
        }
    }

    fn set_alarm(&self, slot: &Rc<Slot>) {
        if let Some(old) = slot.alarm.take() {
            self.alarms.cancel(old);
        }
        let due = slot.held.borrow().as_ref().and_then(|held| held.due());
        slot.alarm.set(due.map(|due| self.alarms.set(due, Rc::downgrade(slot))));
    }

    /// A path of the host's as the daemon sees it.
    fn on_host(&self, path: &Path) -> PathBuf {
        match &self.flags.hostprefix {
            Some(prefix) => prefix.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Opens a netns by its path, for callers that could not pass a descriptor.
    pub(crate) fn open_netns(&self, path: &Path) -> Result<Netns, Error> {
        Netns::open(self.on_host(path))
            .map_err(|error| Error::new(code::UNKNOWN_CONTAINER, format!("CNI_NETNS: {error}")))
    }

    fn config(&self, place: &Place, terms: &Terms) -> dhcp4::Config {
        let mut config = dhcp4::Config::new(place.mac.octets());
        config.client_id = terms.client_id.as_ref().map(|option| option.data.clone());
        config.request = terms.request.clone();
        config.options = terms.provide.clone();
        config.broadcast = self.flags.broadcast;
        config.retry.max = self.flags.resendmax.max(config.retry.first);
        config.retry.requests = attempts_within(self.flags.timeout, config.retry.first);
        config
    }
}

/// An attempt to win a lease. Dropped before it is won, it gives back what a server may have set aside for it.
struct Attempt {
    held: Option<Held>,
    sockets: Sockets,
}

impl Attempt {
    async fn win(&mut self, netns: &Netns, patience: Duration) -> Result<Held, Error> {
        let Some(held) = &self.held else { return Err(internal(&"the attempt is over")) };
        match timeout(patience, held.acquire(&mut self.sockets)).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let what = format!("no address for {} within {} s", held.ifname(), patience.as_secs());
                let details = format!("{}; {}", held.report(), held.health(netns));
                return Err(Error::new(code::TRY_AGAIN_LATER, what).details(details));
            }
        }
        self.held.take().ok_or_else(|| internal(&"the lease was taken twice"))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.release(&mut self.sockets);
        }
    }
}

/// How many messages it takes to wait this long, when each wait is twice the one before.
fn attempts_within(patience: Duration, first: Duration) -> u32 {
    let mut attempts = 1;
    let mut wait = first;
    let mut waited = first;
    while waited < patience && attempts < 10 {
        wait *= 2;
        waited += wait;
        attempts += 1;
    }
    attempts
}

fn seed() -> Result<u64, Error> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| internal(&error))?;
    Ok(u64::from_ne_bytes(seed))
}

fn internal(problem: &dyn std::fmt::Display) -> Error {
    Error::new(code::INTERNAL, format!("the dhcp daemon failed: {problem}"))
}
