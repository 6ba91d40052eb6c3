//! The event loop: callers, leases that must be maintained, and signals.

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use super::leases::{self, Table};
use super::process::{Watchdog, notify_ready, notify_stopping};
use super::server::Server;

/// How long callers may take to read their "try again" when the daemon stops.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);

/// How often past leases that have expired meanwhile are removed from disk.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// The pause after a connection could not be accepted.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Serves callers and maintains leases, until the daemon is stopped by a signal, by its successor,
/// or because there was no lease for the `idle` time.
///
/// # Errors
/// If leases cannot be read from disk, or the kernel fails to wait for something.
pub(super) async fn run(
    server: &Rc<Server>,
    socket: &UnixListener,
    max_connections: usize,
    idle: Option<Duration>,
) -> io::Result<()> {
    let table = &server.table;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut sweep = interval(SWEEP_INTERVAL);
    let mut watchdog = Watchdog::new();
    let permits = Arc::new(Semaphore::new(max_connections));
    let mut tasks = JoinSet::new();
    leases::resume_all(table)?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, leases = table.len(), "dhcp daemon is ready");
    notify_ready();
    loop {
        let is_busy = !tasks.is_empty();
        tokio::select! {
            (accepted, permit) = accept(socket, &permits) => match accepted {
                Ok(stream) => {
                    let server = Rc::clone(server);
                    tasks.spawn_local(async move {
                        server.serve(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Probably out of descriptors, which other callers will free.
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY_INTERVAL).await;
                }
            },
            task = leases::maintain_next(table) => drop(tasks.spawn_local(task?)),
            outcome = leases::netns_removed(table) => outcome?,
            outcome = leases::carrier_restored(table) => outcome?,
            Some(outcome) = tasks.join_next() => if let Err(error) = outcome && error.is_panic() {
                tracing::error!(%error, "a task panicked; this is a bug");
            },
            _ = sweep.tick() => table.forget_expired(),
            () = watchdog.beat() => {}
            () = idle_for(idle, table, is_busy) => {
                tracing::info!("exiting: there was no lease for the -idle time");
                break;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = server.stop.notified() => break,
        }
    }
    stop(table, tasks).await;
    Ok(())
}

/// Answers the requests that are being served with "try again".
async fn stop(table: &Table, mut tasks: JoinSet<()>) {
    notify_stopping();
    table.stop();
    // A caller that does not read its answer in time is gone.
    let _ = timeout(SHUTDOWN_GRACE, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
    let leases = table.len();
    tracing::info!(leases, "dhcp daemon is stopping; its leases stay on disk");
}

/// Accepts the next caller, once fewer than the maximum are being served.
async fn accept(
    socket: &UnixListener,
    permits: &Arc<Semaphore>,
) -> (io::Result<UnixStream>, Option<OwnedSemaphorePermit>) {
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    (socket.accept().await.map(|(stream, _)| stream), permit)
}

/// Returns after there was neither a lease nor a task for this long. Each event restarts the time.
async fn idle_for(idle: Option<Duration>, table: &Table, is_busy: bool) {
    match idle {
        Some(idle) if !is_busy && table.len() == 0 => sleep(idle).await,
        _ => pending().await,
    }
}
