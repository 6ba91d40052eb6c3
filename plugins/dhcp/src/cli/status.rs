//! `dhcp status`.

use std::io::{self, Write};
use std::path::Path;

use cni::printable;

use super::advice::of_failure;
use crate::plugin::client::ask_to;
use crate::plugin::problems_of_network_files;
use crate::protocol::Verb;

/// Asks the daemon on `socket` for its STATUS. Says on stderr what is wrong with the files of
/// networks. That does not make it fail: probes restart a daemon that they take for broken.
pub(super) fn status(socket: &Path) -> Result<String, String> {
    for problem in problems_of_network_files() {
        // The exit status is the daemon's.
        let _ = writeln!(io::stderr(), "dhcp: {}", printable(&problem));
    }
    match ask_to(socket, Verb::Status, None) {
        Ok(()) => Ok(format!("the dhcp daemon at {} is ready", socket.display())),
        Err(failure) => Err(of_failure(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_daemon_the_commands_own_flag_is_named() {
        let told = status(Path::new("/nonexistent/dhcp.sock")).expect_err("no daemon");
        assert!(
            told.contains("--socketpath") && !told.contains("daemonSocketPath"),
            "{told}"
        );
    }
}
