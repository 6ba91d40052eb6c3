//! Resuming the leases of an earlier daemon.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use cni::{Attachment, Error};
use dhcp4::{Client, Instant, Lease};
use linknet::Netns;
use tokio::task::spawn_local;

use super::end;
use super::lease::ManagedLease;
use super::slot::Slot;
use super::table::{RETRY_INTERVAL, STAGGER, Table, seed};
use crate::daemon::exchange::now;
use crate::daemon::interface;
use crate::state::{LeaseStatus, Record, Unreachable};

/// Resumes every lease that is on disk. Leases of containers that are gone become past leases.
/// Those that are overdue are maintained one after the other, the most urgent first.
///
/// # Errors
/// If the directory cannot be read.
pub(crate) fn resume_all(table: &Rc<Table>) -> io::Result<()> {
    let mut overdue = Vec::new();
    table
        .store
        .load(|record| overdue.extend(resume_record(table, record)))?;
    set_timers(table, overdue);
    table.forget_expired();
    Ok(())
}

/// Resumes leases that could not be read or resumed before.
pub(crate) fn resume_rest(table: &Rc<Table>) {
    let records = table.store.load_rest();
    // An attachment that has a slot has had another ADD.
    let records = records.into_iter();
    let unknown = records.filter(|record| table.get(&record.attachment).is_none());
    let overdue = unknown.filter_map(|record| resume_record(table, record));
    let overdue = overdue.collect();
    set_timers(table, overdue);
}

/// Takes leases up again that were abandoned by mistake: their interfaces are where they were.
pub(crate) fn resume_abandoned(table: &Rc<Table>) {
    let mut due = now();
    for record in table.store.abandoned() {
        let attachment = &record.attachment;
        if table.get(attachment).is_some()
            || record.interface.lookup(attachment, None).is_err()
            || is_held_by_another(table, &record)
        {
            continue;
        }
        if let Err(error) = resume(table, record.clone(), None) {
            tracing::error!(%attachment, %error, "cannot resume a lease, and will try again");
        }
        if let Some(slot) = table.get(attachment) {
            table.store.forget_superseded(&record);
            // The interface has probably lost the address.
            table.set_timer_at(&slot, Some(due));
            due = due + STAGGER;
        }
    }
}

/// Whether another attachment has the lease of this record by now.
fn is_held_by_another(table: &Table, record: &Record) -> bool {
    let address = Some(record.lease.address);
    let slot = Slot::new(record.attachment.clone());
    let lease = lease_of(table, record, None);
    lease.is_ok_and(|lease| table.is_held_by_another(&slot, &lease, address))
}

/// Puts the abandoned lease of an attachment that ends into a slot, so that it can be released.
/// `None` if there is none whose interface is still there; then it is not taken up later either.
pub(super) fn take_up_abandoned(table: &Table, attachment: &Attachment) -> Option<Rc<Slot>> {
    let record = table.store.read(attachment).ok().flatten()?;
    if record.status != LeaseStatus::Abandoned || record.is_of_this_boot() == Some(false) {
        return None;
    }
    let lease = lease_of(table, &record, None).ok()?;
    if let Err(unreachable) = lease.open_netns() {
        table.store.remember(record.detached());
        if !unreachable.is_gone() {
            table.unreleased.insert(attachment);
        }
        return None;
    }
    let slot = table.get_or_create(attachment);
    table.put(&slot, Rc::new(lease));
    Some(slot)
}

/// Resumes the lease of a record. If it is overdue, returns its end.
fn resume_record(table: &Rc<Table>, record: Record) -> Option<(Option<Instant>, Attachment)> {
    let attachment = record.attachment.clone();
    let end = record.lease.expires_at();
    // A bug that one lease triggers must not prevent the others from being resumed.
    match catch_unwind(AssertUnwindSafe(|| resume(table, record, None))) {
        Ok(Ok(Due::Overdue)) => return Some((end, attachment)),
        Ok(Ok(Due::Later)) => {}
        Ok(Err(error)) => {
            tracing::error!(%attachment, %error, "cannot resume a lease, and will try again");
            table.store.read_later(&attachment);
        }
        Err(_) => tracing::error!(%attachment, "resuming a lease panicked; this is a bug"),
    }
    None
}

/// Sets the timers of overdue leases, given with their ends.
fn set_timers(table: &Table, overdue: Vec<(Option<Instant>, Attachment)>) {
    for (attachment, due) in spread(overdue, now()) {
        if let Some(slot) = table.get(&attachment) {
            table.set_timer_at(&slot, Some(due));
        }
    }
}

