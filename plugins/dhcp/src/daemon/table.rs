//! The leases of all containers, and what the verbs do to them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use attachment::codes;
use cni::{Attachment, Error, code};
use linknet::Netns;
use tokio::sync::Semaphore;

use super::alarm::Alarms;
use super::books::Books;
use super::carrier::Carriers;
use super::exchange::now;
use super::flags::Flags;
use super::host_access::HostsWays;
use super::internal;
use super::lease::{Held, Slot};
use super::vanish::Vanishing;
use crate::place::{Gone, Place};
use crate::protocol::Terms;
use crate::store::{Standing, Store};

/// When a lease is looked after again that could not be, for want of descriptors, memory or sense.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// All leases.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) slots: RefCell<HashMap<Attachment, Rc<Slot>>>,
    pub(super) books: Books,
    alarms: Alarms<Weak<Slot>>,
    pub(super) vanishing: Vanishing,
    carriers: Carriers,
    pub(super) hosts_ways: HostsWays,
    pub(super) exchanges: Arc<Semaphore>,
    pub(super) stopping: Cell<bool>,
    pub(super) flags: Flags,
}

impl Table {
    /// No leases yet, and room for so many ADDs that talk to servers at a time; further ones wait
    /// their turn, first come, first served. Needs a tokio runtime.
    pub(crate) fn new(flags: Flags, store: Store, exchanges: usize) -> std::io::Result<Table> {
        Ok(Table {
            slots: RefCell::default(),
            books: Books::new(store),
            alarms: Alarms::new()?,
            vanishing: Vanishing::new()?,
            carriers: Carriers::new()?,
            hosts_ways: HostsWays::new()?,
            exchanges: Arc::new(Semaphore::new(exchanges)),
            stopping: Cell::new(false),
            flags,
        })
    }

    /// Whether the attachment has a lease, of one of these addresses. Never waits for the network.
    pub(crate) fn check(
        &self,
        attachment: &Attachment,
        addresses: &[Ipv4Addr],
    ) -> Result<(), Error> {
        let held = self
            .slots
            .borrow()
            .get(attachment)
            .and_then(|slot| slot.held.borrow().clone());
        let Some(held) = held else {
            return Err(Error::new(
                codes::NO_LEASE,
                format!("no lease is held for {attachment}"),
            )
            .details(
                "it was released, or its container was gone: the container must be attached anew",
            ));
        };
        if let Err(gone) = held.open() {
            return Err(Error::new(
                codes::NO_LEASE,
                format!("the lease of {attachment} is of no use: {gone}"),
            ));
        }
        match held.address() {
            None => Err(Error::new(
                codes::NO_LEASE,
                format!("{attachment} has lost its address, and no server grants another"),
            )
            .details(held.report())),
            Some(address) if addresses.is_empty() || addresses.contains(&address) => Ok(()),
            Some(address) => Err(Error::new(
                codes::LEASE_DIFFERS,
                format!("the lease of {attachment} is {address}, which prevResult does not list"),
            )),
        }
    }

    /// Gives the address back and forgets the lease. Wins over an ADD that is still asking. Without
    /// a lease there is nothing to do.
    pub(crate) async fn del(&self, attachment: &Attachment) {
        let Some(slot) = self.slots.borrow().get(attachment).cloned() else {
            return;
        };
        let _tidying = Tidying {
            table: self,
            slot: &slot,
        };
        slot.ending.notify_waiters();
        let _turn = slot.turn.lock().await;
        self.end(&slot);
    }

    /// Ends every lease of the network whose attachment is not to be kept.
    pub(crate) async fn gc(&self, network: &str, keep: &[Attachment]) {
        let stale: Vec<Attachment> = self
            .slots
            .borrow()
            .keys()
            .filter(|attachment| attachment.network() == network && !keep.contains(attachment))
            .cloned()
            .collect();
        for attachment in stale {
            tracing::info!(%attachment, "lease belongs to no valid attachment");
            self.del(&attachment).await;
        }
    }

    /// Whether an ADD could be served.
    ///
    /// # Errors
    /// 50, when leases cannot be written down.
    pub(crate) fn status(&self) -> Result<(), Error> {
        self.books.can_write().map_err(|error| {
            Error::new(
                code::PLUGIN_NOT_AVAILABLE,
                "the dhcp daemon cannot write its leases to disk",
            )
            .details(format!("{error}; they would not survive it"))
        })
    }

