//! The leases of all containers, and what the verbs do to them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use cni::{CniResult, Error, code};
use dhcp4::Client;
use linknet::Netns;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::alarm::Alarms;
use super::attempt::Attempt;
use super::books::Books;
use super::carrier::Carriers;
use super::exchange::now;
use super::flags::Flags;
use super::host_access::HostsWays;
use super::internal;
use super::lease::{Held, Slot};
use super::memory::Identity;
use super::sockets::Sockets;
use super::vanish::Vanishing;
use crate::place::{Gone, Place};
use crate::protocol::{Attachment, Terms};
use crate::store::{Record, Standing, Store};

/// When a lease is looked after again that could not be, for want of descriptors, memory or sense.
pub(super) const RETRY: Duration = Duration::from_secs(10);

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

/// All leases.
#[derive(Debug)]
pub(crate) struct Table {
    slots: RefCell<HashMap<Attachment, Rc<Slot>>>,
    pub(super) books: Books,
    alarms: Alarms<Weak<Slot>>,
    pub(super) vanishing: Vanishing,
    carriers: Carriers,
    pub(super) hosts_ways: HostsWays,
    exchanges: Arc<Semaphore>,
    stopping: Cell<bool>,
    flags: Flags,
}

impl Table {
    /// No leases yet, and room for so many ADDs that talk to servers at a time; further ones wait their turn, first
    /// come, first served. Needs a tokio runtime.
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
            let _tidying = Tidying { table: self, slot: &slot };
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
        let ours =
            |slot: &Slot| slot.held.borrow().as_ref().is_some_and(|held| Rc::ptr_eq(held, &added.held));
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
            let what = format!("no address for {attachment} within {} s", patience.as_secs());
            Error::new(code::TRY_AGAIN_LATER, what).details(format!("all that time was spent {waited_for}"))
        };
        let turn = timeout_at(deadline, slot.turn.lock()).await;
        let _turn = turn.map_err(|_| late("waiting for another exchange of the same attachment"))?;
        if !self.slots.borrow().get(attachment).is_some_and(|mapped| Rc::ptr_eq(mapped, slot)) {
            return Ok(None);
        }
        let place = Place::find(netns, &self.on_host(path), &attachment.ifname)?;
        // The last container of this name was another.
        self.hosts_ways.forget(attachment);
        let there = slot.held.borrow().clone();
        if let Some(held) = there {
            if let Some(result) = held.result().filter(|_| held.serves(&place, terms)) {
                return Ok(Some(Added { result, held, anew: false }));
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
        let result = held.result().ok_or_else(|| internal(&"a lease was bound and is not there"))?;
        self.vanishing.watch(&held.place.path);
        *slot.held.borrow_mut() = Some(Rc::clone(&held));
        // On disk before anybody hears of it: from here on no crash can lose it.
        self.note(slot);
        if let Some(record) = recalled {
            self.books.supersede(&record);
        }
        self.set_alarm(slot);
        tracing::info!(%attachment, address = ?held.address(), "address leased");
        Ok(Some(Added { result, held, anew: true }))
    }

    /// A client for this place: one that asks for the address it had, if it is known to have had one.
    fn client(
        &self,
        attachment: &Attachment,
        place: &Place,
        terms: &Terms,
    ) -> Result<(Client, Option<Record>), Error> {
        let mut config = self.config(place, terms);
        let identity = Identity::new(&attachment.network, terms, place.mac);
        let recalled = self.books.recall(&identity);
        let Some((remembered, record)) = recalled else {
            return Ok((Client::new(config, seed()?, now()), None));
        };
        let client = if remembered.released || config.requested_address.is_some() {
            config.requested_address.get_or_insert(remembered.address);
            Client::new(config, seed()?, now())
        } else {
            Client::reboot(config, seed()?, remembered.address, Some(remembered.server), now())
        };
        Ok((client, Some(record)))
    }

    /// Whether the attachment has a lease, of one of these addresses. Never waits for the network.
    pub(crate) fn check(&self, attachment: &Attachment, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        let held = self.slots.borrow().get(attachment).and_then(|slot| slot.held.borrow().clone());
        let Some(held) = held else {
            return Err(Error::new(crate::NO_LEASE, format!("no lease is held for {attachment}"))
                .details("it was released, or its container was gone: the container must be attached anew"));
        };
        if let Err(gone) = held.open() {
            return Err(Error::new(
                crate::NO_LEASE,
                format!("the lease of {attachment} is of no use: {gone}"),
            ));
        }
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
        let _tidying = Tidying { table: self, slot: &slot };
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
            .filter(|attachment| attachment.network == network && !keep.contains(attachment))
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
            Error::new(code::PLUGIN_NOT_AVAILABLE, "the dhcp daemon cannot write its leases to disk")
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
        let Ok(turn) = slot.turn.try_lock() else { return };
        let Some(held) = slot.held.borrow().clone() else { return };
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

    /// Lets go of a lease whose maintenance failed in a way that it should not have, and takes it up again as it is on
    /// disk.
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
                Err(error) => tracing::error!(attachment = %slot.attachment, %error, "the lease is lost"),
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
            let held = slot.held.borrow().clone().filter(|held| suspect(&held.place.path));
            if let Some(Err(gone)) = held.map(|held| held.open())
                && gone.is_certain()
            {
                slot.ending.notify_waiters();
                self.drop_lease(&slot, gone);
                self.tidy(&slot);
            }
        }
    }

    /// Waits until parents have their carrier back, and has the leases on them asked for again, one after the other: a
    /// switch that was restarted must not be met by all of its hosts at once.
    pub(crate) async fn reconnected(&self) -> std::io::Result<()> {
        const APART: Duration = Duration::from_millis(10);
        let parents = self.carriers.restored().await?;
        let mut due = now();
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        for slot in slots {
            if let Some(held) = slot.held.borrow().as_ref().filter(|held| held.sits_on(&parents)) {
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
        let slot = slots.entry(attachment.clone()).or_insert_with(|| Rc::new(Slot::new(attachment.clone())));
        Rc::clone(slot)
    }

    /// Removes a slot that has no lease. Whoever waits for its turn finds out, and makes another.
    fn tidy(&self, slot: &Rc<Slot>) {
        let mut slots = self.slots.borrow_mut();
        let mapped = slots.get(&slot.attachment).is_some_and(|mapped| Rc::ptr_eq(mapped, slot));
        if mapped && slot.held.borrow().is_none() && slot.turn.try_lock().is_ok() {
            slots.remove(&slot.attachment);
        }
    }

    /// Releases the lease of a slot whose turn we have.
    fn end(&self, slot: &Slot) {
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
    fn note(&self, slot: &Slot) {
        let record = slot.held.borrow().as_ref().and_then(|held| held.record(&slot.attachment));
        match record {
            Some(record) => drop(self.books.write(&record)),
            None => self.books.note_lost(&slot.attachment),
        }
    }

    fn set_alarm(&self, slot: &Rc<Slot>) {
        let due = slot.held.borrow().as_ref().and_then(|held| held.due());
        self.set_alarm_at(slot, due);
    }

    pub(super) fn set_alarm_at(&self, slot: &Rc<Slot>, due: Option<dhcp4::Instant>) {
        if let Some(old) = slot.alarm.take() {
            self.alarms.cancel(old);
        }
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

    pub(super) fn config(&self, place: &Place, terms: &Terms) -> dhcp4::Config {
        let mut config = terms.client_config(place.mac);
        config.broadcast |= self.flags.broadcast;
        config.retry.max = self.flags.resendmax.max(config.retry.first);
        config.retry.requests = attempts_within(self.flags.timeout, config.retry.first);
        config
    }

    fn ender(&self) -> &'static str {
        if self.stopping.get() { "the end of the daemon: try again" } else { "a DEL" }
    }
}

/// Tidies a slot up when whoever used it is done with it, however that ends: its future may be dropped.
struct Tidying<'a> {
    table: &'a Table,
    slot: &'a Rc<Slot>,
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
