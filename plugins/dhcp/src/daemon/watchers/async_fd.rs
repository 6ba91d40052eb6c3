//! Descriptors that the event loop waits on.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

/// Lets the event loop wait on a descriptor that `source` owns.
#[allow(
    deprecated,
    reason = "AsyncFd::new trusts AsRawFd to name the same open descriptor for as long as the value lives; every \
              source here owns its descriptor (AsFd), and the alternative is an unsafe call"
)]
pub(crate) fn watch<S: AsFd + AsRawFd>(source: S) -> io::Result<AsyncFd<S>> {
    AsyncFd::new(source)
}

/// Closes packet sockets, and drops what depends on them, on another thread: the kernel takes an
/// RCU grace period for each, milliseconds in which the event loop would serve nothing.
pub(crate) fn close_on_thread(sockets: impl Send + 'static) {
    spawn_blocking(move || drop(sockets));
}
