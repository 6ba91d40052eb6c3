//! Locking the state directory at the start.

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::state::{StateDir, StateLock};

/// How long another daemon may take to unlock its leases after it was asked to hand over.
const TAKEOVER_WAIT: Duration = Duration::from_secs(5);

/// How long the leases may be locked at the start: a DEL that found no daemon needs milliseconds, a
/// daemon that was told to stop needs as long as it waits for its callers.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The pause before the lock is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Locks the state directory. If another process has the lock, waits a little. With `take_over`,
/// asks a daemon that has the lock to exit.
///
/// # Errors
/// If the lock is not released in time, or the directory cannot be used.
pub(crate) fn lock_state(state: &StateDir, take_over: bool) -> Result<StateLock, Box<dyn Error>> {
    let directory = state.path().display();
    let deadline = Instant::now() + if take_over { TAKEOVER_WAIT } else { LOCK_WAIT };
    let mut may_ask = take_over;
    loop {
        let lock = state
            .lock()
            .map_err(|error| format!("cannot use the state directory {directory}: {error}"))?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(format!("another dhcp daemon keeps its leases in {directory}: stop it first, or choose another -statedir").into());
        }
        // It was asked over its socket already, unless the socket at that path is ours by now:
        // systemd may have bound it again.
        if may_ask && let Some(holder) = state.lock_holder() {
            let pid = holder.as_raw_nonzero();
            tracing::info!(pid, "asking the daemon that holds the leases to exit");
            let _ = kill_process(holder, Signal::TERM);
            may_ask = false;
        }
        sleep(RETRY_INTERVAL);
    }
}
