//! `dhcp status`.

use std::path::Path;

use cni::Error;

use crate::client::ask;
use crate::protocol::{Reply, Verb};

/// Asks the daemon on `socket` for its STATUS.
pub(super) fn status(socket: &Path) -> Result<String, String> {
    match ask(socket, Verb::Status, None, None) {
        Ok(Reply::Done) => Ok(format!("the dhcp daemon at {} serves", socket.display())),
        Ok(other) => Err(format!(
            "the daemon's answer does not fit the question: {other:?}"
        )),
        Err(failure) => {
            let Error { msg, details, .. } = failure.into();
            Err(if details.is_empty() {
                msg
            } else {
                format!("{msg}; {details}")
            })
        }
    }
}
