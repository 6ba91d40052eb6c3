//! ADD and CHECK in the moment without a daemon: while it is replaced, after a crash, or when the
//! machine boots.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Failure;
use super::config::DaemonLocation;

/// How long to wait for a daemon where one has run before.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);

/// The pause before the daemon is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Asks the daemon. If none listens where one has run before, waits for it, up to `max_wait`.
/// `ask_daemon` is told how long it waited.
///
/// # Errors
/// Those of `ask_daemon`.
pub(super) fn wait_for_daemon<T>(
    daemon: &DaemonLocation,
    max_wait: Duration,
    ask_daemon: impl Fn(Duration) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        match ask_daemon(waited) {
            Err(Failure::NoDaemon(_) | Failure::DaemonExited(_))
                if waited < max_wait && daemon.is_in_use() =>
            {
                sleep(RETRY_INTERVAL);
            }
            outcome => return outcome,
        }
    }
}
