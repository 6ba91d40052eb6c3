//! Locking the state directory at the start.

use std::error::Error;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::state::{StateDir, StateLock};

/// How long another daemon may take to unlock its leases after it was asked to hand over.
const TAKEOVER_WAIT: Duration = Duration::from_secs(5);

/// How long another daemon may keep the leases locked at the start: one that was told to stop needs
/// as long as it waits for its callers.
const DAEMON_WAIT: Duration = Duration::from_secs(2);

/// How long anything else may keep them locked: a DEL or GC that found no daemon. It needs
/// milliseconds, and one of an earlier release as long as its releases take.
const PLUGIN_WAIT: Duration = Duration::from_secs(20);

/// The pause before the lock is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Locks the state directory. If another process has the lock, waits a little. With `take_over`,
/// asks a daemon that has the lock to exit; a plugin is never disturbed. If nothing can be written
/// to the directory, that is logged.
///
/// # Errors
/// If the lock is not released in time, or the directory cannot be used.
pub(crate) fn lock_state(state: &StateDir, take_over: bool) -> Result<StateLock, Box<dyn Error>> {
    let lock = wait_for_lock(state, take_over)?;
    if let Err(error) = state.can_write() {
        let directory = state.path().display();
        tracing::warn!(%directory, %error, "cannot write leases; until that is possible, changes of them will not survive a restart of the daemon");
    }
    Ok(lock)
}

fn wait_for_lock(state: &StateDir, take_over: bool) -> Result<StateLock, Box<dyn Error>> {
    let directory = state.path().display();
    let start = Instant::now();
    let (mut may_ask, mut may_log) = (take_over, true);
    loop {
        let lock = state.lock().map_err(|error| {
            let what = format!("cannot use the state directory {directory}: {error}");
            io::Error::new(error.kind(), what)
        })?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        let daemon = state.daemon_with_lock();
        if start.elapsed() >= max_wait(daemon.is_some(), take_over) {
            let holder = match daemon {
                Some(_) => "another dhcp daemon keeps its leases in",
                None => "another process has locked the leases in",
            };
            return Err(format!(
                "{holder} {directory}: stop it first, or choose another -statedir"
            )
            .into());
        }
        match daemon {
            // It was asked over its socket already, unless the socket at that path is ours by now:
            // systemd may have bound it again.
            Some(daemon) if may_ask => {
                let pid = daemon.as_raw_nonzero();
                tracing::info!(pid, "asking the daemon that holds the leases to exit");
                let _ = kill_process(daemon, Signal::TERM);
                may_ask = false;
            }
            None if may_log => {
                tracing::info!(
                    "waiting for another process, such as a DEL or GC, to unlock the leases"
                );
                may_log = false;
            }
            _ => {}
        }
        sleep(RETRY_INTERVAL);
    }
}

/// How long the lock is waited for that a daemon has, or a plugin.
fn max_wait(is_daemon: bool, take_over: bool) -> Duration {
    match is_daemon {
        true if take_over => TAKEOVER_WAIT,
        true => DAEMON_WAIT,
        false => PLUGIN_WAIT,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::daemon::process::log::testing::logged;

    #[test]
    fn waiting_for_a_plugin_is_worth_one_line() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::at(directory.path().to_owned());
        let plugins = state.lock_shared().expect("a directory of ours");
        assert!(plugins.is_some());
        let log = logged(|| {
            // For a few attempts.
            thread::spawn(move || {
                sleep(6 * RETRY_INTERVAL);
                drop(plugins);
            });
            assert!(wait_for_lock(&state, true).is_ok());
        });
        assert_eq!(log.lines().count(), 1, "{log}");
    }

    #[test]
    fn a_daemon_that_was_asked_to_hand_over_has_longer_and_a_plugin_longest() {
        assert_eq!(max_wait(true, false), DAEMON_WAIT);
        assert_eq!(max_wait(true, true), TAKEOVER_WAIT);
        for take_over in [false, true] {
            assert_eq!(max_wait(false, take_over), PLUGIN_WAIT);
        }
    }
}
