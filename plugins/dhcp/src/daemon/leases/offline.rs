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

/// Whether a server takes both leases for one.
fn has_same_lease(one: &Record, other: &Record) -> bool {
    one.lease.address == other.lease.address
        && ClientIdentity::of(one).is_same_client(&ClientIdentity::of(other))
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
        let is_rival = |other: &Record| {
            has_same_lease(&record, other) && Lan::may_be_same(lan_of(other), lease.lan())
        };
        others.iter().any(is_rival) || state.read(&record.attachment).ok() != Some(on_disk.clone())
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

#[cfg(test)]
mod tests {
    use linknet::Mac;

    use super::*;
    use crate::protocol::ClientId;
    use crate::state::tests::record_of;

    fn ended(record: Record) -> EndedLease {
        EndedLease {
            on_disk: Some(record.clone()),
            record,
        }
    }

    #[test]
    fn only_active_leases_are_rivals_and_only_of_clients_that_others_may_be() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::at(directory.path().to_owned());
        let [gone, active, lost] = ["gone", "active", "lost"].map(|id| record_of(id, "lan"));
        let lost = lost.with_status(LeaseStatus::Lost);
        for record in [&gone, &active, &lost] {
            state.write(record).expect("a directory of ours");
        }
        let rivals_of = |record: &Record| {
            let ended = [ended(record.clone())];
            rivals(&state, &ended, &ended)
        };
        assert_eq!(rivals_of(&gone), [active]);

        let mut with_own_id = gone.clone();
        let body = ClientId::body_of(&gone.attachment);
        with_own_id.params.client_id = ClientId::Sent(body.into());
        assert_eq!(rivals_of(&with_own_id), []);

        let mut kept = gone;
        kept.params.release = ReleasePolicy::Never;
        assert_eq!(rivals_of(&kept), []);
    }

    #[test]
    fn a_lease_of_another_boot_is_kept_and_every_lease_has_an_outcome() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::at(directory.path().to_owned());
        let ended = ["c1", "c2"].map(|id| ended(record_of(id, "lan")));
        let outcomes = release_offline(&state, &ended, None).expect("an event loop");
        assert_eq!(outcomes, [Outcome::Kept; 2]);
    }

    #[test]
    fn leases_are_the_same_with_one_address_for_one_client() {
        let (one, other) = (record_of("c1", "lan"), record_of("c2", "lan"));
        assert!(has_same_lease(&one, &other));
        let mut elsewhere = other.clone();
        elsewhere.lease.address = [10, 99, 0, 7].into();
        assert!(!has_same_lease(&one, &elsewhere));
        let mut stranger = other;
        stranger.interface = stranger.interface.with_mac(Mac([2, 0, 0, 0, 0, 9]));
        assert!(!has_same_lease(&one, &stranger));
    }
}
