//! The plugin's side of the daemon's socket: one request, one reply, one connection.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cni::{Error, code};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::protocol::{self, MAX_DOCUMENT, Reply, Request, Verb};

/// How long the plugin waits for a reply. The daemon bounds each request itself, well below this;
/// the plugin's own bound only guards against a daemon that hangs, and lies below the two minutes
/// after which kubelet gives up.
const PATIENCE: Duration = Duration::from_secs(115);

/// Asks the daemon at `socket` to do `verb`, handing it the container's netns where there is one.
///
/// # Errors
/// [`Failure::Absent`] when no daemon listens there, [`Failure::Ended`] when it went away;
/// otherwise the daemon's own error, or 5 when the conversation broke off.
pub(crate) fn ask(
    socket: &Path,
    verb: Verb,
    traceparent: Option<String>,
    netns: Option<BorrowedFd<'_>>,
) -> Result<Reply, Failure> {
    let mut stream =
        UnixStream::connect(socket).map_err(|error| absent_or_broken(socket, error))?;
    let converse = |stream: &mut UnixStream| -> io::Result<String> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut document = serde_json::to_vec(&Request {
            protocol: protocol::VERSION,
            traceparent,
            verb,
        })?;
        document.push(b'\n');
        send(stream, &document, netns)?;
        let mut line = String::new();
        BufReader::new(stream)
            .take(MAX_DOCUMENT as u64)
            .read_line(&mut line)?;
        Ok(line)
    };
    let line = converse(&mut stream).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ended(socket),
        _ => broken(socket, error.to_string()),
    })?;
    if line.is_empty() {
        return Err(ended(socket));
    }
    match serde_json::from_str(&line) {
        Ok(Reply::Error { code, msg, details }) => {
            Err(Failure::Failed(Error::new(code, msg).details(details)))
        }
        Ok(reply) => Ok(reply),
        Err(error) => Err(broken(
            socket,
            format!("its answer is not understood: {error}"),
        )),
    }
}

/// Why a request was not served.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody listens on the socket.
    Absent(Error),
    /// The daemon ended before it answered; another may be there in a moment.
    Ended(Error),
    /// The daemon refused, or the conversation broke off.
    Failed(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Absent(error) | Failure::Ended(error) | Failure::Failed(error) => error,
        }
    }
}

fn absent_or_broken(socket: &Path, error: io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket",
        io::ErrorKind::ConnectionRefused => "the socket is there, but nobody listens on it",
        _ => return broken(socket, error.to_string()),
    };
    Failure::Absent(
        Error::new(code::PLUGIN_NOT_AVAILABLE, format!("no dhcp daemon at {}: {why}", socket.display())).details(
            "start it with `dhcp daemon`, or enable cni-dhcp.socket; a daemon on another socket is named by \
             `daemonSocketPath` in the ipam section",
        ),
    )
}

fn ended(socket: &Path) -> Failure {
    Failure::Ended(Error::new(
        code::TRY_AGAIN_LATER,
        format!(
            "the dhcp daemon at {} ended before it answered: try again",
            socket.display()
        ),
    ))
}

fn broken(socket: &Path, why: String) -> Failure {
    Failure::Failed(
        Error::new(
            code::IO_FAILURE,
            format!("asking the dhcp daemon at {} failed", socket.display()),
        )
        .details(why),
    )
}

/// Sends the document, with the descriptor beside its first octets.
fn send(stream: &mut UnixStream, document: &[u8], netns: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = netns.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let sent = sendmsg(
        &*stream,
        &[IoSlice::new(document)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    stream.write_all(&document[sent..])
}
