//! `dhcp status`.

use std::path::Path;

use cni::Error;

use crate::plugin::client::ask_to;
use crate::protocol::Verb;

/// Asks the daemon on `socket` for its STATUS.
pub(super) fn status(socket: &Path) -> Result<String, String> {
    match ask_to(socket, Verb::Status, None) {
        Ok(()) => Ok(format!("the dhcp daemon at {} is ready", socket.display())),
        Err(failure) => {
            let Error { msg, details, .. } = failure.into();
            Err(match details.as_str() {
                "" => msg,
                details => format!("{msg}; {details}"),
            })
        }
    }
}
