//! One caller: its permission, one request of limited length with its descriptor, one reply, and
//! the hang-up in between.

use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use cni::{Attachment, code, json_problem};
use linknet::NetnsError;
#[cfg(feature = "podman")]
use rustix::net::{RecvFlags, recv};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::caller::{Caller, Denied};
use super::listener::Listener;
use crate::protocol::{self, MAX_REQUEST, Reply, Request, VERSION};

/// How long a caller may take to send its request, and to read the reply. The plugin does both at
/// once. Without a limit, silent callers could use up the descriptors.
const CALLER_TIMEOUT: Duration = Duration::from_secs(5);

/// The first octet of HTTP/2's preface (RFC 9113 §3.4). The plugin's requests begin with `{`, those of
/// the Go plugin with `CONNECT`.
#[cfg(feature = "podman")]
const HTTP2: [u8; 1] = *b"P";

/// What a caller has sent that may use the socket.
#[derive(Debug)]
pub(super) enum Received {
    /// The plugin: a request, and the netns beside it.
    Plugin(Caller, Box<Request>, Option<OwnedFd>),
    /// netavark, as the daemon's owner: what it sends is unread.
    #[cfg(feature = "podman")]
    Netavark,
}

/// A connected caller.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
}

/// The reason for refusing a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The caller may not make this request, or any.
    #[error("{0}")]
    Denied(#[from] Denied),
    /// More than [`MAX_REQUEST`] octets without a line feed.
    #[error("the request is longer than {MAX_REQUEST} octets")]
    TooLong,
    /// It is not JSON, or not a request.
    #[error("the request cannot be parsed: {}", json_problem(.0))]
    Malformed(#[from] serde_json::Error),
    /// A name in the attachment that CNI does not allow.
    #[error("invalid attachment: {}", json_problem(.0))]
    Attachment(#[source] serde_json::Error),
    /// Its descriptor is not that of a netns.
    #[error("CNI_NETNS: {0}")]
    Netns(#[from] NetnsError),
    /// The caller is the Go plugin, which speaks Go's RPC over HTTP.
    #[error("the caller is the Go plugin: replace both plugins together with the daemon")]
    GoPlugin,
    /// The plugin is of another release.
    #[error(
        "the request has version {0} of the protocol, but the daemon serves version {VERSION}: install plugin and daemon from the same release"
    )]
    Version(u32),
    /// The request had not come when another caller needed the place.
    #[error("it had not come yet when other callers needed the place of this one")]
    Crowded,
    /// The caller sent nothing: it only wanted to see whether a daemon listens.
    #[error("it was empty")]
    Empty,
    /// The connection failed, or the request was not complete in time.
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
}

impl Refusal {
    /// The error code that the caller gets.
    pub(super) fn code(&self) -> u32 {
        match self {
            Refusal::Attachment(_) | Refusal::Netns(_) => code::INVALID_ENVIRONMENT,
            Refusal::Crowded | Refusal::Denied(Denied::Crowded) => code::TRY_AGAIN_LATER,
            _ => code::IO_FAILURE,
        }
    }
}

impl Connection {
    /// The caller at the other end of `stream`.
    pub(super) fn new(stream: UnixStream) -> Connection {
        Connection { stream }
    }

    /// Reads the request and the netns descriptor beside it, from a caller that may use the socket:
    /// root, the user that the daemon runs as, or a process of `group` (SO_PEERCRED,
    /// SO_PEERGROUPS). Of a caller that speaks netavark's protocol, nothing is read.
    ///
    /// # Errors
    /// Why the request is refused.
    pub(super) async fn request(&mut self, group: Option<u32>) -> Result<Received, Refusal> {
        let peer = self.stream.peer_cred()?;
        let own = rustix::process::geteuid().as_raw();
        let mut groups = vec![peer.gid()];
        if group.is_some() {
            groups.extend(linknet::peer_groups(&self.stream)?);
        }
        let caller = Caller::of(peer.uid(), &groups, own, group)?;
        let deadline = Instant::now() + CALLER_TIMEOUT;
        #[cfg(feature = "podman")]
        if until(deadline, self.is_http2()).await? {
            // It names namespaces by their paths.
            caller.ensure_may_name_paths()?;
            return Ok(Received::Netavark);
        }
        let (line, descriptor) = until(deadline, self.read_line()).await?;
        if line.starts_with(b"CONNECT ") {
            return Err(Refusal::GoPlugin);
        }
        // The version first: the rest may differ in another one.
        #[derive(serde::Deserialize)]
        struct Head {
            protocol: u32,
            attachment: Option<Value>,
        }
        let Head {
            protocol,
            attachment,
        } = serde_json::from_slice(&line)?;
        if protocol != VERSION {
            return Err(Refusal::Version(protocol));
        }
        if let Some(attachment) = attachment {
            serde_json::from_value::<Attachment>(attachment).map_err(Refusal::Attachment)?;
        }
        let request = Box::new(serde_json::from_slice(&line)?);
        Ok(Received::Plugin(caller, request, descriptor))
    }

    /// Refuses the Go plugin's call. Its user reads the status line of an HTTP response.
    ///
    /// # Errors
    /// As for [`Connection::reply`].
    pub(super) async fn refuse_in_http(&mut self) -> io::Result<()> {
        let response = b"HTTP/1.0 501 this is the dhcp daemon of leasehold: replace both plugins together with the daemon\r\n\r\n";
        timeout(CALLER_TIMEOUT, self.stream.write_all(response))
            .await
            .map_err(|_| io::Error::from(ErrorKind::TimedOut))?
    }

    /// Sends the reply.
    ///
    /// # Errors
    /// If the caller is gone, or does not read it in time.
    pub(super) async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        self.reply_with(reply, &[]).await
    }

    /// Sends the reply, with descriptors beside its first octets.
    ///
    /// # Errors
    /// As for [`Connection::reply`].
    pub(super) async fn reply_with(
        &mut self,
        reply: &Reply,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let document = protocol::to_line(reply)?;
        let send = async {
            let mut sent = 0;
            if !descriptors.is_empty() {
                self.stream.writable().await?;
                sent = self.stream.try_io(Interest::WRITABLE, || {
                    protocol::send(&self.stream, &document, descriptors)
                })?;
            }
            self.stream.write_all(&document[sent..]).await
        };
        timeout(CALLER_TIMEOUT, send)
            .await
            .map_err(|_| io::Error::from(ErrorKind::TimedOut))?
    }

    /// Whether this listener has accepted it.
    pub(super) fn is_of(&self, listener: &Listener) -> bool {
        listener.has_accepted(&self.stream)
    }

    /// The socket itself, for the other protocol.
    #[cfg(feature = "podman")]
    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Returns once the caller is gone. Anything that it still sends is discarded.
    pub(super) async fn hung_up(&self) {
        let mut discarded = [0; 256];
        loop {
            if self.stream.readable().await.is_err() {
                return;
            }
            match self.stream.try_read(&mut discarded) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Whether the caller speaks HTTP/2, by the first octet that it sends, which stays unread.
    #[cfg(feature = "podman")]
    async fn is_http2(&self) -> io::Result<bool> {
        let mut first = [0];
        loop {
            self.stream.readable().await?;
            let peeked = self.stream.try_io(Interest::READABLE, || {
                Ok(recv(&self.stream, &mut first, RecvFlags::PEEK)?)
            });
            match peeked {
                Ok((octets, _)) => return Ok(octets == 1 && first == HTTP2),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_line(&mut self) -> Result<(Vec<u8>, Option<OwnedFd>), Refusal> {
        let mut line = Vec::new();
        let mut descriptor = None;
        let mut piece = [0; 4096];
        loop {
            self.stream.readable().await?;
            let received = self.stream.try_io(Interest::READABLE, || {
                protocol::receive(&self.stream, &mut piece, &mut descriptor)
            });
            match received {
                Ok(0) if line.is_empty() => return Err(Refusal::Empty),
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(length) => {
                    let piece = &piece[..length];
                    let end = piece.iter().position(|octet| *octet == b'\n');
                    line.extend_from_slice(&piece[..end.unwrap_or(length)]);
                    if end.is_some() {
                        return Ok((line, descriptor));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if line.len() >= MAX_REQUEST {
                return Err(Refusal::TooLong);
            }
        }
    }
}

/// Waits for a part of the request until the deadline.
async fn until<T, E: Into<Refusal>>(
    deadline: Instant,
    part: impl Future<Output = Result<T, E>>,
) -> Result<T, Refusal> {
    let late = |_| io::Error::new(ErrorKind::TimedOut, "no request within 5 s");
    timeout_at(deadline, part)
        .await
        .map_err(late)?
        .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_attachment_that_cni_does_not_allow_is_refused_as_an_invalid_environment() {
        let (caller, daemon) = UnixStream::pair().expect("two sockets");
        let attachment = json!({ "containerID": "../c1", "network": "lan", "ifname": "eth0" });
        let request = json!({ "protocol": VERSION, "verb": "del", "attachment": attachment });
        caller
            .try_write(format!("{request}\n").as_bytes())
            .expect("room");
        let refusal = Connection::new(daemon).request(None).await;
        let refusal = refusal.expect_err("a container ID is not a path");
        assert_eq!(refusal.code(), code::INVALID_ENVIRONMENT);
        assert!(refusal.to_string().contains("containerID"), "{refusal}");
    }

    #[test]
    fn a_caller_is_told_whether_to_try_again() {
        assert_eq!(Refusal::Crowded.code(), code::TRY_AGAIN_LATER);
        let crowded = Refusal::Denied(Denied::Crowded);
        assert_eq!(crowded.code(), code::TRY_AGAIN_LATER);
        let stranger = Refusal::Denied(Denied::Stranger(1000));
        assert_eq!(stranger.code(), code::IO_FAILURE);
        assert_eq!(Refusal::GoPlugin.code(), code::IO_FAILURE);
    }
}
