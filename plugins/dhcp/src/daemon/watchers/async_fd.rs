//! Descriptors that the event loop waits on.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

/// Lets the event loop wait on a descriptor that `source` owns.
#[allow(
    deprecated,
    reason = "AsyncFd::new trusts AsRawFd to name the same open descriptor for as long as the value lives; every \
              source here owns its descriptor (AsFd), and the alternative is an unsafe call"
)]
pub(crate) fn watch<S: AsFd + AsRawFd>(source: S) -> io::Result<AsyncFd<S>> {
    AsyncFd::new(source)
}
