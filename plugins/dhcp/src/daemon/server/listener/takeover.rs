//! Taking over the socket of the daemon that is running.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use attachment::lock_within;

use super::bind::{lock_file, open_lock};
use crate::protocol::{self, Request, VERSION, Verb};

/// How long the other daemon may take to hand over its socket.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes the socket on `path` from the daemon at the other end of `stream`, which then exits, and
/// its lock. Without a lock file beside it, the socket is the service manager's.
pub(super) fn take_over(
    path: &Path,
    stream: UnixStream,
) -> io::Result<(UnixListener, Option<File>)> {
    protocol::ensure_trusted(&stream, path)?;
    let socket = ask_for_socket(stream)?;
    let lock_path = lock_file(path);
    if !lock_path.exists() {
        return Ok((socket, None));
    }
    let lock = open_lock(&lock_path)?;
    // The other daemon releases it in a moment, when it has sent its last replies.
    if lock_within(&lock, TAKEOVER_TIMEOUT)? {
        return Ok((socket, Some(lock)));
    }
    // Callers reach nobody but us by now.
    tracing::warn!(lock = %lock_path.display(), "another process keeps the lock of the socket; continuing without it");
    Ok((socket, None))
}

/// Asks a daemon for its listening socket.
fn ask_for_socket(mut stream: UnixStream) -> io::Result<UnixListener> {
    stream.set_read_timeout(Some(TAKEOVER_TIMEOUT))?;
    let request = Request {
        protocol: VERSION,
        traceparent: None,
        verb: Verb::Takeover,
    };
    stream.write_all(&protocol::to_line(&request)?)?;
    let mut descriptor = None;
    let mut answer = [0; 4096];
    let length = protocol::receive(&stream, &mut answer, &mut descriptor)?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    let descriptor = descriptor
        .ok_or_else(|| io::Error::other(format!("the other daemon answered {}", answer.trim())))?;
    Ok(UnixListener::from(descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_another_process_keeps_is_not_waited_for_without_end() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("lock");
        let theirs = open_lock(&path).expect("a lock");
        theirs.lock().expect("it is free");
        let ours = open_lock(&path).expect("a lock");
        assert!(!lock_within(&ours, Duration::from_millis(10)).expect("no error"));
        theirs.unlock().expect("it is ours");
        assert!(lock_within(&ours, Duration::from_millis(10)).expect("no error"));
    }
}
