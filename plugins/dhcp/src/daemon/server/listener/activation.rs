//! Socket activation: the service manager listens, and passes its sockets (sd_listen_fds(3)).

use std::io::ErrorKind;
use std::os::unix::net::UnixListener;

use super::error::ListenError;

/// The sockets that the service manager passed.
///
/// # Errors
/// If it passed something other than Unix stream sockets.
pub(super) fn passed_sockets() -> Result<Vec<UnixListener>, ListenError> {
    let mut passed = listenfd::ListenFd::from_env();
    let number = passed.len();
    let take = |index| {
        let socket = passed.take_unix_listener(index)?;
        socket.ok_or_else(|| ErrorKind::InvalidInput.into())
    };
    let sockets = (0..number).map(take).collect::<Result<_, _>>();
    sockets.map_err(ListenError::Activation)
}
