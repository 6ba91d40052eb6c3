//! One caller: who may speak, one bounded request with its descriptor, one reply, and the hang-up
//! noticed in between.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use cni::{Attachment, code};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::protocol::{MAX_DOCUMENT, Reply, Request, VERSION};

/// How long a caller may take over its request, and over reading the reply. The plugin sends at
/// once; whoever does not is cut off, lest silent callers use up the descriptors.
const PATIENCE: Duration = Duration::from_secs(5);

/// A caller.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
}

/// Why a caller gets no service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Somebody else than root or the daemon's own user.
    #[error("only root may speak to the dhcp daemon, not uid {0}")]
    NotRoot(u32),
    /// More than [`MAX_DOCUMENT`] octets without a line feed.
    #[error("the request is longer than {MAX_DOCUMENT} octets")]
    TooLong,
    /// No JSON, or not of the form of a request.
    #[error("the request is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A name in the attachment that CNI does not allow.
    #[error("it names no attachment that CNI allows: {0}")]
    Attachment(#[source] serde_json::Error),
    /// A plugin of another release.
    #[error(
        "the request speaks version {0} of the protocol, the daemon version {VERSION}: install plugin and daemon from one release"
    )]
    Version(u32),
    /// Connection lost or request not complete in time.
    #[error("the caller was lost: {0}")]
    Lost(#[from] io::Error),
}

impl Refusal {
    /// The error code that the caller gets.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Refusal::Attachment(_) => code::INVALID_ENVIRONMENT,
            _ => code::IO_FAILURE,
        }
    }
}

impl Connection {
    /// A caller that has connected.
    pub(crate) fn new(stream: UnixStream) -> Connection {
        Connection { stream }
    }

    /// Reads the request and the netns descriptor beside it, from a caller that may speak
    /// (SO_PEERCRED): root, whoever the daemon runs as, and `group`.
    pub(crate) async fn request(
        &mut self,
        group: Option<u32>,
    ) -> Result<(Request, Option<OwnedFd>), Refusal> {
        let caller = self.stream.peer_cred()?;
        let own = rustix::process::geteuid().as_raw();
        if !may_speak(caller.uid(), own) && group != Some(caller.gid()) {
            return Err(Refusal::NotRoot(caller.uid()));
        }
        let (line, descriptor) = timeout(PATIENCE, self.line())
            .await
            .map_err(|_| io::Error::new(ErrorKind::TimedOut, "no request within 5 s"))??;
        // The version first: the rest may well look different in another one.
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
        Ok((serde_json::from_slice(&line)?, descriptor))
    }

    /// Sends the reply; a caller that does not read it is given up.
    pub(crate) async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        self.reply_with(reply, None).await
    }

    /// Sends the reply, with a descriptor beside its first octets.
    pub(crate) async fn reply_with(
        &mut self,
        reply: &Reply,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut document = serde_json::to_vec(reply)?;
        document.push(b'\n');
        let send = async {
            let mut sent = 0;
            if let Some(descriptor) = descriptor {
                self.stream.writable().await?;
                sent = self.stream.try_io(Interest::WRITABLE, || {
                    send_with(&self.stream, &document, descriptor)
                })?;
            }
            self.stream.write_all(&document[sent..]).await
        };
        timeout(PATIENCE, send)
            .await
            .map_err(|_| io::Error::from(ErrorKind::TimedOut))?
    }

    /// Returns once the caller is gone. Whatever it still sends is read and thrown away.
    pub(crate) async fn hung_up(&self) {
        let mut scrap = [0; 256];
        loop {
            if self.stream.readable().await.is_err() {
                return;
            }
            match self.stream.try_read(&mut scrap) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    async fn line(&mut self) -> Result<(Vec<u8>, Option<OwnedFd>), Refusal> {
        let mut line = Vec::new();
        let mut descriptor = None;
        let mut piece = [0; 4096];
        loop {
            self.stream.readable().await?;
            let received = self.stream.try_io(Interest::READABLE, || {
                receive(&self.stream, &mut piece, &mut descriptor)
            });
            match received {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(length) => line.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(end) = line.iter().position(|octet| *octet == b'\n') {
                line.truncate(end);
                return Ok((line, descriptor));
            }
            if line.len() >= MAX_DOCUMENT {
                return Err(Refusal::TooLong);
            }
        }
    }
}

/// Whether a caller of this uid is heard: root, and whoever the daemon itself runs as.
fn may_speak(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

fn send_with(
    stream: &UnixStream,
    document: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    Ok(sendmsg(
        stream,
        &[IoSlice::new(document)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

/// Receives what is there, and keeps the last descriptor that came along; others are closed.
pub(super) fn receive(
    stream: impl AsFd,
    buffer: &mut [u8],
    descriptor: &mut Option<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        stream,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for control in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = control {
            *descriptor = descriptors.last().or(descriptor.take());
        }
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_speak_and_whoever_the_daemon_runs_as_and_nobody_else() {
        assert!(may_speak(0, 0) && may_speak(0, 1000) && may_speak(1000, 1000));
        assert!(!may_speak(1000, 0) && !may_speak(65534, 1000));
        assert!(Refusal::NotRoot(1000).to_string().contains("only root"));
    }
}
