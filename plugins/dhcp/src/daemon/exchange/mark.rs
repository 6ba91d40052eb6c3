//! The mark by which a guard knows leasehold's own messages.

use std::io;

use attachment::guard::SOCKET_MARK;

/// Marks a socket. Without the mark, only a guarded container is affected: its messages are not
/// sent, and the log says so.
pub(super) fn mark(set_mark: impl FnOnce(u32) -> io::Result<()>) {
    if let Err(error) = set_mark(SOCKET_MARK) {
        tracing::debug!(%error, "cannot mark the socket");
    }
}
