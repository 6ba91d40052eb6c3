//! DEL and GC while no daemon of this project runs: they must succeed, so that the container can be removed, the
//! lease is released if possible, and the daemon must not resume it when it starts again.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Attachment, Error, Request, code};
use linknet::Netns;

use super::client::{Failure, ask_to};
use super::config::DaemonLocation;
use crate::daemon::release_offline;
use crate::protocol::Verb;
use crate::state::{LeaseStatus, Record, StateDir};

/// How long a daemon may take from locking its leases to listening, or from closing its socket to
/// unlocking them.
const HANDOVER_WAIT: Duration = Duration::from_secs(5);

/// The pause before the daemon and its lock are tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Asks the daemon. If none runs, changes its leases on disk, under the lock that it would have.
///
/// # Errors
/// The daemon's own; `TRY_AGAIN_LATER` (11) if there is a daemon that does not start to listen.
pub(super) fn ask_or(
    daemon: &DaemonLocation,
    request: &Request,
    verb: &Verb,
    change: impl Fn(&StateDir) -> io::Result<()>,
) -> Result<(), Error> {
    let state = &daemon.state;
    let deadline = Instant::now() + HANDOVER_WAIT;
    loop {
        let no_daemon = match ask_to(&daemon.socket, verb.clone(), request.traceparent.clone()) {
            Ok(()) => return Ok(()),
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::NoDaemon(error)) => error,
            Err(Failure::GoDaemon(error) | Failure::Stranger(error)) => {
                // It knows nothing of the leases on disk, and the container must go.
                log::warn!("{error}");
                error
            }
            Err(Failure::DaemonExited(error)) if Instant::now() >= deadline => return Err(error),
            Err(Failure::DaemonExited(_)) => {
                // It was killed or replaced, before or after it did what it was asked to. Asking
                // twice does no harm.
                sleep(RETRY_INTERVAL);
                continue;
            }
        };
        if !state.path().exists() {
            // No daemon has ever had a lease here.
            return Ok(());
        }
        let changed = state
            .lock()
            .and_then(|lock| lock.map(|_lock| change(state)).transpose());
        match changed {
            Ok(Some(())) => return Ok(()),
            // A daemon has the lock: it is about to listen, or about to exit.
            Ok(None) if Instant::now() < deadline => sleep(RETRY_INTERVAL),
            Ok(None) => {
                return Err(Error {
                    code: code::TRY_AGAIN_LATER,
                    ..no_daemon
                });
            }
            Err(error) => {
                // A lease that expires by itself is better than a container that cannot be removed.
                let directory = state.path().display();
                log::warn!("{no_daemon}; cannot change its leases in {directory}: {error}");
                return Ok(());
            }
        }
    }
}

/// Ends the lease of an attachment, and releases it if that is possible without a daemon. `netns`
/// is the path of the container's netns.
pub(super) fn end(
    state: &StateDir,
    attachment: &Attachment,
    netns: Option<&Path>,
) -> io::Result<()> {
    let Some(abandoned) = mark_abandoned(state, attachment)? else {
        return Ok(());
    };
    let netns = netns.and_then(|path| Netns::open(path).ok());
    release_offline(state, &[abandoned], netns.as_ref())
}

/// Ends the leases of all attachments to a network, except those to keep.
pub(super) fn end_except(state: &StateDir, network: &str, keep: &[Attachment]) -> io::Result<()> {
    let mut abandoned = Vec::new();
    for record in state.load()?.records {
        if record.attachment.network() == network && !keep.contains(&record.attachment) {
            abandoned.extend(mark_abandoned(state, &record.attachment)?);
        }
    }
    release_offline(state, &abandoned, None)
}

/// Records that an attachment has ended, so that the next daemon does not resume its lease. Returns
/// the record if the server has yet to be told.
fn mark_abandoned(state: &StateDir, attachment: &Attachment) -> io::Result<Option<Record>> {
    let Some(record) = state.read(attachment)? else {
        return Ok(None);
    };
    match record.status {
        LeaseStatus::Active | LeaseStatus::Abandoned => {
            let record = record.detached();
            state.write(&record)?;
            Ok(Some(record))
        }
        // Another client may have the address by now.
        LeaseStatus::Lost => state.remove(attachment).map(|()| None),
        LeaseStatus::Released => Ok(None),
    }
}
