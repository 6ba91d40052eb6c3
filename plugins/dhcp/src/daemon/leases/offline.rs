//! Releasing leases while no daemon runs, in the process of the plugin that ends them.

use std::io;
use std::rc::Rc;

use cni::Error;
use dhcp4::Client;
use linknet::Netns;
use tokio::task::{JoinSet, LocalSet};

use super::end::CONCURRENT_RELEASES;
use super::give_back::give_back;
use super::lease::ManagedLease;
use super::table::seed;
use crate::daemon::exchange::now;
use crate::daemon::store::ClientIdentity;
use crate::state::{LeaseStatus, Record, StateDir};

/// Releases leases that are marked as abandoned, as a daemon would, and records it. The caller has
/// locked the directory. `netns` is the container's, in case it is not at the path that the daemon
/// knew.
///
/// What cannot be released stays abandoned, and the next daemon tries again if the interface still
/// exists.
///
/// # Errors
/// If the leases cannot be read.
pub(crate) fn release_offline(
    state: &StateDir,
    abandoned: &[Record],
    netns: Option<&Netns>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut others = state.load()?.records;
    others.retain(|record| record.status == LeaseStatus::Active);
    let others = Rc::new(others);
    LocalSet::new().block_on(&runtime, async {
        for some in abandoned.chunks(CONCURRENT_RELEASES) {
            let mut tasks = JoinSet::new();
            for record in some
                .iter()
                .filter(|record| record.is_of_this_boot() != Some(false))
            {
                let netns = netns.filter(|netns| record.interface.is_in(netns));
                let netns = netns.and_then(|netns| netns.try_clone().ok());
                let (state, record) = (state.clone(), record.clone());
                let others = Rc::clone(&others);
                tasks.spawn_local(async move { release(&state, record, netns, &others).await });
            }
            tasks.join_all().await;
        }
    });
    Ok(())
}

/// Releases one lease. Errors leave it abandoned.
async fn release(
    state: &StateDir,
    record: Record,
    netns: Option<Netns>,
    others: &[Record],
) -> Result<(), Error> {
    let config = record.params.client_config(record.interface.mac);
    let client = Client::resume(config, seed()?, record.lease.clone(), now());
    let lease = ManagedLease::resumed(client, record.clone(), netns);
    let is_held_by_another = || {
        let identity = ClientIdentity::of(&record);
        others.iter().any(|other| {
            other.lease.address == record.lease.address
                && ClientIdentity::of(other).is_same_client(&identity)
        })
    };
    let written = match give_back(&lease, is_held_by_another).await {
        Ok(()) => state.write(&record.clone().with_status(LeaseStatus::Released)),
        Err(why) if why.is_taken() => state.remove(&record.attachment),
        Err(_) => Ok(()),
    };
    written.map_err(crate::daemon::error::internal)
}
