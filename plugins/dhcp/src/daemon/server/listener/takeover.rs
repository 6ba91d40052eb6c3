//! Taking over the sockets of the daemon that is running.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use attachment::lock_within;

use super::bind::{lock_file, open_lock};
use crate::protocol::{self, Reply, Request, VERSION, Verb};

/// How long the other daemon may take to hand over its socket.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// What another daemon has handed over.
pub(super) struct TakenOver {
    /// The socket that was asked for.
    pub(super) socket: UnixListener,
    /// Its lock. Without one, the socket is the service manager's.
    pub(super) lock: Option<File>,
    /// The other sockets that the daemon has listened on.
    pub(super) others: Vec<UnixListener>,
}

/// Takes the socket on `path`, and all others, from the daemon at the other end of `stream`, which
/// then exits.
pub(super) fn take_over(path: &Path, stream: UnixStream) -> io::Result<TakenOver> {
    protocol::ensure_trusted(&stream, path)?;
    let (socket, others) = ask_for_sockets(stream)?;
    Ok(TakenOver {
        socket,
        lock: take_lock(path)?,
        others,
    })
}

/// The lock of a socket that was taken over; `None` if it has none.
pub(super) fn take_lock(path: &Path) -> io::Result<Option<File>> {
    let lock_path = lock_file(path);
    if !lock_path.exists() {
        return Ok(None);
    }
    let lock = open_lock(&lock_path)?;
    // The other daemon releases it in a moment, when it has sent its last replies.
    if lock_within(&lock, TAKEOVER_TIMEOUT)? {
        return Ok(Some(lock));
    }
    // Callers reach nobody but us by now.
    tracing::warn!(lock = %lock_path.display(), "another process keeps the lock of the socket; continuing without it");
    Ok(None)
}

/// Asks a daemon for the listening socket of this connection, and for all others.
fn ask_for_sockets(mut stream: UnixStream) -> io::Result<(UnixListener, Vec<UnixListener>)> {
    stream.set_read_timeout(Some(TAKEOVER_TIMEOUT))?;
    let request = Request {
        protocol: VERSION,
        traceparent: None,
        verb: Verb::Takeover,
    };
    stream.write_all(&protocol::to_line(&request)?)?;
    let mut answer = [0; 4096];
    let (length, descriptors) = protocol::receive_all(&stream, &mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    let mut sockets: Vec<UnixListener> = descriptors.into_iter().map(Into::into).collect();
    let socket = sockets.pop();
    let socket = socket.ok_or_else(|| io::Error::other(refusal(&answer)))?;
    Ok((socket, sockets))
}

/// Why another daemon does not hand over its socket, from its answer.
fn refusal(answer: &str) -> String {
    if protocol::is_of_go_daemon(answer) {
        return "the daemon of the Go plugins listens there, which hands nothing over: stop it, and \
                start this one without -takeover"
            .to_owned();
    }
    match serde_json::from_str(answer) {
        Ok(Reply::Error { msg, details, .. }) if details.is_empty() => msg,
        Ok(Reply::Error { msg, details, .. }) => format!("{msg}; {details}"),
        _ if answer.is_empty() => "the other daemon closed the connection: try again".to_owned(),
        _ => "the process that listens there is no dhcp daemon of leasehold: stop it first, or \
              choose another -socketpath"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_sentence() {
        let refused =
            r#"{"error":{"code":5,"msg":"only root may request a takeover","details":""}}"#;
        for (answer, sentence) in [
            (refused, "only root may request a takeover"),
            (
                "HTTP/1.1 400 Bad Request\r\n",
                "the daemon of the Go plugins listens there",
            ),
            (
                r#"{"error":{"code":5,"msg":"stop it","details":"it is busy"}}"#,
                "stop it; it is busy",
            ),
            ("", "the other daemon closed the connection"),
            ("{\"done\":1}", "is no dhcp daemon of leasehold"),
            ("220 smtp", "is no dhcp daemon of leasehold"),
        ] {
            let shown = refusal(answer);
            assert!(shown.contains(sentence) && !shown.contains('{'), "{shown}");
            assert!(!shown.ends_with("; "), "{shown}");
        }
    }

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
