//! DEL and GC while no daemon of this project runs: they must succeed, so that the container can be
//! removed, the lease is released if possible, and the daemon must not resume it when it starts
//! again.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Attachment, Error, Request, code};
use linknet::Netns;

use super::client::{Failure, ask_to};
use crate::config::DaemonLocation;
use crate::daemon::{EndedLease, Outcome, release_offline};
use crate::protocol::Verb;
use crate::state::{LeaseStatus, Record, StateDir};

/// How long a daemon may take from locking its leases to listening, or from closing its socket to
/// unlocking them.
const HANDOVER_WAIT: Duration = Duration::from_secs(5);

/// The pause before the daemon and its lock are tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// What ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending<'a> {
    /// The lease of an attachment. The path is that of the container's netns.
    Attachment(&'a Attachment, Option<&'a Path>),
    /// The leases of all attachments to a network, except those to keep.
    Network(&'a str, &'a [Attachment]),
}

/// Asks the daemon. If none runs, ends its leases on disk and releases them. The lock that it would
/// have is held only while the disk changes, and plugins share it.
///
/// # Errors
/// The daemon's own; `TRY_AGAIN_LATER` (11) if there is a daemon that does not start to listen. An
/// attachment's lease is released then too.
pub(super) fn ask_or_end(
    daemon: &DaemonLocation,
    request: &Request,
    verb: &Verb,
    ending: Ending<'_>,
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
        let marked = state
            .lock_shared()
            .and_then(|lock| lock.map(|_lock| ending.mark(state)).transpose());
        match marked {
            Ok(Some(ended)) => {
                ending.release(state, &ended);
                return Ok(());
            }
            // A daemon has the lock: it is about to listen, or about to exit.
            Ok(None) if Instant::now() < deadline => sleep(RETRY_INTERVAL),
            Ok(None) => {
                ending.release_unmarked(state);
                return Err(Error {
                    code: code::TRY_AGAIN_LATER,
                    ..no_daemon
                });
            }
            Err(error) => {
                // A lease that expires by itself is better than a container that cannot be removed.
                let directory = state.path().display();
                log::warn!("{no_daemon}; cannot change its leases in {directory}: {error}");
                ending.release_unmarked(state);
                return Ok(());
            }
        }
    }
}

impl Ending<'_> {
    /// Marks the leases as ended on disk. The caller has the lock.
    ///
    /// # Errors
    /// If they cannot be read.
    fn mark(self, state: &StateDir) -> io::Result<Vec<EndedLease>> {
        let records = match self {
            Ending::Attachment(attachment, _) => state.read(attachment)?.into_iter().collect(),
            Ending::Network(network, keep) => {
                let mut records = state.records()?;
                records.retain(|record| {
                    record.attachment.network() == network && !keep.contains(&record.attachment)
                });
                records
            }
        };
        let ended = records.into_iter();
        Ok(ended.filter_map(|record| mark(state, record)).collect())
    }

    /// Releases leases that have ended, and records it unless a daemon runs by now: it reads that
    /// they have ended, and releases them itself.
    fn release(self, state: &StateDir, ended: &[EndedLease]) {
        if ended.is_empty() {
            return;
        }
        let netns = match self {
            Ending::Attachment(_, path) => path.and_then(|path| Netns::open(path).ok()),
            Ending::Network(..) => None,
        };
        let outcomes = match release_offline(state, ended, netns.as_ref()) {
            Ok(outcomes) => outcomes,
            Err(error) => return log::warn!("cannot release addresses: {error}"),
        };
        if let Ok(Some(_lock)) = state.lock_shared() {
            for (lease, outcome) in ended.iter().zip(outcomes) {
                conclude(state, lease, outcome);
            }
        }
    }

    /// Releases the lease of an attachment although the disk cannot be changed: the caller removes
    /// the interface in any case, and no later DEL could release it.
    fn release_unmarked(self, state: &StateDir) {
        if let Ending::Attachment(attachment, _) = self
            && let Ok(Some(record)) = state.read(attachment)
            && is_in_force(record.status)
        {
            let ended = EndedLease {
                on_disk: Some(record.clone()),
                record: record.detached(),
            };
            self.release(state, &[ended]);
        }
    }
}

/// Whether the server thinks that the client has the address.
fn is_in_force(status: LeaseStatus) -> bool {
    matches!(status, LeaseStatus::Active | LeaseStatus::Abandoned)
}

/// Records that an attachment has ended, so that the next daemon does not resume its lease. If that
/// cannot be written, removes the record. Returns the lease if the server has yet to be told, even
/// if the disk cannot be changed.
fn mark(state: &StateDir, record: Record) -> Option<EndedLease> {
    let attachment = &record.attachment;
    let failed = |error: io::Error| {
        let directory = state.path().display();
        log::warn!(
            "cannot record in {directory} that the lease of {attachment} has ended: {error}"
        );
    };
    if is_in_force(record.status) {
        let ended = record.clone().detached();
        let on_disk = match state.write(&ended) {
            Ok(()) => Some(ended.clone()),
            Err(error) => match state.remove(attachment) {
                Ok(()) => None,
                Err(_) => {
                    failed(error);
                    Some(record)
                }
            },
        };
        let record = ended;
        return Some(EndedLease { record, on_disk });
    }
    // Another client may have the address by now.
    if record.status == LeaseStatus::Lost
        && let Err(error) = state.remove(attachment)
    {
        failed(error);
    }
    None
}

/// Records what became of a lease, unless its record has changed meanwhile.
fn conclude(state: &StateDir, lease: &EndedLease, outcome: Outcome) {
    let attachment = &lease.record.attachment;
    if lease.on_disk.is_none() || state.read(attachment).ok() != Some(lease.on_disk.clone()) {
        return;
    }
    // If this fails, the next daemon finds a lease that has ended.
    let _ = match outcome {
        Outcome::Released => {
            let released = lease.record.clone().with_status(LeaseStatus::Released);
            state.write(&released)
        }
        Outcome::Taken => state.remove(attachment),
        Outcome::Kept => Ok(()),
    };
}
