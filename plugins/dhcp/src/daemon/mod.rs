//! The daemon: one thread, one event loop, and as many leases as there are containers.
//!
//! ```text
//! event_loop ─▶ server (callers) ─▶ leases (table) ─▶ exchange (client, sockets)
//!                                                  ─▶ interface (the container follows its lease)
//!                                                  ─▶ host_routes (so does the host)
//!                                                  ─▶ store (and the disk)
//! ```

mod error;
mod event_loop;
mod exchange;
mod host_routes;
mod interface;
mod leases;
mod process;
mod server;
mod store;
mod watchers;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use rustix::process::geteuid;
use tokio::net::UnixListener;
use tokio::task::LocalSet;

use crate::state::StateDir;
use error::cannot;
use leases::Table;
use process::{Flags, PidFile, confine, lock_state, log};
use server::{Limits, ListenError, Listener, Server};

pub(crate) use leases::{EndedLease, Outcome, release_offline};

/// Its command line.
pub(crate) fn command() -> clap::Command {
    <Flags as clap::CommandFactory>::command()
}

/// Runs the daemon with the arguments after `dhcp daemon`, until SIGTERM or SIGINT.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags = Flags::from_args(args);
    let state = flags.state();
    if !flags.detach {
        log::to_stderr(flags.log_level());
    } else if log::detach(state.path(), flags.log_level()).is_err() {
        return ExitCode::FAILURE;
    }
    match run(flags, state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let advice = match is_denied(&*error) {
                true => " (the daemon must be started as root)",
                false => "",
            };
            tracing::error!("{}{advice}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags, state: StateDir) -> Result<(), Box<dyn Error>> {
    if state.is_beside_socket() {
        let directory = state.path().display();
        tracing::info!(
            "leases are kept in {directory}, on the file system of the socket: the usual directory is \
             on the root file system, which in a container ends with it (-statedir chooses another)"
        );
    }
    let limits = Limits::of_process();
    let (path, podman) = (flags.socket(), flags.podman_socket());
    let open = || Listener::open_all(&path, podman.as_deref(), flags.takeover, flags.group);
    let (listeners, lock) = match open() {
        // Nobody can ask that daemon over its socket, but its leases tell who it is.
        Err(ListenError::Unreachable(_)) if flags.takeover => {
            let lock = lock_state(&state, true)?;
            (open()?, lock)
        }
        listeners => (listeners?, lock_state(&state, flags.takeover)?),
    };
    let _pidfile = flags.pidfile.clone().map(PidFile::write).transpose()?;
    let others = [&podman, &flags.pidfile].into_iter().flatten();
    let removed = std::iter::once(&path).chain(others);
    confine(state.path(), removed.map(PathBuf::as_path));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot("prepare to wait for events"))?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let sockets = listeners
            .iter()
            .map(|listener| listener.socket().and_then(UnixListener::from_std))
            .collect::<io::Result<Vec<_>>>()
            .map_err(cannot("wait for callers"))?;
        let (idle, group) = (flags.idle, flags.group);
        let table = Table::new(flags, state, limits.adds, limits.maintenance)?;
        let server = Rc::new(Server::new(
            Rc::new(table),
            listeners,
            group,
            limits.connections,
        ));
        event_loop::run(&server, &sockets, limits.connections, idle).await
    })?;
    drop(tasks);
    // A process that waits for the lock continues with the leases as they are on disk, and with
    // host routes that are not done. The kernel unlocks it when all threads have ended.
    std::mem::forget(lock);
    Ok(())
}

/// Whether the daemon's user lacked a right, and is not root.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let is_denied = |error: &(dyn Error + 'static)| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    !geteuid().is_root() && (is_denied(error) || error.source().is_some_and(is_denied))
}

/// The error and what caused it, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
