//! The daemon: one thread, one event loop, as many leases as there are containers.

mod alarm;
mod attempt;
mod books;
mod connection;
mod exchange;
mod flags;
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
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{interval, sleep, timeout};

use crate::store::{Lock, Store};
use flags::Flags;
use lease::Slot;
use listener::Listener;
use pidfile::PidFile;
use table::Table;

/// How many callers are let in at a time; further ones wait on the socket, which the kernel does for us.
const CALLERS: usize = 512;

/// How long callers have to take their "try again" when the daemon stops.
const FAREWELL: Duration = Duration::from_millis(800);

/// How often what has expired is looked for on disk.
const SWEEP: Duration = Duration::from_secs(3600);

/// How long another daemon may take to let go of its leases when it is asked to hand over.
const HANDOVER: Duration = Duration::from_secs(5);

/// What serves callers and leases.
#[derive(Debug)]
pub(crate) struct Daemon {
    table: Table,
    listener: Listener,
    /// Somebody asked for the end.
    stop: Notify,
    /// How long to stay without a lease; `None`: for ever.
    idle: Option<Duration>,
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
    raise_descriptor_limit();
    let listener = Listener::open(&flags.socketpath, flags.takeover)?;
    let lock = lock(&store, if flags.takeover { HANDOVER } else { Duration::ZERO })?;
    let _pidfile = flags.pidfile.clone().map(PidFile::write).transpose()?;
    // Two threads for what blocks, which is the closing of packet sockets.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let socket = UnixListener::from_std(listener.socket()?)?;
        let idle = flags.idle;
        let daemon =
            Rc::new(Daemon { table: Table::new(flags, store)?, listener, stop: Notify::new(), idle });
        serve(&daemon, socket).await
    })?;
    drop(local);
    // Only now: whoever waits for it goes on with the leases as they are on disk.
    drop(lock);
    Ok(())
}

/// Serves callers and leases until a signal, or a successor, says to stop.
async fn serve(daemon: &Rc<Daemon>, socket: UnixListener) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut sweep = interval(SWEEP);
    daemon.table.resume()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), leases = daemon.table.len(), "dhcp daemon is ready");
    notify(NotifyState::Ready);
    let callers = Arc::new(Semaphore::new(CALLERS));
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
            Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                tracing::error!(%error, "serving a caller failed; this is a bug");
            },
            _ = sweep.tick() => daemon.table.sweep(),
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
    let _ = timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await;
    tracing::info!(leases = daemon.table.len(), "dhcp daemon stops; no lease is given back");
    Ok(())
}

/// Returns when there has been nothing to do for as long as the daemon is to stay without a lease. Whatever happens
/// meanwhile begins this anew.
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
) -> (io::Result<tokio::net::UnixStream>, Option<tokio::sync::OwnedSemaphorePermit>) {
    let place = Arc::clone(callers).acquire_owned().await.ok();
    (socket.accept().await.map(|(stream, _)| stream), place)
}

/// Does what a lease wants done. A bug that one lease brings to light costs the others nothing, and this one its
/// exchange: it is taken up again as it is on disk.
async fn maintain(daemon: Rc<Daemon>, slot: Rc<Slot>) {
    let task = {
        let (daemon, slot) = (Rc::clone(&daemon), Rc::clone(&slot));
        spawn_local(async move { daemon.table.maintain(&slot).await })
    };
    if let Err(error) = task.await
        && error.is_panic()
    {
        tracing::error!(attachment = %slot.attachment, %error, "keeping a lease failed; this is a bug");
        daemon.table.recover(&slot);
    }
}

/// Takes the lock of the state directory, waiting for at most `patience` while another daemon has it.
fn lock(store: &Store, patience: Duration) -> Result<Lock, Box<dyn std::error::Error>> {
    let directory = store.directory().display();
    let deadline = std::time::Instant::now() + patience;
    let mut asked = false;
    loop {
        match store.lock() {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if std::time::Instant::now() < deadline => {
                // It was asked over its socket, unless that is ours by now: systemd binds the path anew.
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
                return Err(format!("the state directory {directory} cannot be used: {error}").into());
            }
        }
    }
}

/// A request takes a few descriptors while it lasts, and the usual soft limit is low. That it cannot be raised is no
/// reason not to start.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
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
