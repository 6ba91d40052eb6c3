//! Resuming the leases of an earlier daemon.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use cni::Error;
use dhcp4::Client;
use linknet::Netns;
use tokio::task::spawn_local;

use super::end;
use super::lease::ManagedLease;
use super::table::{RETRY_INTERVAL, Table, seed};
use crate::daemon::exchange::now;
use crate::state::{LeaseStatus, Record, Unreachable};

/// Resumes every lease that is on disk. Leases of containers that are gone become past leases.
///
/// # Errors
/// If the directory cannot be read.
pub(crate) fn resume_all(table: &Rc<Table>) -> io::Result<()> {
    resume_records(table, table.store.load()?);
    table.forget_expired();
    Ok(())
}

/// Resumes leases that could not be read or resumed before.
pub(crate) fn resume_rest(table: &Rc<Table>) {
    let records = table.store.load_rest();
    // An attachment that has a slot has had another ADD.
    let records = records.into_iter();
    let unknown = records.filter(|record| table.get(&record.attachment).is_none());
    resume_records(table, unknown.collect());
}

fn resume_records(table: &Rc<Table>, records: Vec<Record>) {
    for record in records {
        let attachment = record.attachment.clone();
        // A bug that one lease triggers must not prevent the others from being resumed.
        match catch_unwind(AssertUnwindSafe(|| resume(table, record, None))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%attachment, %error, "cannot resume a lease, and will try again");
                table.store.read_later(&attachment);
            }
            Err(_) => tracing::error!(%attachment, "resuming a lease panicked; this is a bug"),
        }
    }
}

/// Resumes the lease of a record. `pinned_netns` is its netns, if that was kept open.
pub(super) fn resume(
    table: &Rc<Table>,
    record: Record,
    pinned_netns: Option<Netns>,
) -> Result<(), Error> {
    if record.status == LeaseStatus::Released {
        table.store.remember(record);
        return Ok(());
    }
    let config = table.client_config(&record.params, record.interface.mac);
    let client = match record.status {
        LeaseStatus::Lost => Client::new(config, seed()?, now()),
        _ => Client::resume(config, seed()?, record.lease.clone(), now()),
    };
    let lease = ManagedLease::resumed(client, record.clone(), pinned_netns);
    // After a reboot, neither the netns nor the times in the record are valid.
    let netns = match record.is_of_this_boot() {
        Some(false) => Err(Unreachable::NetnsGone),
        Some(true) | None => lease.open_netns(),
    };
    match netns {
        Err(unreachable) if unreachable.is_gone() => abandon(table, record, &lease, unreachable),
        _ if record.is_detached() => release(table, &record, lease),
        netns => maintain(table, record, lease, netns),
    }
    Ok(())
}

/// Keeps the lease of a container that is gone as a past lease.
fn abandon(table: &Table, record: Record, lease: &ManagedLease, why: Unreachable) {
    let (attachment, address) = (&record.attachment, record.lease.address);
    tracing::info!(%attachment, %address, "lease not resumed: {why}");
    if lease.has_host_access() {
        table.host_routes.remove(attachment);
    }
    table
        .store
        .remember(record.with_status(LeaseStatus::Abandoned));
}

/// Releases a lease that ended while no daemon ran, and whose interface still exists to send from.
fn release(table: &Rc<Table>, record: &Record, lease: ManagedLease) {
    let attachment = record.attachment.clone();
    tracing::info!(%attachment, "releasing the lease of a container that was detached while no daemon ran");
    *table.get_or_create(&attachment).lease.borrow_mut() = Some(Rc::new(lease));
    let table = Rc::clone(table);
    spawn_local(async move { end::del(&table, &attachment).await });
}

/// Puts the lease into the table, and sets its timer. A lease that was abandoned by mistake, because
/// the container seemed to be gone, is taken up again.
fn maintain(table: &Table, record: Record, lease: ManagedLease, netns: Result<Netns, Unreachable>) {
    let (attachment, address) = (&record.attachment, record.lease.address);
    tracing::info!(%attachment, %address, "lease resumed");
    let due = match netns {
        Err(_) => Some(now() + RETRY_INTERVAL),
        Ok(netns) => {
            if record.status == LeaseStatus::Lost {
                lease.remove_address(attachment, &netns, &record.lease);
            }
            // Overdue leases are maintained first.
            if lease.is_bound() {
                lease.due()
            } else {
                Some(now())
            }
        }
    };
    table.netns_watcher.watch(&lease.interface.path);
    table.update_host_route(attachment, &lease);
    let slot = table.get_or_create(attachment);
    *slot.lease.borrow_mut() = Some(Rc::new(lease));
    if record.status == LeaseStatus::Abandoned {
        table.persist(&slot);
    }
    table.set_timer_at(&slot, due);
}
