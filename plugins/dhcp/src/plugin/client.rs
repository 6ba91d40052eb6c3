//! The plugin's side of the daemon's socket: one request, one reply, one connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cni::{Error, code, json_problem};
use rustix::process::geteuid;

use crate::protocol::{self, MAX_REPLY, Reply, Request, Verb};

/// How long the plugin waits for a reply. The daemon limits each request itself, to much less; this
/// only guards against a daemon that hangs. kubelet gives up after two minutes.
const REPLY_TIMEOUT: Duration = Duration::from_secs(115);

/// How long for requests that the daemon answers at once, so that a probe notices one that hangs.
const IMMEDIATE_REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long for a DEL, which may follow an ADD that failed.
const DEL_REPLY_TIMEOUT: Duration = Duration::from_secs(40);

/// How long beyond the time that the configuration gives to an ADD.
const ADD_MARGIN: Duration = Duration::from_secs(15);

/// Why a request was not served.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No daemon listens on the socket.
    NoDaemon(Error),
    /// The daemon exited before it answered; another one may start in a moment.
    DaemonExited(Error),
    /// The daemon of the Go plugins listens on the socket.
    GoDaemon(Error),
    /// A user listens on the socket who cannot be believed.
    Stranger(Error),
    /// The daemon refused, or the connection failed.
    Failed(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::NoDaemon(error)
            | Failure::DaemonExited(error)
            | Failure::GoDaemon(error)
            | Failure::Stranger(error)
            | Failure::Failed(error) => error,
        }
    }
}

/// Asks the daemon at `socket` to do `verb`, and passes it the container's netns, if there is one.
///
/// # Errors
/// [`Failure::NoDaemon`] (50) if none listens there, [`Failure::DaemonExited`] (11) if it exited,
/// [`Failure::GoDaemon`] (50) if it is that of the Go plugins, [`Failure::Stranger`] (5) if it is of
/// another user; otherwise the daemon's own error, or `IO_FAILURE` (5) if the connection failed.
pub(crate) fn ask(
    socket: &Path,
    verb: Verb,
    traceparent: Option<String>,
    netns: Option<BorrowedFd<'_>>,
) -> Result<Reply, Failure> {
    ask_within(max_wait(&verb), socket, verb, traceparent, netns)
}

/// How long to wait for the reply.
fn max_wait(verb: &Verb) -> Duration {
    match verb {
        Verb::Status
        | Verb::Describe
        | Verb::Lease { .. }
        | Verb::Leases { .. }
        | Verb::Renew { .. }
        | Verb::Check { .. } => IMMEDIATE_REPLY_TIMEOUT,
        Verb::Del { .. } => DEL_REPLY_TIMEOUT,
        Verb::Add { params, .. } => {
            let configured = params.timeout.map(|timeout| timeout + ADD_MARGIN);
            configured.map_or(REPLY_TIMEOUT, |wait| wait.min(REPLY_TIMEOUT))
        }
        _ => REPLY_TIMEOUT,
    }
}

/// Like [`ask`], waiting this long for the reply.
fn ask_within(
    max_wait: Duration,
    socket: &Path,
    verb: Verb,
    traceparent: Option<String>,
    netns: Option<BorrowedFd<'_>>,
) -> Result<Reply, Failure> {
    let stream = UnixStream::connect(socket).map_err(|error| cannot_connect(socket, &error))?;
    protocol::ensure_trusted(&stream, socket)
        .map_err(|error| Failure::Stranger(io_failure(socket, error.to_string())))?;
    let request = Request {
        protocol: protocol::VERSION,
        traceparent,
        verb,
    };
    let line = exchange(stream, &request, netns, max_wait).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => exited(socket),
        io::ErrorKind::WouldBlock => failed(
            socket,
            format!("it has not answered within {max_wait:?}: look at its log, and restart it"),
        ),
        _ => failed(socket, error.to_string()),
    })?;
    if line.is_empty() {
        return Err(exited(socket));
    }
    if protocol::is_of_go_daemon(&line) {
        return Err(go_daemon(socket));
    }
    match serde_json::from_str(&line) {
        Ok(Reply::Error { code, msg, details }) => {
            Err(Failure::Failed(Error::new(code, msg).details(details)))
        }
        Ok(reply) => Ok(reply),
        Err(error) => Err(failed(
            socket,
            format!("cannot parse its reply: {}", json_problem(&error)),
        )),
    }
}

/// Like [`ask`], for a verb that is answered by [`Reply::Done`].
///
/// # Errors
/// As for [`ask`]; also `IO_FAILURE` (5) for any other reply.
pub(crate) fn ask_to(
    socket: &Path,
    verb: Verb,
    traceparent: Option<String>,
) -> Result<(), Failure> {
    match ask(socket, verb, traceparent, None)? {
        Reply::Done => Ok(()),
        other => Err(Failure::Failed(unexpected(&other))),
    }
}

