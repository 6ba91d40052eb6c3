//! Releasing leases while no daemon runs, in the process of the plugin that ends them.

use std::io;
use std::rc::Rc;

use dhcp4::Client;
use linknet::Netns;
use tokio::task::{JoinSet, LocalSet};

use super::end::CONCURRENT_RELEASES;
use super::give_back::give_back;
use super::lan::Lan;
use super::lease::ManagedLease;
use super::table::seed;
use crate::daemon::exchange::now;
use crate::daemon::store::ClientIdentity;
use crate::protocol::ReleasePolicy;
use crate::state::{LeaseStatus, Record, StateDir};

/// A lease that ended while no daemon ran.
#[derive(Debug, Clone)]
pub(crate) struct EndedLease {
    /// Its record, marked as abandoned.
    pub(crate) record: Record,
    /// What is on disk about the attachment by now: another record if that cannot be written.
    pub(crate) on_disk: Option<Record>,
}

/// What became of a lease that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was released.
    Released,
    /// Another container or station has its address, so its client must not ask for it again.
    Taken,
    /// It was not released. The next daemon tries again if the interface still exists.
    Kept,
}

/// Releases leases as a daemon would. `netns` is the container's, in case it is not at the path that
/// the daemon knew. Nothing is written, so the caller needs no lock. A daemon that starts meanwhile
/// may release the same leases, which does no harm; a lease whose record it has changed is its own.
///
/// # Errors
/// If the process cannot prepare to wait for events.
pub(crate) fn release_offline(
    state: &StateDir,
    ended: &[EndedLease],
    netns: Option<&Netns>,
) -> io::Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(LocalSet::new().block_on(&runtime, async {
        let mut outcomes = Vec::new();
        for some in ended.chunks(CONCURRENT_RELEASES) {
            let others = Rc::new(rivals(state, some, ended));
            let mut tasks = JoinSet::new();
            for (index, lease) in some.iter().cloned().enumerate() {
                let netns = netns.filter(|netns| lease.record.interface.is_in(netns));
                let netns = netns.and_then(|netns| netns.try_clone().ok());
                let (state, others) = (state.clone(), Rc::clone(&others));
                tasks.spawn_local(
                    async move { (index, release(&state, lease, netns, &others).await) },
                );
            }
            let mut done = tasks.join_all().await;
            done.sort_by_key(|(index, _)| *index);
            outcomes.extend(done.into_iter().map(|(_, outcome)| outcome));
        }
        outcomes
    }))
}

/// The active leases whose clients a server may take for those of `some` leases, none of which are
/// among all that have `ended`.
fn rivals(state: &StateDir, some: &[EndedLease], ended: &[EndedLease]) -> Vec<Record> {
    let may_have_rivals = |EndedLease { record, .. }: &EndedLease| {
        record.params.release != ReleasePolicy::Never
            && !record.params.client_id.is_own_of(&record.attachment)
    };
    if !some.iter().any(may_have_rivals) {
        // Reading all records takes time that grows with their number.
        return Vec::new();
    }
    let mut records = state.records().unwrap_or_default();
    records.retain(|other| {
        other.status == LeaseStatus::Active
            && !ended
                .iter()
                .any(|EndedLease { record, .. }| record.attachment == other.attachment)
    });
    records
}

/// The LAN of a record's interface; `None` if it is unknown.
fn lan_of(record: &Record) -> Option<Lan> {
    let (netns, link) = record.interface.lookup(&record.attachment, None).ok()?;
    Lan::of(&netns, &link)
}

/// Releases one lease.
async fn release(
    state: &StateDir,
    EndedLease { record, on_disk }: EndedLease,
    netns: Option<Netns>,
    others: &[Record],
) -> Outcome {
    if record.is_of_this_boot() == Some(false) {
        return Outcome::Kept;
    }
    let Ok(seed) = seed() else {
        return Outcome::Kept;
    };
    let config = record.params.client_config(record.interface.mac);
    let client = Client::resume(config, seed, record.lease.clone(), now());
    let lease = ManagedLease::resumed(client, record.clone(), netns);
    let is_held_by_another = || {
        let identity = ClientIdentity::of(&record);
        let is_rival = others.iter().any(|other| {
            other.lease.address == record.lease.address
                && ClientIdentity::of(other).is_same_client(&identity)
                && Lan::may_be_same(lan_of(other), lease.lan())
        });
        is_rival || state.read(&record.attachment).ok() != Some(on_disk.clone())
    };
    match give_back(&lease, is_held_by_another).await {
        Ok(()) => Outcome::Released,
        Err(why) if why.is_taken() => Outcome::Taken,
        Err(why) => {
            if why.is_doubtful() {
                let (attachment, address) = (&record.attachment, record.lease.address);
                log::warn!("{attachment}: {address} is not released: {why}");
            }
            Outcome::Kept
        }
    }
}
