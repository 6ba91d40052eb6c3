//! What the plugin does while no daemon answers: while it is replaced, after a crash, or when the
//! machine boots.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Error, Request};

use super::autostart;
use super::client::Failure;
use super::offline::{Ending, ask_or_end};
use crate::config::DaemonLocation;
use crate::protocol::{Reply, Verb};

/// How long to wait for a daemon where one has run before.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);

/// The pause before the daemon is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Asks the daemon, and copes if there is none. The functions that ask it are told how long they
/// have waited.
pub(crate) trait Absence {
    /// Serves ADD; waits up to `max_wait`.
    ///
    /// # Errors
    /// Those of `ask`, and those of the plugin's own attempts.
    fn add(
        &self,
        daemon: &DaemonLocation,
        max_wait: Duration,
        ask: &dyn Fn(Duration) -> Result<Reply, Failure>,
    ) -> Result<Reply, Failure>;

    /// Serves CHECK.
    ///
    /// # Errors
    /// Those of `ask`.
    fn check(
        &self,
        daemon: &DaemonLocation,
        ask: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(), Failure>;

    /// Serves DEL and GC.
    ///
    /// # Errors
    /// The daemon's own, and those of the plugin's own attempts.
    fn end(
        &self,
        daemon: &DaemonLocation,
        request: &Request,
        verb: &Verb,
        ending: Ending<'_>,
    ) -> Result<(), Error>;
}

/// The plugin as a program of its own: it waits for a daemon, or starts one, and ends leases on
/// disk.
#[derive(Default)]
pub(crate) struct Executable;

impl Absence for Executable {
    fn add(
        &self,
        daemon: &DaemonLocation,
        max_wait: Duration,
        ask: &dyn Fn(Duration) -> Result<Reply, Failure>,
    ) -> Result<Reply, Failure> {
        if !daemon.autostart {
            return wait_for_daemon(daemon, max_wait, ask);
        }
        match ask(Duration::ZERO) {
            Err(Failure::NoDaemon(_) | Failure::DaemonExited(_)) => {
                autostart::start(daemon, || ask(Duration::ZERO))
            }
            outcome => outcome,
        }
    }

    fn check(
        &self,
        daemon: &DaemonLocation,
        ask: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        wait_for_daemon(daemon, MAX_WAIT, |_| ask())
    }

    fn end(
        &self,
        daemon: &DaemonLocation,
        request: &Request,
        verb: &Verb,
        ending: Ending<'_>,
    ) -> Result<(), Error> {
        ask_or_end(daemon, request, verb, ending)
    }
}

/// Asks the daemon. If none listens where one has run before, waits for it, up to `max_wait`.
/// `ask_daemon` is told how long it waited.
///
/// # Errors
/// Those of `ask_daemon`.
fn wait_for_daemon<T>(
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
