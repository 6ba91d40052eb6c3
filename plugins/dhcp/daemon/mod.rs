//! The daemon: one thread, one event loop, as many leases as there are containers.

mod alarm;
mod connection;
mod duration;
mod exchange;
mod flags;
mod interface;
mod lease;
mod listener;
mod pidfile;
mod place;
mod result;
mod service;
mod sockets;
mod table;
mod watch;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

use flags::Flags;
use listener::Listener;
use pidfile::PidFile;
use table::Table;

/// Runs the daemon with the arguments after `dhcp daemon`, until SIGTERM or SIGINT.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags = Flags::from_args(args);
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_target(false).init();
    match run(flags) {
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

fn run(flags: Flags) -> Result<(), Box<dyn std::error::Error>> {
    let listener = Listener::open(&flags.socketpath)?;
    let _pidfile = flags.pidfile.clone().map(PidFile::write).transpose()?;
    // Two threads for what blocks, which is the closing of packet sockets.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let local = LocalSet::new();
    let served = local.block_on(&runtime, serve(flags, &listener));
    // In-flight requests end here, and their callers see the connection close.
    drop(local);
    served?;
    Ok(())
}

/// Serves callers and leases until a signal says to stop.
async fn serve(flags: Flags, listener: &Listener) -> io::Result<()> {
    let socket = UnixListener::from_std(listener.socket()?)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(socket = %flags.socketpath.display(), version = env!("CARGO_PKG_VERSION"), "dhcp daemon is ready");
    let table = Rc::new(Table::new(flags)?);
    notify(NotifyState::Ready);
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => drop(spawn_local(service::serve(Rc::clone(&table), stream))),
                Err(error) => {
                    // Out of descriptors, most likely: those in use will be given back.
                    tracing::error!(%error, "a caller could not be let in");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            due = table.due() => {
                let (table, slot) = (Rc::clone(&table), due?);
                spawn_local(async move { table.maintain(slot).await });
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    notify(NotifyState::Stopping);
    tracing::info!(leases = table.len(), "dhcp daemon stops; no lease is given back");
    Ok(())
}

/// Tells the service manager, if there is one.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