/// When to maintain each of these overdue leases, given with their ends, from a certain time on:
/// the one that ends first comes first.
fn spread<T>(mut overdue: Vec<(Option<Instant>, T)>, from: Instant) -> Vec<(T, Instant)> {
    overdue.sort_by_key(|(end, _)| (end.is_none(), *end));
    let times = std::iter::successors(Some(from), |&time| Some(time + STAGGER));
    overdue
        .into_iter()
        .map(|(_, lease)| lease)
        .zip(times)
        .collect()
}

/// When a lease that was resumed must be maintained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Now.
    Overdue,
    /// Its timer is set, or it has ended.
    Later,
}

/// Resumes the lease of a record. `pinned_netns` is its netns, if that was kept open.
pub(super) fn resume(
    table: &Rc<Table>,
    mut record: Record,
    pinned_netns: Option<Netns>,
) -> Result<Due, Error> {
    table.settings.share(&mut record.params);
    if record.status == LeaseStatus::Released {
        table.store.remember(record);
        return Ok(Due::Later);
    }
    let mut lease = lease_of(table, &record, pinned_netns)?;
    // After a reboot, neither the netns nor the times in the record are valid.
    let netns = match record.is_of_this_boot() {
        Some(false) => Err(Unreachable::NetnsGone),
        Some(true) | None => lease.open_netns(),
    };
    let valid = |netns| {
        let (ifindex, address) = (record.interface.ifindex, record.lease.address);
        interface::valid_lifetime(netns, ifindex, address)
    };
    if let Ok(netns) = &netns
        && let Some(renewed) = renewed_since(&record, || valid(netns))
    {
        let config = client_config(table, &record);
        let mut client = Client::resume(config, seed()?, renewed.clone(), now());
        client.link_restored(now());
        record.lease = renewed;
        lease = ManagedLease::resumed(client, record.clone(), lease.pinned_netns());
    }
    match netns {
        Err(unreachable) if unreachable.is_gone() => abandon(table, record, &lease, unreachable),
        _ if record.is_detached() => release(table, &record, lease),
        netns => return Ok(maintain(table, record, lease, netns)),
    }
    Ok(Due::Later)
}

/// The settings of the client that continues the lease of a record.
fn client_config(table: &Table, record: &Record) -> dhcp4::Config {
    let mut config = table.client_config(&record.params, record.interface.mac);
    if record.params.on_change.keeps_address() {
        config.only_address = Some(record.lease.address);
    }
    config
}

/// The lease of a record that says that it has expired, if the address is still `valid` according to
/// the kernel: a renewal has prolonged it, and could not be written to disk. It is valid for as long
/// as the address, but no longer than the lease was.
fn renewed_since(record: &Record, valid: impl FnOnce() -> Option<Duration>) -> Option<Lease> {
    let (lease, now) = (&record.lease, now());
    let is_in_force = match record.status {
        LeaseStatus::Active => true,
        LeaseStatus::Abandoned => !record.is_detached(),
        LeaseStatus::Lost | LeaseStatus::Released => false,
    };
    let has_expired = lease.expires_at().is_some_and(|end| end <= now);
    if !is_in_force || !has_expired {
        return None;
    }
    let valid = valid()?;
    let (attachment, address) = (&record.attachment, lease.address);
    tracing::warn!(%attachment, %address, "the lease has expired according to its file, but the address is still valid: a renewal was not written to disk; confirming the lease");
    Some(Lease {
        requested_at: now,
        lifetime: lease.lifetime.map(|lifetime| lifetime.min(valid)),
        t1: None,
        t2: None,
        ..lease.clone()
    })
}

