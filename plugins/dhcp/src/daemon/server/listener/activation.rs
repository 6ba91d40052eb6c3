//! Socket activation: the service manager listens, and passes its socket (sd_listen_fds(3)).

use std::io::ErrorKind;
use std::os::unix::net::UnixListener;

use super::error::ListenError;

/// The socket that the service manager passed, if it passed one.
///
/// # Errors
/// If it passed something other than a Unix stream socket.
pub(super) fn passed_socket() -> Result<Option<UnixListener>, ListenError> {
    let mut passed = listenfd::ListenFd::from_env();
    if passed.len() == 0 {
        return Ok(None);
    }
    passed
        .take_unix_listener(0)
        .and_then(|socket| socket.ok_or_else(|| ErrorKind::InvalidInput.into()))
        .map(Some)
        .map_err(ListenError::Activation)
}
