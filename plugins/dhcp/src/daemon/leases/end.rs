//! The ends of a lease: it is released, or abandoned because its container is gone. A third end is
//! in [`supersede`](super::supersede).

use std::rc::Rc;

use cni::Attachment;
use tracing::field::display;

use super::give_back::give_back;
use super::lease::ManagedLease;
use super::slot::Slot;
use super::table::{SlotGuard, Table};
use crate::state::{LeaseStatus, Record, Unreachable};

/// How many leases are released at a time.
pub(super) const CONCURRENT_RELEASES: usize = 32;

/// Ends the lease of a slot: cancels an ADD that is still running, and releases the lease.
pub(super) async fn end(table: &Table, slot: &Rc<Slot>) {
    let _guard = SlotGuard { table, slot };
    slot.cancelled.notify_waiters();
    let _exchange = slot.exchange_lock.lock().await;
    release(table, slot).await;
}

/// Ends the lease of a slot whose exchange lock the caller holds: records that on disk, takes the
/// address off the interface if the container still exists, and then releases it, unless another
/// container may have it.
pub(super) async fn release(table: &Table, slot: &Rc<Slot>) {
    // The caller of this verb changes the host's route next. A change that is pending here must not
    // be applied after that.
    table.host_routes.cancel_pending(&slot.attachment);
    let Some(lease) = take(table, slot) else {
        return;
    };
    let (attachment, address) = (&slot.attachment, lease.address());
    let record = lease.record();
    // On disk first: a lease that has ended must not be resumed.
    record_end(table, attachment, record.clone().map(Record::detached));
    let is_held_by_another = || table.is_held_by_another(slot, &lease, address);
    let outcome = give_back(&lease, is_held_by_another).await;
    let address = address.map(display);
    match outcome {
        Ok(()) => {
            tracing::info!(%attachment, address, "address released");
            let released = record.map(|record| record.with_status(LeaseStatus::Released));
            record_end(table, attachment, released);
        }
        Err(why) => {
            match why.is_doubtful() {
                true => tracing::warn!(%attachment, address, "address not released: {why}"),
                false => tracing::info!(%attachment, address, "address not released: {why}"),
            }
            if why.is_temporary() {
                table.unreleased.insert(attachment);
            }
            if let Some(record) = record.filter(|_| why.is_taken()) {
                table.store.forget_superseded(&record.detached());
            }
        }
    }
}

/// Abandons the lease of a container that is gone: records that on disk. A RELEASE cannot be sent
/// without the container.
pub(super) fn abandon(table: &Table, slot: &Rc<Slot>, why: Unreachable) {
    let Some(lease) = take(table, slot) else {
        return;
    };
    let attachment = &slot.attachment;
    let address = lease.address().map(display);
    match why {
        Unreachable::NetnsGone => tracing::info!(%attachment, address, "lease dropped: {why}"),
        // The container may live on without a network.
        _ => tracing::warn!(%attachment, address, "lease dropped: {why}"),
    }
    let record = lease.record();
    let abandoned = record.map(|record| record.with_status(LeaseStatus::Abandoned));
    record_end(table, attachment, abandoned);
    if lease.has_host_access() {
        table.host_routes.remove(attachment);
    }
}

/// Takes the lease out of its slot, so that it is no longer maintained, or one that was set aside.
pub(super) fn take(table: &Table, slot: &Rc<Slot>) -> Option<Rc<ManagedLease>> {
    table.cancel_timer(slot);
    slot.sought.take();
    let superseded = slot.superseded.take();
    let lease = slot.lease.take();
    table.holders.update(slot);
    lease.or(superseded)
}

/// Records that a lease has ended; one without an address is forgotten.
fn record_end(table: &Table, attachment: &Attachment, record: Option<Record>) {
    match record {
        Some(record) => table.store.remember(record),
        None => table.store.erase(attachment),
    }
}

#[cfg(test)]
mod tests {
    use attachment::host_access::HostAccessKey;

    use super::*;
    use crate::daemon::host_routes::tests::{pending, suspend};
    use crate::daemon::leases::lease::tests::lease_of;
    use crate::daemon::leases::table::tests::table;
    use crate::daemon::process::log::testing::logged;
    use crate::state::tests::record;

    #[tokio::test]
    async fn a_container_that_lost_its_interface_is_worth_a_warning_and_one_that_ended_is_not() {
        for (why, level) in [
            (Unreachable::NetnsGone, "INFO"),
            (Unreachable::NetnsReplaced, "WARN"),
            (Unreachable::InterfaceGone, "WARN"),
        ] {
            let directory = tempfile::tempdir().expect("a scratch directory");
            let table = table(&directory);
            suspend(&table.host_routes);
            let mut record = record();
            record.params.host_access = HostAccessKey::OnLink;
            let slot = table.get_or_create(&record.attachment);
            table.put(&slot, Rc::new(lease_of(record.clone())));
            let log = logged(|| abandon(&table, &slot, why));
            assert!(
                log.contains(level) && log.contains("lease dropped"),
                "{log}"
            );
            assert_eq!(pending(&table.host_routes), [record.attachment.clone()]);
            let on_disk = table.store.read(&record.attachment).expect("no error");
            let status = on_disk.map(|record| record.status);
            assert_eq!(status, Some(LeaseStatus::Abandoned));
            abandon(&table, &slot, why); // there is none any more
        }
    }
}
