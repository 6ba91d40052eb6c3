//! The table of all leases.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use cni::{Attachment, Error, code};
use linknet::{Mac, Netns};

use super::failures::Failures;
use super::holders::Holders;
use super::lease::ManagedLease;
use super::shared_settings::SharedSettings;
use super::slot::Slot;
use super::timer_queue::TimerQueue;
use super::unreleased::Unreleased;
use crate::daemon::error::{cannot, internal};
use crate::daemon::exchange::{Permits, now};
use crate::daemon::host_routes::HostRouteWorker;
use crate::daemon::process::{Flags, missing_capabilities};
use crate::daemon::store::LeaseStore;
use crate::daemon::watchers::NetnsWatcher;
use crate::protocol::LeaseParams;
use crate::random::random_octets;
use crate::state::StateDir;

/// The pause before a maintenance that failed is tried again.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The longest time for an ADD. No caller waits that long, and the clock could not count much more.
const MAX_ADD_TIME: Duration = Duration::from_secs(3600);

/// The pause between two leases of many that must be maintained at the same moment: a restarted
/// switch or daemon must not flood the servers.
pub(super) const STAGGER: Duration = Duration::from_millis(10);

/// The most ADDs that exchange messages with servers on one LAN at a time: servers are easily
/// flooded.
const MAX_ADDS_PER_PARENT: usize = 128;

/// All leases.
#[derive(Debug)]
pub(crate) struct Table {
    slots: RefCell<HashMap<Attachment, Rc<Slot>>>,
    /// Must be updated with each change of a slot's lease, before anything is awaited.
    pub(super) holders: Holders,
    pub(super) settings: SharedSettings,
    pub(super) store: LeaseStore,
    pub(super) unreleased: Unreleased,
    timers: TimerQueue<Weak<Slot>>,
    pub(super) netns_watcher: NetnsWatcher,
    pub(super) host_routes: HostRouteWorker,
    /// Limits how many ADDs exchange messages with servers at a time.
    pub(super) add_permits: Permits,
    /// Limits how many leases are maintained at a time.
    pub(super) maintenance_permits: Permits,
    pub(super) is_stopping: Cell<bool>,
    /// When the daemon started.
    pub(super) started: dhcp4::Instant,
    pub(super) failures: Failures,
    pub(super) flags: Flags,
}

impl Table {
    /// A table without leases, which lets so many ADDs exchange messages with servers at a time,
    /// and so many leases be maintained. Needs a tokio runtime.
    pub(crate) fn new(
        flags: Flags,
        state: StateDir,
        max_adds: usize,
        max_maintenance: usize,
    ) -> io::Result<Table> {
        Ok(Table {
            slots: RefCell::default(),
            holders: Holders::default(),
            settings: SharedSettings::default(),
            store: LeaseStore::new(state),
            unreleased: Unreleased::default(),
            timers: TimerQueue::new().map_err(cannot("create a timer"))?,
            netns_watcher: NetnsWatcher::new(),
            host_routes: HostRouteWorker::new().map_err(cannot("open the daemon's own netns"))?,
            add_permits: Permits::new(max_adds, MAX_ADDS_PER_PARENT),
            maintenance_permits: Permits::new(max_maintenance, max_maintenance),
            is_stopping: Cell::new(false),
            started: now(),
            failures: Failures::default(),
            flags,
        })
    }

    /// Counts an ADD that failed, or a lease that was lost.
    pub(crate) fn note_failure(&self) {
        self.failures.note(now());
    }

    /// The number of leases, including those that are being obtained.
    pub(crate) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether an ADD could be served.
    ///
    /// # Errors
    /// `PLUGIN_NOT_AVAILABLE` (50) if capabilities are missing, or leases cannot be written to disk.
    pub(crate) fn status(&self) -> Result<(), Error> {
        if let Some(why) = missing_capabilities() {
            return Err(Error::new(code::PLUGIN_NOT_AVAILABLE, why));
        }
        self.store.can_write().map_err(|error| {
            Error::new(
                code::PLUGIN_NOT_AVAILABLE,
                "the dhcp daemon cannot write its leases to disk",
            )
            .details(format!("{error}; they would be lost with the daemon"))
        })
    }

