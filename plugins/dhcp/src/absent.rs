//! What DEL and GC do while no daemon runs: a container must be able to go, and the daemon must not
//! take its lease up again when it comes back.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Attachment, Error, code};

use crate::client::Failure;
use crate::store::{Standing, Store};

/// How long a daemon may take from having its leases to listening, or from closing its socket to
/// letting go of them.
const IN_BETWEEN: Duration = Duration::from_secs(5);

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks the daemon; where there is none, changes the store itself, under the lock that the daemon
/// would have.
///
/// # Errors
/// The daemon's own; 11 when there is a daemon that does not come to listening.
pub(crate) fn without_daemon(
    store: &Store,
    ask_daemon: impl Fn() -> Result<(), Failure>,
    change: impl Fn(&Store) -> io::Result<()>,
) -> Result<(), Error> {
    let deadline = Instant::now() + IN_BETWEEN;
    loop {
        let absent = match ask_daemon() {
            Ok(()) => return Ok(()),
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::Absent(absent)) => absent,
            // Killed, or replaced, before or after it did what it was asked: asked twice, it does
            // no harm.
            Err(Failure::Ended(ended)) if Instant::now() >= deadline => return Err(ended),
            Err(Failure::Ended(_)) => {
                sleep(PAUSE);
                continue;
            }
        };
        if !store.directory().exists() {
            // No daemon has ever had a lease here.
            return Ok(());
        }
        let changed = store
            .lock()
            .and_then(|lock| lock.map(|_lock| change(store)).transpose());
        match changed {
            Ok(Some(())) => return Ok(()),
            // A daemon has it: it is about to listen, or about to end.
            Ok(None) if Instant::now() < deadline => sleep(PAUSE),
            Ok(None) => {
                return Err(Error {
                    code: code::TRY_AGAIN_LATER,
                    ..absent
                });
            }
            Err(error) => {
                // Better a lease that runs out by itself than a container that cannot go.
                eprintln!(
                    "dhcp: {absent}; its leases in {} cannot be changed: {error}",
                    store.directory().display()
                );
                return Ok(());
            }
        }
    }
}

/// Notes that an attachment has ended, so that a daemon that comes back gives its address back if
/// it still can.
pub(crate) fn strike(store: &Store, attachment: &Attachment) -> io::Result<()> {
    match store.read(attachment)? {
        Some(record) => match record.standing {
            Standing::Held | Standing::Left => store.write(&record.now(Standing::Left)),
            // Somebody else may have the address by now.
            Standing::Lost => store.remove(attachment),
            Standing::Released => Ok(()),
        },
        None => Ok(()),
    }
}

/// The same for every attachment of a network that is not to be kept.
pub(crate) fn strike_all_but(store: &Store, network: &str, keep: &[Attachment]) -> io::Result<()> {
    for record in store.load()? {
        if record.attachment.network() == network && !keep.contains(&record.attachment) {
            strike(store, &record.attachment)?;
        }
    }
    Ok(())
}
