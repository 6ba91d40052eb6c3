//! Whether an answer has reached the caller's socket.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Whether what was queued for a caller has been written since. HTTP/2 is written by the connection
/// and not by the call, which does not hear that its caller was gone.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    is_pending: Cell<bool>,
}

impl Delivery {
    /// Notes that an answer is queued.
    pub(super) fn queued(&self) {
        self.is_pending.set(true);
    }

    /// Whether an answer is queued of which nothing has been written.
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending.get()
    }
}

/// A caller's socket, which notes that something was written. An answer is short: what is queued at
/// one time is written at one time.
#[derive(Debug)]
pub(super) struct Watched {
    stream: UnixStream,
    delivery: Rc<Delivery>,
}

impl Watched {
    /// This socket, with where to note it.
    pub(super) fn new(stream: UnixStream, delivery: Rc<Delivery>) -> Watched {
        Watched { stream, delivery }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(octets)) if octets > 0) {
            self.delivery.is_pending.set(false);
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, octets);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_pending_until_the_socket_has_taken_it() {
        let (daemon, caller) = UnixStream::pair().expect("two sockets");
        let delivery = Rc::new(Delivery::default());
        let mut watched = Watched::new(daemon, Rc::clone(&delivery));
        assert!(!delivery.is_pending());
        delivery.queued();
        assert!(delivery.is_pending());
        watched.write_all(b"answer").await.expect("room");
        assert!(!delivery.is_pending());
        delivery.queued();
        drop(caller);
        watched.write_all(b"answer").await.expect_err("it is gone");
        assert!(delivery.is_pending());
    }
}
