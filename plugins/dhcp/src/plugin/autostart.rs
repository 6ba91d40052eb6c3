//! Starting the daemon from the plugin, if the configuration asks for it and none is listening.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Error, code};

use super::client::Failure;
use crate::config::DaemonLocation;

/// How long a daemon may take until it is listening. It only has to read its leases from disk.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a daemon that was started this way keeps running without a lease.
const IDLE: &str = "5m";

/// Starts a daemon in a session of its own, and asks it. If several are started at the same time,
/// the first one stays.
///
/// # Errors
/// `TRY_AGAIN_LATER` (11) if no daemon starts to listen; otherwise the error of `ask_daemon`.
pub(super) fn start<T>(
    daemon: &DaemonLocation,
    ask_daemon: impl Fn() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let failed = |why: String| {
        let what = format!(
            "no dhcp daemon is listening at {}, and the plugin cannot start one",
            daemon.socket.display()
        );
        Failure::Failed(Error::new(code::TRY_AGAIN_LATER, what).details(why))
    };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(program);
    command
        .args(["daemon", "--detach", "--idle", IDLE, "--socketpath"])
        .arg(&daemon.socket);
    command.arg("--statedir").arg(daemon.state.path());
    // The daemon inherits nothing from the runtime: no variables, and it closes the descriptors.
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match ask_daemon() {
            // Not yet; or an earlier daemon has just exited.
            Err(Failure::NoDaemon(_) | Failure::DaemonExited(_)) if Instant::now() < deadline => {}
            Err(Failure::NoDaemon(error)) => {
                let outcome = match child.try_wait() {
                    Ok(Some(status)) => format!("it exited with {status}"),
                    _ => format!("it did not listen within {} s", START_TIMEOUT.as_secs()),
                };
                return Err(failed(format!("{outcome}; {error}")));
            }
            outcome => return outcome,
        }
        sleep(Duration::from_millis(2));
    }
}
