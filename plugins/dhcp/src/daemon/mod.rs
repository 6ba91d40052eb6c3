//! The daemon: one thread, one event loop, as many leases as there are containers.

mod add;
mod alarm;
mod attempt;
mod books;
mod carrier;
mod conflict;
mod connection;
mod exchange;
mod flags;
mod host_access;
mod interface;
mod lease;
mod listener;
mod log;
mod memory;
mod pidfile;
mod result;
mod resume;
mod service;
mod sockets;
mod table;
mod vanish;
mod watch;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cni::{Error, code};
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinError, JoinSet, LocalSet};
use tokio::time::{interval, sleep, timeout};

use crate::store::{Lock, Store};
use flags::Flags;
use lease::Slot;
use listener::Listener;
use pidfile::PidFile;
use table::Table;

/// How many callers are let in at a time; further ones wait on the socket, which the kernel does
/// for us.
const CALLERS: u64 = 512;

/// How many ADDs talk to servers at a time: servers are easily flooded.
const EXCHANGES: u64 = 128;

/// How long callers have to take their "try again" when the daemon stops.
const FAREWELL: Duration = Duration::from_millis(800);

/// How often what has expired is looked for on disk.
const SWEEP: Duration = Duration::from_secs(3600);

/// How long another daemon may take to let go of its leases when it is asked to hand over.
const HANDOVER: Duration = Duration::from_secs(5);

/// How long the leases may be in other hands at the start: a DEL that found no daemon has them for
/// milliseconds, a daemon that was told to stop for the time of its farewell.
const IN_USE: Duration = Duration::from_secs(2);

/// What serves callers and leases.
#[derive(Debug)]
pub(crate) struct Daemon {
    table: Table,
    listener: Listener,
    /// Somebody asked for the end.
    stop: Notify,
    /// How long to stay without a lease; `None`: for ever.
    idle: Option<Duration>,
    /// Who may use the socket beside root.
    group: Option<u32>,
}

/// Its command line.
pub(crate) fn command() -> clap::Command {
    <Flags as clap::CommandFactory>::command()
}

/// Runs the daemon with the arguments after `dhcp daemon`, until SIGTERM or SIGINT.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags = Flags::from_args(args);
    let store = match &flags.statedir {
        Some(directory) => Store::at(directory.clone()),
        None => Store::of_socket(&flags.socketpath),
    };
    if !flags.detach {
        log::to_stderr();
    } else if log::detached(store.directory()).is_err() {
        return ExitCode::FAILURE;
    }
    match run(flags, store) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = String::new();
            let mut cause = error.source();
            while let Some(error) = cause {
                causes.push_str(&format!(": {error}"));
                cause = error.source();
            }
            tracing::error!("{error}{causes}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags, store: Store) -> Result<(), Box<dyn std::error::Error>> {
    let room = Room::within(raise_descriptor_limit());
    let listener = Listener::open(&flags.socketpath, flags.takeover, flags.group)?;
    let lock = lock(&store, flags.takeover)?;
    let _pidfile = flags.pidfile.clone().map(PidFile::write).transpose()?;
    // Two threads for what blocks: the closing of packet sockets, and the lock on links that
    // containers share.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    // What is still under way at the end closes its sockets through the runtime.
    let _context = runtime.enter();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let socket = UnixListener::from_std(listener.socket()?)?;
        let (idle, group) = (flags.idle, flags.group);
        let daemon = Rc::new(Daemon {
            table: Table::new(flags, store, room.exchanges)?,
            listener,
            stop: Notify::new(),
            idle,
            group,
        });
        serve(&daemon, socket, room.callers).await
    })?;
    drop(local);
    // Only now: whoever waits for it goes on with the leases as they are on disk.
    drop(lock);
    Ok(())
}