    /// Cancels all exchanges, because the daemon stops. Leases stay as they are.
    pub(crate) fn stop(&self) {
        self.is_stopping.set(true);
        for slot in self.slots.borrow().values() {
            slot.cancelled.notify_waiters();
        }
    }

    /// Forgets past leases that have expired by now.
    pub(crate) fn forget_expired(&self) {
        self.store.forget_expired();
    }

    /// Tries again to write leases that could not be written.
    pub(crate) fn retry_writes(&self) {
        self.store.write_rest();
    }

    /// Tries again to change host routes that could not be changed.
    pub(crate) fn retry_host_routes(&self) {
        self.host_routes.retry();
    }

    /// Waits until all changes of host routes are done.
    pub(crate) async fn finish_host_routes(&self) {
        self.host_routes.finish().await;
    }

    /// The slot of an attachment, if it has one.
    pub(super) fn get(&self, attachment: &Attachment) -> Option<Rc<Slot>> {
        self.slots.borrow().get(attachment).cloned()
    }

    /// The slot of an attachment, created if it has none.
    pub(super) fn get_or_create(&self, attachment: &Attachment) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots
            .entry(attachment.clone())
            .or_insert_with(|| Rc::new(Slot::new(attachment.clone())));
        Rc::clone(slot)
    }

    /// Who requested the attachment's lease, if it has one or is getting one: `None` for root,
    /// otherwise the member of the group that `-group` admits. A lease that cannot be read is
    /// root's.
    pub(crate) fn holder(&self, attachment: &Attachment) -> Option<Option<u32>> {
        if let Some(slot) = self.get(attachment) {
            return Some(slot.member());
        }
        match self.store.read(attachment) {
            Ok(record) => record.map(|record| record.params.member),
            Err(_) => Some(None),
        }
    }

    /// The slot of an attachment with its lease, if it has one.
    pub(super) fn leased(&self, attachment: &Attachment) -> Option<(Rc<Slot>, Rc<ManagedLease>)> {
        let slot = self.get(attachment)?;
        let lease = slot.lease()?;
        Some((slot, lease))
    }

    /// What the server of an attachment's lease should have sent and did not, as sentences.
    pub(crate) fn assumptions(&self, attachment: &Attachment) -> Vec<String> {
        let leased = self.leased(attachment);
        leased.map_or_else(Vec::new, |(_, lease)| lease.assumptions())
    }

    /// All slots.
    pub(super) fn slots(&self) -> Vec<Rc<Slot>> {
        self.slots.borrow().values().cloned().collect()
    }

    /// Whether the slot is still in the table.
    pub(super) fn has(&self, slot: &Rc<Slot>) -> bool {
        self.slots
            .borrow()
            .get(&slot.attachment)
            .is_some_and(|current| Rc::ptr_eq(current, slot))
    }

    /// Whether a server may have leased this address to the lease's client for another attachment
    /// than the slot's.
    pub(super) fn is_held_by_another(
        &self,
        slot: &Slot,
        lease: &ManagedLease,
        address: Option<Ipv4Addr>,
    ) -> bool {
        let slots = match address {
            Some(address) => self.holders.of(address),
            None => self.slots(),
        };
        slots
            .iter()
            .any(|other| !std::ptr::eq(&**other, slot) && other.may_hold(lease, address))
    }

    /// The attachment of another slot that has leased this address on the lease's LAN under another
    /// identity: its server has forgotten that.
    pub(super) fn other_holder(
        &self,
        slot: &Slot,
        lease: &ManagedLease,
        address: Ipv4Addr,
    ) -> Option<Attachment> {
        let holders = self.holders.of(address);
        let other = holders.into_iter().find(|other| {
            let held = other
                .lease()
                .filter(|held| held.address() == Some(address) && !std::ptr::eq(&**other, slot));
            held.is_some_and(|held| {
                let is_other_client = !held.client().is_same_client(&lease.client());
                let lan = held.lan();
                is_other_client && held.open_netns().is_ok() && lan.is_some() && lan == lease.lan()
            })
        });
        other.map(|other| other.attachment.clone())
    }

    /// Puts a lease into the slot.
    pub(super) fn put(&self, slot: &Rc<Slot>, lease: Rc<ManagedLease>) {
        *slot.lease.borrow_mut() = Some(lease);
        self.holders.update(slot);
    }

    /// Removes the slot if it has no lease and no exchange is running. Tasks that wait for its lock
    /// find out, and create another slot.
    pub(super) fn remove_if_empty(&self, slot: &Rc<Slot>) {
        self.holders.update(slot);
        let has_lease = slot.lease.borrow().is_some() || slot.superseded.borrow().is_some();
        let is_empty = !has_lease && slot.exchange_lock.try_lock().is_ok();
        if is_empty && self.has(slot) {
            self.slots.borrow_mut().remove(&slot.attachment);
        }
    }

    /// Waits until a lease is due for maintenance, and returns its slot.
    pub(super) async fn next_due(&self) -> io::Result<Rc<Slot>> {
        loop {
            if let Some(slot) = self.timers.next(now).await?.upgrade() {
                return Ok(slot);
            }
        }
    }

    /// Sets the timer for when the slot's lease must be maintained next.
    pub(super) fn set_timer(&self, slot: &Rc<Slot>) {
        let lease = slot.lease();
        let due = lease.as_ref().and_then(|lease| lease.due());
        let retry_at = lease
            .filter(|lease| lease.is_unsettled())
            .map(|_| now() + RETRY_INTERVAL);
        self.set_timer_at(slot, due.into_iter().chain(retry_at).min());
    }

    /// Sets the slot's timer to this time; `None` only cancels it.
    pub(super) fn set_timer_at(&self, slot: &Rc<Slot>, due: Option<dhcp4::Instant>) {
        self.holders.update(slot);
        self.cancel_timer(slot);
        let timer = due.map(|due| self.timers.set(due, Rc::downgrade(slot)));
        slot.timer.set(timer);
    }

    /// Cancels the slot's timer.
    pub(super) fn cancel_timer(&self, slot: &Slot) {
        if let Some(timer) = slot.timer.take() {
            self.timers.cancel(timer);
        }
    }

    /// Writes the slot's lease to disk as it is now.
    pub(super) fn persist(&self, slot: &Rc<Slot>) {
        self.holders.update(slot);
        // Without a lease, what is on disk says how it ended.
        let Some(lease) = slot.lease() else {
            return;
        };
        match lease.record() {
            Some(record) => drop(self.store.write(&record)),
            None => self.store.mark_lost(&slot.attachment),
        }
    }

    /// Updates the host's route to the container, if it needs one: sets the route to its address,
    /// or removes the route if it has none.
    pub(super) fn update_host_route(&self, attachment: &Attachment, lease: &ManagedLease) {
        if lease.has_host_access() {
            match lease.host_route_target() {
                Some(target) => self.host_routes.set(attachment, target),
                None => self.host_routes.remove(attachment),
            }
        }
    }

    /// Opens a netns by its path, for callers that did not pass a descriptor.
    ///
    /// # Errors
    /// `UNKNOWN_CONTAINER` (3) if there is none.
    pub(crate) fn open_netns(&self, path: &Path) -> Result<Netns, Error> {
        Netns::open(self.flags.on_host(path))
            .map_err(|error| Error::new(code::UNKNOWN_CONTAINER, format!("CNI_NETNS: {error}")))
    }

    /// How long an ADD may take.
    pub(super) fn add_timeout(&self, params: &LeaseParams) -> Duration {
        let most = match params.member {
            None => MAX_ADD_TIME,
            Some(_) => self.flags.resendtimeout,
        };
        let timeout = params.timeout.unwrap_or(self.flags.resendtimeout);
        timeout.min(most)
    }

    /// The settings of a client with these parameters under the daemon's flags.
    pub(super) fn client_config(&self, params: &LeaseParams, mac: Mac) -> dhcp4::Config {
        let mut config = params.client_config(mac);
        config.broadcast |= self.flags.broadcast;
        config.retry.max = self.flags.resendmax.max(config.retry.first);
        config.retry.requests = attempts_within(self.flags.timeout, config.retry.first);
        config
    }
}

