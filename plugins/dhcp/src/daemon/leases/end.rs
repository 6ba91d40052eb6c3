//! The ends of a lease: it is released, or abandoned because its container is gone.

use std::rc::Rc;

use cni::Attachment;
use tracing::field::display;

use super::lease::ManagedLease;
use super::slot::Slot;
use super::table::{SlotGuard, Table};
use crate::state::{LeaseStatus, Unreachable};

/// DEL: releases the lease of an attachment, and cancels an ADD that is still running. If there is
/// neither, it does nothing.
pub(crate) async fn del(table: &Table, attachment: &Attachment) {
    let Some(slot) = table.get(attachment) else {
        return;
    };
    let _guard = SlotGuard { table, slot: &slot };
    slot.cancelled.notify_waiters();
    let _exchange = slot.exchange_lock.lock().await;
    release(table, &slot);
}

/// GC: releases every lease of the network whose attachment is not in `keep`.
pub(crate) async fn gc(table: &Table, network: &str, keep: &[Attachment]) {
    for slot in table.slots() {
        let attachment = &slot.attachment;
        if attachment.network() == network && !keep.contains(attachment) {
            tracing::info!(%attachment, "GC: releasing the lease of an attachment that is not valid");
            del(table, attachment).await;
        }
    }
}

/// Releases the lease of a slot whose exchange lock the caller holds: records that on disk, and
/// sends a RELEASE to the server if the container still exists.
pub(super) fn release(table: &Table, slot: &Slot) {
    // The caller of this verb changes the host's route next. A change that is pending here must not
    // be applied after that.
    table.host_routes.cancel_pending(&slot.attachment);
    let Some(lease) = take(table, slot) else {
        return;
    };
    let attachment = &slot.attachment;
    let address = lease.address().map(display);
    // On disk first: a lease that was released must not be resumed.
    record_end(table, slot, &lease, LeaseStatus::Released);
    match lease.release_when_idle() {
        Ok(()) => tracing::info!(%attachment, address, "address released"),
        Err(unreachable) => {
            tracing::info!(%attachment, address, "address not released: {unreachable}");
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
    tracing::info!(%attachment, address, "lease dropped: {why}");
    record_end(table, slot, &lease, LeaseStatus::Abandoned);
    if lease.has_host_access() {
        table.host_routes.remove(attachment);
    }
}

/// Takes the lease out of its slot, so that it is no longer maintained.
fn take(table: &Table, slot: &Slot) -> Option<Rc<ManagedLease>> {
    table.cancel_timer(slot);
    slot.lease.take()
}

fn record_end(table: &Table, slot: &Slot, lease: &ManagedLease, status: LeaseStatus) {
    match lease.record(&slot.attachment) {
        Some(record) => table.store.remember(record.with_status(status)),
        None => table.store.erase(&slot.attachment),
    }
}
