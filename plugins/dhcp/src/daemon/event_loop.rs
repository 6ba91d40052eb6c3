//! The event loop: callers, leases that must be maintained, and signals.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::error::cannot;
use super::leases::{self, Table};
use super::process::{
    log, missing_capabilities, notify_ready, notify_status, notify_stopping, send_heartbeats,
};
use super::server::{Place, Places, Server};
use super::watchers::CarrierWatcher;

/// How long callers may take to read their "try again" when the daemon stops.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);

/// How often past leases that have expired meanwhile are removed from disk.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// How often work that could not be done for want of something is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// How often the log says how many lines were left out.
const REPEATS_INTERVAL: Duration = Duration::from_secs(600);

/// The pause after a connection could not be accepted.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Serves callers and maintains leases, until the daemon is stopped by a signal, by its successor,
/// or because there was no lease for the `idle` time.
///
/// # Errors
/// If leases cannot be read from disk, or the kernel fails to wait for something.
pub(super) async fn run(
    server: &Rc<Server>,
    sockets: &[UnixListener],
    max_connections: usize,
    idle: Option<Duration>,
) -> io::Result<()> {
    let table = &server.table;
    let on_signal = |kind| signal(kind).map_err(cannot("handle signals"));
    let mut terminate = on_signal(SignalKind::terminate())?;
    let mut interrupt = on_signal(SignalKind::interrupt())?;
    let mut hangup = on_signal(SignalKind::hangup())?;
    let places = Places::new(max_connections);
    let mut tasks = JoinSet::new();
    let carriers = CarrierWatcher::new();
    leases::resume_all(table)?;
    let version = env!("CARGO_PKG_VERSION");
    let leases = table.len();
    match missing_capabilities() {
        None => tracing::info!(version, leases, "dhcp daemon is ready"),
        Some(why) => tracing::error!(version, leases, "{why}"),
    }
    notify_ready();
    let mut upkeep = pin!(upkeep(table, carriers));
    let mut idleness = Idleness::new(idle);
    loop {
        idleness.note(tasks.len(), table.len());
        tokio::select! {
            (stream, place) = accept(sockets, &places) => {
                let server = Rc::clone(server);
                tasks.spawn_local(async move { server.serve(stream, place).await });
            }
            task = leases::maintain_next(table) => drop(tasks.spawn_local(task?)),
            Some(outcome) = tasks.join_next() => if let Err(error) = outcome && error.is_panic() {
                tracing::error!(%error, "a task panicked; this is a bug");
            },
            never = &mut upkeep => match never {},
            () = idleness.over() => {
                tracing::info!("exiting: there was no lease for the -idle time");
                break;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tracing::info!("SIGHUP ignored: there is nothing to reload"),
            () = server.stop.notified() => break,
        }
    }
    stop(table, tasks).await;
    Ok(())
}

/// What the daemon does besides serving callers and maintaining leases.
async fn upkeep(table: &Rc<Table>, carriers: CarrierWatcher) -> Infallible {
    let sweep = every(SWEEP_INTERVAL, || table.forget_expired());
    let mut last_status = String::new();
    let mut report = move || {
        notify_status(|| {
            let status = leases::summary(table).to_string();
            (status != last_status).then(|| {
                last_status.clone_from(&status);
                status
            })
        });
    };
    report();
    let retry = every(RETRY_INTERVAL, || {
        report();
        leases::resume_rest(table);
        table.retry_writes();
        leases::resume_abandoned(table);
        leases::retry_releases(table);
        table.retry_host_routes();
    });
    let heartbeat = send_heartbeats();
    let netns = leases::watch_netns(table);
    let carriers = leases::watch_carriers(table, carriers);
    let repeats = every(REPEATS_INTERVAL, log::report_repeats);
    let (never, ..) = tokio::join!(sweep, retry, heartbeat, netns, carriers, repeats);
    never
}

/// Does something again and again, with this pause in between.
async fn every(pause: Duration, mut what: impl FnMut()) -> Infallible {
    loop {
        sleep(pause).await;
        what();
    }
}

/// Answers the requests that are being served with "try again". What is not done in time is left to
/// the next daemon, which finds the leases on disk.
async fn stop(table: &Table, mut tasks: JoinSet<()>) {
    notify_stopping();
    table.stop();
    // A caller that does not read its answer in time is gone.
    let _ = timeout(SHUTDOWN_GRACE, async {
        while tasks.join_next().await.is_some() {}
        table.finish_host_routes().await;
    })
    .await;
    table.retry_writes();
    log::report_repeats();
    let leases = table.len();
    tracing::info!(leases, "dhcp daemon is stopping; its leases stay on disk");
}

/// Accepts the next caller of one of the sockets, once there is a place for it.
async fn accept(sockets: &[UnixListener], places: &Places) -> (UnixStream, Place) {
    let permit = places.free().await;
    loop {
        let accepted = poll_fn(|context| {
            let mut accepted = sockets.iter().map(|socket| socket.poll_accept(context));
            accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        match accepted.await {
            Ok((stream, _)) => return (stream, places.take(permit)),
            Err(error) => {
                // Probably out of descriptors, which other callers will free.
                tracing::error!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY_INTERVAL).await;
            }
        }
    }
}

/// How long the daemon has had no lease.
struct Idleness {
    /// How long it may have none; for ever if there is no limit.
    limit: Option<Duration>,
    last_lease: Instant,
    is_busy: bool,
}

impl Idleness {
    fn new(limit: Option<Duration>) -> Idleness {
        Idleness {
            limit,
            last_lease: Instant::now(),
            is_busy: false,
        }
    }

    /// Notes how many callers are being served and leases maintained, and how many leases there are.
    fn note(&mut self, tasks: usize, leases: usize) {
        if leases > 0 {
            self.last_lease = Instant::now();
        }
        self.is_busy = tasks > 0 || leases > 0;
    }

    /// Returns once there was no lease for that long; never while the daemon is busy, or if the end
    /// is too far away for the clock.
    async fn over(&self) {
        let end = self
            .limit
            .and_then(|limit| self.last_lease.checked_add(limit));
        match end.filter(|_| !self.is_busy) {
            Some(end) => sleep_until(end).await,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// One whose last lease ended so long ago.
    fn idle_for(since: Duration, limit: Duration) -> Idleness {
        let last_lease = Instant::now().checked_sub(since).expect("a time");
        Idleness {
            last_lease,
            ..Idleness::new(Some(limit))
        }
    }

    async fn is_over(idleness: &Idleness) -> bool {
        timeout(Duration::ZERO, idleness.over()).await.is_ok()
    }

    #[tokio::test]
    async fn an_idle_time_of_hours_is_counted_from_the_last_lease() {
        assert!(!is_over(&idle_for(4 * HOUR, 5 * HOUR)).await);
        assert!(is_over(&idle_for(5 * HOUR, 5 * HOUR)).await);
        let for_ever = idle_for(5 * HOUR, Duration::MAX);
        assert!(!is_over(&for_ever).await, "no such time");
        assert!(!is_over(&Idleness::new(None)).await, "no limit");
    }

    #[tokio::test]
    async fn a_daemon_with_a_lease_or_a_caller_is_not_idle() {
        for (tasks, leases, was_over, begins_anew) in [
            (0, 0, true, false),
            (1, 0, false, false),
            (0, 1, false, true),
            (2, 2, false, true),
        ] {
            let mut idleness = idle_for(2 * HOUR, HOUR);
            idleness.note(tasks, leases);
            assert_eq!(is_over(&idleness).await, was_over, "{tasks} {leases}");
            idleness.note(0, 0);
            assert_eq!(is_over(&idleness).await, !begins_anew, "{tasks} {leases}");
        }
    }

    #[tokio::test]
    async fn a_busy_daemon_does_not_exit_however_short_its_idle_time_is() {
        let mut idleness = idle_for(HOUR, Duration::ZERO);
        for (tasks, leases) in [(1, 0), (0, 1)] {
            idleness.note(tasks, leases);
            assert!(!is_over(&idleness).await, "{tasks} {leases}");
        }
        idleness.note(0, 0);
        assert!(is_over(&idleness).await);
    }
}