/// The lease of a record.
fn lease_of(
    table: &Table,
    record: &Record,
    pinned_netns: Option<Netns>,
) -> Result<ManagedLease, Error> {
    let config = client_config(table, record);
    let client = match record.status {
        LeaseStatus::Lost => Client::new(config, seed()?, now()),
        _ => Client::resume(config, seed()?, record.lease.clone(), now()),
    };
    let record = record.clone();
    Ok(ManagedLease::resumed(client, record, pinned_netns))
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

/// Releases a lease that ended before, and whose interface still exists to send from.
fn release(table: &Rc<Table>, record: &Record, lease: ManagedLease) {
    let attachment = &record.attachment;
    tracing::info!(%attachment, "releasing the lease of a container that was detached before");
    let slot = table.get_or_create(attachment);
    table.put(&slot, Rc::new(lease));
    let table = Rc::clone(table);
    spawn_local(async move { end::end(&table, &slot).await });
}

/// Puts the lease into the table, and sets its timer unless it is overdue. A lease that was
/// abandoned by mistake, because the container seemed to be gone, is taken up again.
fn maintain(
    table: &Table,
    record: Record,
    lease: ManagedLease,
    netns: Result<Netns, Unreachable>,
) -> Due {
    let (attachment, address) = (&record.attachment, record.lease.address);
    tracing::info!(%attachment, %address, "lease resumed");
    let due = match netns {
        Err(_) => Some(now() + RETRY_INTERVAL),
        Ok(netns) => {
            if record.status == LeaseStatus::Lost {
                lease.remove_address(&netns, &record.lease);
            }
            // Otherwise it is overdue.
            lease.due().filter(|_| lease.is_bound())
        }
    };
    let is_overdue = due.is_none() && !lease.is_bound();
    table.netns_watcher.watch(&lease.interface.path);
    table.update_host_route(attachment, &lease);
    let slot = table.get_or_create(attachment);
    table.put(&slot, Rc::new(lease));
    if record.status == LeaseStatus::Abandoned {
        table.persist(&slot);
    }
    table.set_timer_at(&slot, due);
    match is_overdue {
        true => Due::Overdue,
        false => Due::Later,
    }
}

/// Tries to release leases again that could not be released.
pub(crate) fn retry_releases(table: &Rc<Table>) {
    for attachment in table.unreleased.take(end::CONCURRENT_RELEASES) {
        // An attachment that has a slot has had another ADD.
        if table.get(&attachment).is_some() {
            continue;
        }
        let record = table.store.read(&attachment).ok().flatten();
        let Some(record) = record.filter(|record| record.is_detached() && !record.has_expired())
        else {
            continue;
        };
        if let Err(error) = resume(table, record, None) {
            tracing::error!(%attachment, %error, "cannot release a lease, and will try again");
            table.unreleased.insert(&attachment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::leases::table::tests::table;
    use crate::state::tests::record;

    /// The record as the daemon of this boot would write it. Its netns does not exist.
    fn of_this_boot(record: Record) -> Record {
        let Record {
            attachment,
            mut interface,
            params,
            lease,
            ..
        } = record;
        interface.path = "/nonexistent".into();
        Record::new(attachment, interface, params, lease, None)
    }

    #[test]
    fn overdue_leases_are_maintained_one_after_the_other_the_most_urgent_first() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let overdue = vec![
            (None, "endless"),
            (Some(at(300)), "later"),
            (Some(at(200)), "soon"),
        ];
        let from = at(100);
        assert_eq!(
            spread(overdue, from),
            [
                ("soon", from),
                ("later", from + STAGGER),
                ("endless", from + STAGGER + STAGGER),
            ]
        );
    }

    #[test]
    fn a_lease_that_was_renewed_without_a_record_lasts_as_long_as_its_address() {
        let mut record = record();
        let hour = Duration::from_secs(3600);
        record.lease.requested_at = Instant::BOOT;
        record.lease.lifetime = Some(Duration::from_millis(1));
        record.lease.t1 = Some(Duration::from_micros(500));
        record.lease.t2 = Some(Duration::from_micros(800));
        let valid = Duration::from_micros(7);
        let renewed = renewed_since(&record, || Some(valid)).expect("it was renewed");
        assert_eq!(renewed.lifetime, Some(valid));
        assert_eq!((renewed.t1, renewed.t2), (None, None));
        assert!(renewed.requested_at > Instant::BOOT);
        assert_eq!(renewed.address, record.lease.address);
        let renewed = renewed_since(&record, || Some(hour)).expect("it was renewed");
        assert_eq!(
            renewed.lifetime, record.lease.lifetime,
            "no longer than it was"
        );
        assert_eq!(renewed_since(&record, || None), None, "the address is gone");

        let is_renewed = |record: &Record| renewed_since(record, || Some(hour)).is_some();
        let with = |status| record.clone().with_status(status);
        assert!(is_renewed(&with(LeaseStatus::Abandoned)));
        assert!(!is_renewed(&record.clone().detached()));
        assert!(!is_renewed(&with(LeaseStatus::Lost)));
        assert!(!is_renewed(&with(LeaseStatus::Released)));
        record.lease.requested_at = now();
        record.lease.lifetime = Some(hour);
        assert!(!is_renewed(&record), "it has not expired");
        record.lease.lifetime = None;
        assert!(!is_renewed(&record), "it does not expire");
    }

    #[tokio::test]
    async fn a_container_that_cannot_be_inspected_at_the_moment_keeps_its_lease() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = Rc::new(table(&directory));
        let circle = directory.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).expect("a link to itself");
        let mut record = of_this_boot(record());
        record.interface.path = circle;
        record.lease.requested_at = now();
        let due = resume(&table, record.clone(), None).expect("no error");
        assert_eq!(due, Due::Later);
        let slot = table.get(&record.attachment).expect("a slot");
        assert!(slot.lease().is_some_and(|lease| lease.is_bound()));
        assert!(slot.timer.get().is_some(), "it is tried again");
    }

    #[tokio::test]
    async fn a_lost_lease_is_sought_anew_and_any_other_is_continued() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        for (status, has_address) in [(LeaseStatus::Lost, false), (LeaseStatus::Active, true)] {
            let mut record = of_this_boot(record());
            record.lease.requested_at = now();
            let lease = lease_of(&table, &record.with_status(status), None);
            let lease = lease.expect("a lease");
            assert_eq!(lease.address().is_some(), has_address);
        }
    }

    #[tokio::test]
    async fn overdue_leases_have_timers() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = table(&directory);
        let attachment = record().attachment;
        let slot = table.get_or_create(&attachment);
        set_timers(&table, vec![(None, attachment)]);
        assert!(slot.timer.get().is_some());
    }

    #[tokio::test]
    async fn a_lease_that_could_not_be_read_is_resumed_later_unless_there_is_another() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = Rc::new(table(&directory));
        let record = record();
        let on_disk = || table.store.read(&record.attachment).expect("no error");
        assert!(table.store.write(&record));
        table.store.read_later(&record.attachment);
        let slot = table.get_or_create(&record.attachment);
        resume_rest(&table);
        assert_eq!(on_disk().as_ref(), Some(&record), "it has had another ADD");
        table.remove_if_empty(&slot);
        table.store.read_later(&record.attachment);
        resume_rest(&table);
        let abandoned = record.clone().with_status(LeaseStatus::Abandoned);
        assert_eq!(on_disk(), Some(abandoned), "the record is of another boot");
    }

    #[tokio::test]
    async fn an_abandoned_lease_whose_container_is_gone_ends_with_its_attachment() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = Rc::new(table(&directory));
        let record = of_this_boot(record());
        let attachment = &record.attachment;
        let is_detached = || {
            let on_disk = table.store.read(attachment).expect("no error");
            on_disk.is_some_and(|on_disk| on_disk.is_detached())
        };
        assert!(
            take_up_abandoned(&table, attachment).is_none(),
            "nothing is there"
        );
        assert!(table.store.write(&record));
        assert!(take_up_abandoned(&table, attachment).is_none() && !is_detached());
        let of_another_boot = crate::state::tests::record().with_status(LeaseStatus::Abandoned);
        assert!(table.store.write(&of_another_boot));
        assert!(take_up_abandoned(&table, attachment).is_none() && !is_detached());
        let abandoned = record.clone().with_status(LeaseStatus::Abandoned);
        assert!(table.store.write(&abandoned));
        assert!(take_up_abandoned(&table, attachment).is_none() && is_detached());
        assert!(table.unreleased.take(1).is_empty(), "nothing can be sent");
    }

    #[tokio::test]
    async fn a_lease_that_could_not_be_released_is_tried_again_if_it_still_can_be() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let table = Rc::new(table(&directory));
        let record = record();
        let on_disk = || table.store.read(&record.attachment).expect("no error");
        let lost = record.clone().with_status(LeaseStatus::Lost);
        assert!(table.store.write(&lost));
        table.unreleased.insert(&record.attachment);
        retry_releases(&table);
        assert_eq!(on_disk(), Some(lost), "the attachment has not ended");
        assert!(table.unreleased.take(1).is_empty());
        let ended = record.clone().detached().with_status(LeaseStatus::Lost);
        assert!(table.store.write(&ended));
        table.unreleased.insert(&record.attachment);
        retry_releases(&table);
        let status = on_disk().map(|on_disk| on_disk.status);
        assert_eq!(
            status,
            Some(LeaseStatus::Abandoned),
            "the container is gone"
        );
        assert!(table.unreleased.take(1).is_empty());
    }
}