/// Serves callers and leases until a signal, or a successor, says to stop.
async fn serve(daemon: &Rc<Daemon>, socket: UnixListener, callers: usize) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut sweep = interval(SWEEP);
    // Twice as often as the service manager wants to hear that we are alive.
    let watchdog = sd_notify::watchdog_enabled().filter(|period| !period.is_zero());
    let mut heartbeat = interval(watchdog.map_or(SWEEP, |period| period / 2));
    daemon.table.resume()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        leases = daemon.table.len(),
        "dhcp daemon is ready"
    );
    notify(NotifyState::Ready);
    let callers = Arc::new(Semaphore::new(callers));
    let mut tasks = JoinSet::new();
    loop {
        let busy = !tasks.is_empty();
        tokio::select! {
            (accepted, place) = accept(&socket, &callers) => match accepted {
                Ok(stream) => {
                    let daemon = Rc::clone(daemon);
                    tasks.spawn_local(async move {
                        service::serve(&daemon, stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: those in use will be given back.
                    tracing::error!(%error, "a caller could not be let in");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            due = daemon.table.due() => drop(tasks.spawn_local(maintain(Rc::clone(daemon), due?))),
            gone = daemon.table.vanished() => gone?,
            reconnected = daemon.table.reconnected() => reconnected?,
            Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                tracing::error!(%error, "serving a caller failed; this is a bug");
            },
            _ = sweep.tick() => daemon.table.sweep(),
            _ = heartbeat.tick(), if watchdog.is_some() => notify(NotifyState::Watchdog),
            () = idle(daemon, busy) => {
                tracing::info!("no lease for a while");
                break;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = daemon.stop.notified() => break,
        }
    }
    notify(NotifyState::Stopping);
    daemon.table.stop();
    // Requests under way are answered with "try again"; who does not take the answer now has gone.
    let _ = timeout(FAREWELL, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
    tracing::info!(
        leases = daemon.table.len(),
        "dhcp daemon stops; no lease is given back"
    );
    Ok(())
}

/// Returns when there has been nothing to do for as long as the daemon is to stay without a lease.
/// Whatever happens meanwhile begins this anew.
async fn idle(daemon: &Daemon, busy: bool) {
    match daemon.idle {
        Some(patience) if !busy && daemon.table.len() == 0 => sleep(patience).await,
        _ => std::future::pending().await,
    }
}

/// Lets the next caller in, once there is room for one.
async fn accept(
    socket: &UnixListener,
    callers: &Arc<Semaphore>,
) -> (
    io::Result<tokio::net::UnixStream>,
    Option<tokio::sync::OwnedSemaphorePermit>,
) {
    let place = Arc::clone(callers).acquire_owned().await.ok();
    (socket.accept().await.map(|(stream, _)| stream), place)
}

/// Does what a lease wants done. A bug that one lease brings to light costs the others nothing, and
/// this one its exchange: it is taken up again as it is on disk.
async fn maintain(daemon: Rc<Daemon>, slot: Rc<Slot>) {
    let work = {
        let (daemon, slot) = (Rc::clone(&daemon), Rc::clone(&slot));
        async move { daemon.table.maintain(&slot).await }
    };
    if let Err(panic) = contained(work).await {
        tracing::error!(attachment = %slot.attachment, %panic, "keeping a lease failed; this is a bug");
        daemon.table.recover(&slot);
    }
}

/// Does something that may panic, at the cost of nobody else. It goes with whoever waits for it.
async fn contained(work: impl Future<Output = ()> + 'static) -> Result<(), JoinError> {
    let mut task = JoinSet::new();
    task.spawn_local(work);
    match task.join_next().await {
        Some(Err(error)) if error.is_panic() => Err(error),
        _ => Ok(()),
    }
}

/// Takes the lock of the state directory, waiting a little while somebody else has it; with
/// `take_over`, a daemon that has it is asked to end.
fn lock(store: &Store, take_over: bool) -> Result<Lock, Box<dyn std::error::Error>> {
    let directory = store.directory().display();
    let deadline = std::time::Instant::now() + if take_over { HANDOVER } else { IN_USE };
    let mut asked = !take_over;
    loop {
        match store.lock() {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if std::time::Instant::now() < deadline => {
                // It was asked over its socket, unless that is ours by now: systemd binds the path
                // anew.
                if !asked && let Some(holder) = store.holder() {
                    tracing::info!(
                        pid = holder.as_raw_nonzero(),
                        "asking the daemon that has the leases to end"
                    );
                    let _ = rustix::process::kill_process(holder, rustix::process::Signal::TERM);
                    asked = true;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None) => {
                return Err(format!("another dhcp daemon keeps its leases in {directory}: stop it first, or choose another -statedir").into());
            }
            Err(error) => {
                return Err(
                    format!("the state directory {directory} cannot be used: {error}").into(),
                );
            }
        }
    }
}

/// How much is taken on at a time. More waits in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    callers: usize,
    exchanges: usize,
}

impl Room {
    /// As much as so many descriptors allow: a caller takes two while it waits, and one that is
    /// served four more, until its sockets are closed. The daemon itself, and what its leases want
    /// meanwhile, takes some as well.
    fn within(descriptors: u64) -> Room {
        let left = descriptors.saturating_sub(24);
        let at_most = |share: u64, most: u64| usize::try_from(share.clamp(4, most)).unwrap_or(4);
        Room {
            callers: at_most(left / 5, CALLERS),
            exchanges: at_most(left / 10, EXCHANGES),
        }
    }
}

/// A request takes a few descriptors while it lasts, and the usual soft limit is low. That it
/// cannot be raised is no reason not to start. Returns what there is now.
fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Tells the service manager, if there is one.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// An error that is nobody's fault but ours.
fn internal(problem: &dyn std::fmt::Display) -> Error {
    Error::new(code::INTERNAL, format!("the dhcp daemon failed: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_nobody_else_anything() {
        let local = LocalSet::new();
        let others = local.run_until(async {
            let mut others = JoinSet::new();
            others.spawn_local(async {
                sleep(Duration::from_millis(20)).await;
                "done"
            });
            let panicked = contained(async { panic!("a bug") }).await;
            assert!(panicked.is_err_and(|error| error.to_string().contains("a bug")));
            assert!(contained(async {}).await.is_ok());
            others.join_next().await
        });
        assert!(matches!(others.await, Some(Ok("done"))));
    }

    #[test]
    fn what_is_taken_on_fits_the_descriptors() {
        for descriptors in [64, 256, 1024, 4096, 1 << 20, u64::MAX] {
            let Room { callers, exchanges } = Room::within(descriptors);
            assert!(
                (2 * callers + 4 * exchanges + 24) as u64 <= descriptors,
                "{descriptors}: {callers} {exchanges}"
            );
        }
        assert_eq!(
            Room::within(1 << 20),
            Room {
                callers: 512,
                exchanges: 128
            }
        );
    }
}
