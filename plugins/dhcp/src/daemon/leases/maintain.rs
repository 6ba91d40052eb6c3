//! Maintaining leases: renewing them when they are due, and reacting when containers disappear or
//! parents regain their carrier.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::rc::Rc;

use tokio::task::{JoinError, JoinSet};

use super::end;
use super::resume;
use super::slot::Slot;
use super::table::{RETRY_INTERVAL, STAGGER, Table};
use crate::daemon::exchange::now;
use crate::daemon::watchers::CarrierWatcher;
use crate::state::Unreachable;

/// Waits until a lease must be maintained, and returns the task that does it.
pub(crate) async fn maintain_next(
    table: &Rc<Table>,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let slot = table.next_due().await?;
    Ok(maintain_or_recover(Rc::clone(table), slot))
}

/// Maintains a lease. If a bug makes that panic, the lease is resumed from disk, and other leases
/// are not affected.
async fn maintain_or_recover(table: Rc<Table>, slot: Rc<Slot>) {
    let task = {
        let (table, slot) = (Rc::clone(&table), Rc::clone(&slot));
        async move { maintain(&table, &slot).await }
    };
    if let Err(panic) = catch_panic(task).await {
        tracing::error!(attachment = %slot.attachment, %panic, "maintaining a lease panicked; this is a bug");
        recover(&table, &slot);
    }
}

/// Runs a task, and returns the error if it panics. Dropping the future cancels the task.
async fn catch_panic(task: impl Future<Output = ()> + 'static) -> Result<(), JoinError> {
    let mut tasks = JoinSet::new();
    tasks.spawn_local(task);
    tasks.join_next().await.unwrap_or(Ok(()))
}

/// Renews the lease of a slot, or does whatever else is due.
async fn maintain(table: &Table, slot: &Rc<Slot>) {
    // If an exchange is running already, it sets the timer when it is done.
    let Ok(exchange) = slot.exchange_lock.try_lock() else {
        return;
    };
    let Some(lease) = slot.lease() else {
        return;
    };
    let other_holder = |address| table.other_holder(slot, &lease, address);
    let on_loss = || {
        table.note_failure();
        table.persist(slot);
    };
    let on_applied = || {
        table.persist(slot);
        if let Some(lease) = slot.lease() {
            table.update_host_route(&slot.attachment, &lease);
        }
    };
    let maintained = async {
        let permit = table.maintenance_permits.acquire(lease.parent()).await;
        let permit = permit.map_err(Unreachable::temporary)?;
        // The state of an exchange takes kilobytes, which those that wait for a permit do not have
        // yet: thousands may be due at one moment.
        Box::pin(lease.maintain(permit, other_holder, on_loss, on_applied)).await
    };
    tokio::select! {
        biased;
        // If the attachment does not end after all, it goes on.
        () = slot.cancelled.notified() => if slot.lease().is_some() {
            table.set_timer_at(slot, Some(now()));
        },
        outcome = maintained => match outcome {
            Ok(()) => table.set_timer(slot),
            Err(unreachable) if unreachable.is_gone() => end::abandon(table, slot, unreachable),
            Err(_) => table.set_timer_at(slot, Some(now() + RETRY_INTERVAL)),
        },
    }
    drop(exchange);
    table.remove_if_empty(slot);
}

/// Resumes a lease from disk after its maintenance panicked.
fn recover(table: &Rc<Table>, slot: &Rc<Slot>) {
    let attachment = &slot.attachment;
    // There is none if a DEL came first.
    if let Some(lease) = slot.lease.take() {
        let outcome = match table.store.read(attachment) {
            Ok(Some(record)) => resume::resume(table, record, lease.pinned_netns())
                .map(drop)
                .map_err(|error| error.to_string()),
            Ok(None) => Err("it is not on disk".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = outcome {
            tracing::error!(%attachment, %error, "cannot resume the lease");
        }
    }
    if slot.lease.borrow().is_some() {
        // Not at once: a bug that always occurs must not keep the daemon busy.
        table.set_timer_at(slot, Some(now() + RETRY_INTERVAL));
    }
    table.remove_if_empty(slot);
}

/// Abandons the leases of containers whose network namespaces are removed.
pub(crate) async fn watch_netns(table: &Table) -> Infallible {
    loop {
        match table.netns_watcher.removed().await {
            Some(paths) => {
                abandon_gone_among(table, |path| paths.iter().any(|removed| removed == path));
            }
            None => abandon_gone(table),
        }
    }
}

/// Abandons the leases of containers that are gone.
pub(crate) fn abandon_gone(table: &Table) {
    abandon_gone_among(table, |_| true);
}

/// Abandons the leases of containers that are gone, among those whose netns has a suspect path.
fn abandon_gone_among(table: &Table, is_suspect: impl Fn(&Path) -> bool) {
    for slot in table.slots() {
        let lease = slot
            .lease()
            .filter(|lease| is_suspect(&lease.interface.path));
        if let Some(Err(unreachable)) = lease.map(|lease| lease.open_netns())
            && unreachable.is_gone()
        {
            slot.cancelled.notify_waiters();
            end::abandon(table, &slot, unreachable);
            table.remove_if_empty(&slot);
        }
    }
}

/// Confirms the leases on parents that regain their carrier, one after the other. An ADD that waits
/// for an address on them asks at once.
pub(crate) async fn watch_carriers(table: &Table, mut watcher: CarrierWatcher) -> Infallible {
    loop {
        let parents = watcher.restored().await;
        let mut due = now();
        for slot in table.slots() {
            let sought = slot.sought.borrow().upgrade();
            if let Some(sought) = sought.filter(|lease| lease.has_parent_in(&parents)) {
                sought.notify_carrier_restored();
            }
            if let Some(lease) = slot.lease().filter(|lease| lease.has_parent_in(&parents)) {
                lease.notify_carrier_restored();
                table.set_timer_at(&slot, Some(due));
                due = due + STAGGER;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::LocalSet;
    use tokio::time::sleep;

    use super::*;
    use crate::daemon::leases::lease::ManagedLease;
    use crate::daemon::leases::table::tests::table;
    use crate::state::LeaseStatus;
    use crate::state::tests::record;

    /// The record is of another boot, so that its container is gone.
    #[tokio::test]
    async fn after_a_panic_the_lease_is_read_from_disk_again() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = Rc::new(table(&directory));
        let record = record();
        assert!(table.store.write(&record));
        let config = table.client_config(&record.params, record.interface.mac);
        let client = dhcp4::Client::resume(config, 1, record.lease.clone(), now());
        let slot = table.get_or_create(&record.attachment);
        let lease = ManagedLease::resumed(client, record.clone(), None);
        *slot.lease.borrow_mut() = Some(Rc::new(lease));
        recover(&table, &slot);
        assert_eq!(table.len(), 0);
        let on_disk = table.store.read(&record.attachment).expect("no error");
        assert_eq!(on_disk, Some(record.with_status(LeaseStatus::Abandoned)));
    }

    #[tokio::test]
    async fn a_panic_in_one_task_leaves_the_others_running() {
        let local = LocalSet::new();
        let others = local.run_until(async {
            let mut others = JoinSet::new();
            others.spawn_local(async {
                sleep(Duration::from_millis(20)).await;
                "done"
            });
            let panicked = catch_panic(async { panic!("a bug") }).await;
            assert!(panicked.is_err_and(|error| error.to_string().contains("a bug")));
            assert!(catch_panic(async {}).await.is_ok());
            others.join_next().await
        });
        assert!(matches!(others.await, Some(Ok("done"))));
    }
}
