//! Starting the daemon from the plugin, where the configuration asks for it and nobody else has.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Error, code};

use crate::client::Failure;
use crate::config::Whereabouts;

/// How long a daemon may take until it listens. It has only to read the leases that are on disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a daemon that was started so stays when it has no lease.
const IDLE: &str = "5m";

/// Starts a daemon of its own session, and asks it. Of several that are started at a time the first
/// one stays.
///
/// # Errors
/// 11, when none comes to listening; otherwise what `ask_daemon` fails with.
pub(crate) fn start<T>(
    daemon: &Whereabouts,
    ask_daemon: impl Fn() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let failed = |why: String| {
        let what = format!(
            "no dhcp daemon listens at {}, and starting one failed",
            daemon.socket.display()
        );
        Failure::Failed(Error::new(code::TRY_AGAIN_LATER, what).details(why))
    };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(program);
    command
        .args(["daemon", "--detach", "--idle", IDLE, "--socketpath"])
        .arg(&daemon.socket);
    command.arg("--statedir").arg(daemon.store.directory());
    // Nothing of the runtime's goes along: neither its variables nor, on the daemon's side, its
    // descriptors.
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask_daemon() {
            // Or one that was there before has just left.
            Err(Failure::Absent(_) | Failure::Ended(_)) if Instant::now() < deadline => {}
            Err(Failure::Absent(absent)) => {
                let end = match child.try_wait() {
                    Ok(Some(status)) => format!("it ended with {status}"),
                    _ => format!("it did not listen within {} s", PATIENCE.as_secs()),
                };
                return Err(failed(format!("{end}; {absent}")));
            }
            other => return other,
        }
        sleep(Duration::from_millis(2));
    }
}
