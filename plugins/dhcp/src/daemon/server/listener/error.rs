//! Why the daemon cannot listen.

use std::io;
use std::path::PathBuf;

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Another daemon listens on this path.
    #[error("another dhcp daemon is listening on {0}: stop it first, or choose another path")]
    Taken(PathBuf),
    /// Another daemon listens on a socket whose file, at this path, was removed.
    #[error(
        "another dhcp daemon is running, but the file of its socket, {0}, was removed: stop it \
         first, or start this one with -takeover"
    )]
    Unreachable(PathBuf),
    /// The path exists and is not a socket.
    #[error("{0} exists and is not a socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// systemd passed something other than a Unix stream socket.
    #[error("the service manager passed no usable Unix stream socket (LISTEN_FDS)")]
    Activation(#[source] io::Error),
    /// A file operation failed.
    #[error("cannot {what} {path}")]
    Io {
        /// The operation that failed, such as "bind".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}