    /// How many leases there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Ends whatever is under way, because the daemon stops. Leases stay as they are.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        for slot in self.slots.borrow().values() {
            slot.ending.notify_waiters();
        }
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
    pub(crate) async fn maintain(&self, slot: &Rc<Slot>) {
        // Whoever has the turn sets the alarm anew when done.
        let Ok(turn) = slot.turn.try_lock() else {
            return;
        };
        let Some(held) = slot.held.borrow().clone() else {
            return;
        };
        tokio::select! {
            maintained = held.maintain(&slot.attachment, || self.changed(slot)) => match maintained {
                Ok(()) => self.set_alarm(slot),
                Err(gone) if gone.is_certain() => self.drop_lease(slot, gone),
                Err(_) => self.set_alarm_at(slot, Some(now() + RETRY)),
            },
            () = slot.ending.notified() => {}
        }
        drop(turn);
        self.tidy(slot);
    }

    /// Lets go of a lease whose maintenance failed in a way that it should not have, and takes it
    /// up again as it is on disk.
    pub(crate) fn recover(&self, slot: &Rc<Slot>) {
        // None: a DEL came first.
        if let Some(held) = slot.held.take() {
            match self.books.read(&slot.attachment) {
                Ok(Some(record)) => {
                    if let Err(error) = self.resume_one(record, Held::into_kept(held)) {
                        tracing::error!(attachment = %slot.attachment, %error, "the lease could not be taken up again");
                    }
                }
                Ok(None) => tracing::error!(attachment = %slot.attachment, "the lease is lost"),
                Err(error) => {
                    tracing::error!(attachment = %slot.attachment, %error, "the lease is lost")
                }
            }
        }
        if slot.held.borrow().is_some() {
            // Not at once, lest a bug that is met every time keep us busy.
            self.set_alarm_at(slot, Some(now() + RETRY));
        }
        self.tidy(slot);
    }

    /// Waits until containers have vanished, and drops their leases.
    pub(crate) async fn vanished(&self) -> std::io::Result<()> {
        match self.vanishing.gone().await? {
            Some(paths) => self.look_for(|path| paths.iter().any(|gone| gone == path)),
            None => self.look_for(|_| true),
        }
        Ok(())
    }

    /// Drops the leases whose container was under such a path and is there no more.
    fn look_for(&self, suspect: impl Fn(&Path) -> bool) {
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        for slot in slots {
            let held = slot
                .held
                .borrow()
                .clone()
                .filter(|held| suspect(&held.place.path));
            if let Some(Err(gone)) = held.map(|held| held.open())
                && gone.is_certain()
            {
                slot.ending.notify_waiters();
                self.drop_lease(&slot, gone);
                self.tidy(&slot);
            }
        }
    }

    /// Waits until parents have their carrier back, and has the leases on them asked for again, one
    /// after the other: a switch that was restarted must not be met by all of its hosts at once.
    pub(crate) async fn reconnected(&self) -> std::io::Result<()> {
        const APART: Duration = Duration::from_millis(10);
        let parents = self.carriers.restored().await?;
        let mut due = now();
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        for slot in slots {
            if let Some(held) = slot
                .held
                .borrow()
                .as_ref()
                .filter(|held| held.sits_on(&parents))
            {
                held.link_restored();
                self.set_alarm_at(&slot, Some(due));
                due = due + APART;
            }
        }
        Ok(())
    }

    /// Forgets what is of no use any more.
    pub(crate) fn sweep(&self) {
        self.books.sweep();
    }

    pub(super) fn slot(&self, attachment: &Attachment) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots
            .entry(attachment.clone())
            .or_insert_with(|| Rc::new(Slot::new(attachment.clone())));
        Rc::clone(slot)
    }

    /// Removes a slot that has no lease. Whoever waits for its turn finds out, and makes another.
    fn tidy(&self, slot: &Rc<Slot>) {
        let mut slots = self.slots.borrow_mut();
        let mapped = slots
            .get(&slot.attachment)
            .is_some_and(|mapped| Rc::ptr_eq(mapped, slot));
        if mapped && slot.held.borrow().is_none() && slot.turn.try_lock().is_ok() {
            slots.remove(&slot.attachment);
        }
    }

    /// Releases the lease of a slot whose turn we have.
    pub(super) fn end(&self, slot: &Slot) {
        if let Some(alarm) = slot.alarm.take() {
            self.alarms.cancel(alarm);
        }
        self.hosts_ways.forget(&slot.attachment);
        let Some(held) = slot.held.take() else { return };
        let (attachment, address) = (&slot.attachment, held.address());
        // On disk first: a lease that was given back must not be taken up again.
        let record = held.record(attachment);
        match record {
            Some(record) => self.books.remember(record.now(Standing::Released)),
            None => self.books.erase(attachment),
        }
        match held.release_in_place() {
            Ok(()) => tracing::info!(%attachment, ?address, "address given back"),
            Err(gone) => tracing::info!(%attachment, ?address, "address not given back: {gone}"),
        }
    }

    /// Lets go of a lease whose container is gone. Nothing can be sent any more.
    fn drop_lease(&self, slot: &Rc<Slot>, gone: Gone) {
        if let Some(alarm) = slot.alarm.take() {
            self.alarms.cancel(alarm);
        }
        let Some(held) = slot.held.take() else { return };
        tracing::info!(attachment = %slot.attachment, address = ?held.address(), "lease dropped: {gone}");
        match held.record(&slot.attachment) {
            Some(record) => self.books.remember(record.now(Standing::Left)),
            None => self.books.erase(&slot.attachment),
        }
        if held.host_access() {
            self.hosts_ways.close(&slot.attachment);
        }
    }

    /// Writes down how a slot's lease stands, and has the host reach the container where it is now.
    fn changed(&self, slot: &Slot) {
        self.note(slot);
        if let Some(held) = slot.held.borrow().as_ref() {
            self.lead(&slot.attachment, held);
        }
    }

    /// Has the host reach the container where its lease says, if it is to reach it.
    pub(super) fn lead(&self, attachment: &Attachment, held: &Held) {
        if held.host_access() {
            match held.destination() {
                Some(destination) => self.hosts_ways.open(attachment, destination),
                None => self.hosts_ways.close(attachment),
            }
        }
    }

    /// Writes down how a slot's lease stands.
    pub(super) fn note(&self, slot: &Slot) {
        let record = slot
            .held
            .borrow()
            .as_ref()
            .and_then(|held| held.record(&slot.attachment));
        match record {
            Some(record) => drop(self.books.write(&record)),
            None => self.books.note_lost(&slot.attachment),
        }
    }

    pub(super) fn set_alarm(&self, slot: &Rc<Slot>) {
        let due = slot.held.borrow().as_ref().and_then(|held| held.due());
        self.set_alarm_at(slot, due);
    }

    pub(super) fn set_alarm_at(&self, slot: &Rc<Slot>, due: Option<dhcp4::Instant>) {
        if let Some(old) = slot.alarm.take() {
            self.alarms.cancel(old);
        }
        slot.alarm
            .set(due.map(|due| self.alarms.set(due, Rc::downgrade(slot))));
    }

    /// A path of the host's as the daemon sees it.
    pub(super) fn on_host(&self, path: &Path) -> PathBuf {
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

    pub(super) fn config(&self, place: &Place, terms: &Terms) -> dhcp4::Config {
        let mut config = terms.client_config(place.mac);
        config.broadcast |= self.flags.broadcast;
        config.retry.max = self.flags.resendmax.max(config.retry.first);
        config.retry.requests = attempts_within(self.flags.timeout, config.retry.first);
        config
    }
}

/// Tidies a slot up when whoever used it is done with it, however that ends: its future may be
/// dropped.
pub(super) struct Tidying<'a> {
    pub(super) table: &'a Table,
    pub(super) slot: &'a Rc<Slot>,
}

impl Drop for Tidying<'_> {
    fn drop(&mut self) {
        self.table.tidy(self.slot);
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

/// Randomness for a client.
pub(super) fn seed() -> Result<u64, Error> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| internal(&error))?;
    Ok(u64::from_ne_bytes(seed))
}