/// Removes a slot without a lease when its user is done, or when the user's future is dropped.
pub(super) struct SlotGuard<'a> {
    pub(super) table: &'a Table,
    pub(super) slot: &'a Rc<Slot>,
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        self.table.remove_if_empty(self.slot);
    }
}

/// How many messages are sent within `timeout` if each wait is twice as long as the previous one.
fn attempts_within(timeout: Duration, first: Duration) -> u32 {
    let mut attempts = 1;
    let mut wait = first;
    let mut waited = first;
    while waited < timeout && attempts < 10 {
        wait *= 2;
        waited += wait;
        attempts += 1;
    }
    attempts
}

/// The seed of a client's randomness.
pub(super) fn seed() -> Result<u64, Error> {
    random_octets().map(u64::from_ne_bytes).map_err(internal)
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::daemon::host_routes::tests::suspend;
    use crate::daemon::leases::lease::tests::lease_of;
    use crate::state::Record;
    use crate::state::tests::{expired_record, record};

    /// A table without leases, whose directory is empty.
    pub(in crate::daemon::leases) fn table(directory: &tempfile::TempDir) -> Table {
        let state = StateDir::at(directory.path().to_owned());
        let flags = Flags::from_args(std::iter::empty());
        Table::new(flags, state, 1, 1).expect("a table")
    }

    #[tokio::test]
    async fn a_slot_whose_lease_has_ended_leaves_on_disk_how_it_ended() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let record = record().detached();
        table.store.remember(record.clone());
        let slot = table.get_or_create(&record.attachment);
        table.persist(&slot);
        let on_disk = table.store.read(&record.attachment);
        assert_eq!(on_disk.expect("no error"), Some(record));
    }

    #[tokio::test]
    async fn what_the_server_did_not_send_is_known_of_an_attachment_with_a_lease() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let attachment = record().attachment;
        assert!(table.assumptions(&attachment).is_empty());
        let slot = table.get_or_create(&attachment);
        let lease = Rc::new(lease_of(record()));
        table.put(&slot, Rc::clone(&lease));
        assert_eq!(table.assumptions(&attachment), lease.assumptions());
        assert!(!lease.assumptions().is_empty());
    }

    #[tokio::test]
    async fn past_leases_that_have_expired_leave_no_files() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let record = expired_record();
        table.store.remember(record.clone());
        table.forget_expired();
        let on_disk = table.store.read(&record.attachment);
        assert_eq!(on_disk.expect("no error"), None);
    }

    #[tokio::test]
    async fn the_daemon_waits_for_changes_of_host_routes() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let is_finished = async || {
            let finished = timeout(Duration::from_millis(20), table.finish_host_routes());
            finished.await.is_ok()
        };
        assert!(is_finished().await, "there is none");
        suspend(&table.host_routes);
        assert!(!is_finished().await, "one is under way");
    }

    #[tokio::test]
    async fn a_slot_stays_while_it_is_in_use() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let attachment = record().attachment;
        let slot = table.get_or_create(&attachment);
        {
            let _exchange = slot
                .exchange_lock
                .try_lock()
                .expect("no exchange is running");
            table.remove_if_empty(&slot);
            assert!(table.has(&slot));
        }
        table.remove_if_empty(&slot);
        assert!(!table.has(&slot) && table.len() == 0);

        let successor = table.get_or_create(&attachment);
        table.remove_if_empty(&slot);
        assert!(table.has(&successor), "it is another slot");
    }

    #[test]
    fn the_last_of_the_attempts_is_waited_for_until_the_timeout_at_least() {
        let seconds = Duration::from_secs;
        for (timeout, attempts) in [(0, 1), (4, 1), (5, 2), (12, 2), (13, 3), (28, 3), (29, 4)] {
            let within = attempts_within(seconds(timeout), seconds(4));
            assert_eq!(within, attempts, "{timeout} s");
        }
        assert_eq!(attempts_within(Duration::MAX, seconds(4)), 10);
    }

    /// A table and a slot with the lease of this record.
    fn with_lease(directory: &tempfile::TempDir, record: &Record) -> (Table, Rc<Slot>) {
        let table = table(directory);
        let slot = table.get_or_create(&record.attachment);
        table.put(&slot, Rc::new(lease_of(record.clone())));
        (table, slot)
    }

    #[tokio::test]
    async fn a_lease_is_on_disk_and_its_timer_is_set() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mut record = record();
        record.lease.requested_at = now();
        record.lease.lifetime = Some(Duration::from_secs(100));
        let (table, slot) = with_lease(&directory, &record);
        assert_eq!(table.len(), 1);
        table.persist(&slot);
        let on_disk = table.store.read(&record.attachment).expect("no error");
        assert_eq!(on_disk.map(|on_disk| on_disk.lease), Some(record.lease));
        table.set_timer(&slot);
        assert!(slot.timer.get().is_some());
        table.cancel_timer(&slot);
        assert!(slot.timer.get().is_none());
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_when_that_is_tried_again() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("state");
        std::fs::write(&path, "in the way").expect("writing");
        let flags = Flags::from_args(std::iter::empty());
        let state = StateDir::at(path.clone());
        let table = Table::new(flags, state.clone(), 1, 1).expect("a table");
        let record = record();
        assert!(!table.store.write(&record));
        std::fs::remove_file(&path).expect("it is ours");
        table.retry_writes();
        assert_eq!(
            state.read(&record.attachment).expect("no error"),
            Some(record)
        );
    }

    #[tokio::test]
    async fn the_holder_of_a_lease_is_found_in_memory_and_on_disk() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mut record = record();
        let attachment = record.attachment.clone();
        let table = table(&directory);
        assert_eq!(table.holder(&attachment), None);
        record.params.member = Some(1000);
        assert!(table.store.write(&record));
        assert_eq!(table.holder(&attachment), Some(Some(1000)));
        let slot = table.get_or_create(&attachment);
        assert_eq!(table.holder(&attachment), Some(None));
        slot.requested_by.set(Some(1001));
        assert_eq!(table.holder(&attachment), Some(Some(1001)));
    }

    #[tokio::test]
    async fn another_attachment_may_hold_an_address_but_not_the_attachment_itself() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let record = record();
        let address = Some(record.lease.address);
        let (table, slot) = with_lease(&directory, &record);
        let lease = slot.lease().expect("its lease");
        assert!(!table.is_held_by_another(&slot, &lease, address));
        let other = Slot::new(Attachment::new("c2", "lan", "eth0").expect("valid names"));
        assert!(table.is_held_by_another(&other, &lease, address));
        assert!(!table.is_held_by_another(&other, &lease, Some([10, 99, 0, 7].into())));
    }

    #[tokio::test]
    async fn a_slot_whose_lease_is_set_aside_stays() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let (table, slot) = with_lease(&directory, &record());
        table.remove_if_empty(&slot);
        assert!(table.has(&slot));
        *slot.superseded.borrow_mut() = slot.lease.take();
        table.remove_if_empty(&slot);
        assert!(table.has(&slot));
        slot.superseded.take();
        table.remove_if_empty(&slot);
        assert!(!table.has(&slot));
    }

    #[tokio::test]
    async fn an_add_takes_as_long_as_it_may() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let default = table.flags.resendtimeout;
        let mut params = record().params;
        assert_eq!(table.add_timeout(&params), default);
        params.timeout = Some(2 * default);
        assert_eq!(table.add_timeout(&params), 2 * default);
        params.timeout = Some(Duration::MAX);
        assert_eq!(table.add_timeout(&params), MAX_ADD_TIME);
        params.member = Some(1000);
        assert_eq!(table.add_timeout(&params), default);
    }

    #[tokio::test]
    async fn a_client_asks_for_broadcasts_if_the_daemon_or_the_lease_is_to() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mut table = table(&directory);
        let mut params = record().params;
        let asks = |table: &Table, params: &LeaseParams| {
            table.client_config(params, Mac([2; 6])).broadcast
        };
        assert!(!asks(&table, &params));
        params.broadcast = true;
        assert!(asks(&table, &params));
        table.flags.broadcast = true;
        assert!(asks(&table, &params));
        params.broadcast = false;
        assert!(asks(&table, &params));
    }

    #[tokio::test]
    async fn a_daemon_that_stops_cancels_what_is_under_way() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let (table, slot) = with_lease(&directory, &record());
        let cancelled = slot.cancelled.notified();
        table.stop();
        assert!(table.is_stopping.get());
        let cancelled = timeout(Duration::from_secs(60), cancelled);
        assert!(cancelled.await.is_ok());
    }

    #[test]
    fn clients_do_not_draw_the_same_random_numbers() {
        let [one, other] = [seed(), seed()].map(|seed| seed.expect("random octets"));
        assert_ne!(one, other);
    }
}