/// The error for a reply that does not belong to the verb.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    let kind = match reply {
        Reply::Done => "\"done\"",
        Reply::Lease(_) => "a lease",
        Reply::Daemon(_) => "a description of the daemon",
        Reply::Leases { .. } => "a list of leases",
        Reply::Error { .. } => "an error",
    };
    let what = format!("the dhcp daemon sent a reply that does not fit the request: {kind}");
    Error::new(code::IO_FAILURE, what)
        .details("install plugin and daemon from the same release, and restart the daemon")
}

/// Sends the request and reads the line that is the reply; an empty one if there is none.
fn exchange(
    mut stream: UnixStream,
    request: &Request,
    netns: Option<BorrowedFd<'_>>,
    max_wait: Duration,
) -> io::Result<String> {
    stream.set_read_timeout(Some(max_wait))?;
    let document = protocol::to_line(request)?;
    let sent = protocol::send(&stream, &document, netns.as_slice())?;
    stream.write_all(&document[sent..])?;
    let mut line = String::new();
    BufReader::new(stream)
        .take(MAX_REPLY as u64)
        .read_line(&mut line)?;
    Ok(line)
}

/// How a daemon is started. `cni-dhcp.socket` may be that of the Go plugins beside the RPM's.
pub(crate) const START: &str =
    "start it with `dhcp daemon`, or enable cni-dhcp.socket (of the RPM: leasehold-dhcp.socket)";

fn cannot_connect(socket: &Path, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket",
        io::ErrorKind::ConnectionRefused => "the socket exists, but no process listens on it",
        io::ErrorKind::PermissionDenied => return Failure::Failed(not_permitted(socket)),
        _ => return failed(socket, error.to_string()),
    };
    let what = format!("no dhcp daemon at {}: {why}", socket.display());
    Failure::NoDaemon(
        Error::new(code::PLUGIN_NOT_AVAILABLE, what).details(format!(
            "{START}; if it listens on another socket, set `daemonSocketPath` in the ipam section"
        )),
    )
}

fn not_permitted(socket: &Path) -> Error {
    let what = format!(
        "no permission to use the dhcp daemon at {}",
        socket.display()
    );
    let uid = geteuid().as_raw();
    Error::new(code::IO_FAILURE, what).details(format!(
        "only root may, and members of the group that the daemon admits (-group), not uid {uid}: run \
         this as root, or as a member of that group"
    ))
}

fn exited(socket: &Path) -> Failure {
    let what = format!(
        "the dhcp daemon at {} exited before it answered: try again",
        socket.display()
    );
    Failure::DaemonExited(Error::new(code::TRY_AGAIN_LATER, what))
}

fn go_daemon(socket: &Path) -> Failure {
    let what = format!(
        "the daemon of the Go plugins listens at {}, and this plugin cannot use it",
        socket.display()
    );
    Failure::GoDaemon(Error::new(code::PLUGIN_NOT_AVAILABLE, what).details(
        "stop it and start `dhcp daemon` of this release: plugins and daemon are replaced together",
    ))
}

fn failed(socket: &Path, why: String) -> Failure {
    Failure::Failed(io_failure(socket, why))
}

fn io_failure(socket: &Path, why: String) -> Error {
    let what = format!("cannot talk to the dhcp daemon at {}", socket.display());
    Error::new(code::IO_FAILURE, what).details(why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use cni::Attachment;

    use super::*;

    #[test]
    fn a_daemon_that_does_not_answer_is_said_to_hang() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let socket = scratch.path().join("dhcp.sock");
        let _hangs = UnixListener::bind(&socket).expect("a socket");
        let max_wait = Duration::from_millis(10);
        let failure = ask_within(max_wait, &socket, Verb::Status, None, None);
        let error = Error::from(failure.expect_err("nobody answers"));
        assert_eq!(
            error.details,
            "it has not answered within 10ms: look at its log, and restart it"
        );
    }

    /// A daemon that hangs costs an ADD and the DEL that undoes it less than kubelet's two minutes,
    /// if the configuration says how long an ADD may take.
    #[test]
    fn a_caller_waits_for_a_daemon_that_hangs_little_longer_than_it_was_told() {
        let attachment = Attachment::new("c1", "lan", "eth0").expect("valid");
        let add = |timeout| {
            let mut params = crate::state::tests::record().params;
            params.timeout = timeout;
            Verb::Add {
                attachment: attachment.clone(),
                netns: "/run/netns/c1".into(),
                params: Box::new(params),
                waited: None,
                id: None,
            }
        };
        let seconds = Duration::from_secs;
        assert_eq!(max_wait(&add(None)), REPLY_TIMEOUT);
        assert_eq!(max_wait(&add(Some(seconds(5)))), seconds(20));
        assert_eq!(max_wait(&add(Some(seconds(110)))), REPLY_TIMEOUT);
        let del = Verb::Del {
            attachment: attachment.clone(),
            only: None,
        };
        assert_eq!(max_wait(&del), seconds(40));
    }
}
