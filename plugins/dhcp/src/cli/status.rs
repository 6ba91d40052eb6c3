//! `dhcp status`.

use std::io::{self, Write};
use std::path::Path;

use cni::printable;

use super::advice::of_failure;
use super::leases::spelled;
use crate::config::problems_of_network_files;
use crate::plugin::client::{Failure, ask, ask_to};
use crate::protocol::{DaemonView, Reply, Verb};

/// Asks the daemon on `socket` for its STATUS, and what it is doing. Says on stderr what is wrong
/// with the files of networks. That does not make it fail: probes restart a daemon that they take
/// for broken.
pub(super) fn status(socket: &Path) -> Result<Vec<String>, String> {
    for problem in problems_of_network_files() {
        // The exit status is the daemon's.
        let _ = writeln!(io::stderr(), "dhcp: {}", printable(&problem));
    }
    let mut asked = ask_to(socket, Verb::Status, None);
    if let Err(Failure::DaemonExited(_)) = asked {
        // It is being replaced: its successor may listen already.
        asked = ask_to(socket, Verb::Status, None);
    }
    asked.map_err(of_failure)?;
    let mut lines = vec![format!("the dhcp daemon at {} is ready", socket.display())];
    // A daemon of an earlier release cannot say what it does.
    if let Ok(Reply::Daemon(daemon)) = ask(socket, Verb::Describe, None, None) {
        lines.extend(describe(&daemon));
    }
    Ok(lines)
}

fn describe(daemon: &DaemonView) -> Vec<String> {
    let uptime = spelled(daemon.uptime.unwrap_or_default());
    let mut lines = vec![
        format!(
            "version {}, pid {}, up {uptime}",
            daemon.version, daemon.pid
        ),
        daemon.summary.to_string(),
        format!("state directory: {}", daemon.state_dir.display()),
    ];
    if let Some(next_due) = daemon.summary.next_due {
        lines.push(format!("next renewal: in {}", spelled(next_due)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::protocol::Summary;

    #[test]
    fn a_daemon_is_described_in_some_lines() {
        let mut daemon = DaemonView {
            version: "0.1.0".to_owned(),
            pid: 7,
            uptime: Some(Duration::from_secs(90)),
            state_dir: "/var/lib/cni/dhcp".into(),
            summary: Summary {
                states: [("BOUND".to_owned(), 2)].into(),
                next_due: Some(Duration::from_secs(30)),
                failures: 1,
            },
        };
        let expected = [
            "version 0.1.0, pid 7, up 1min 30s",
            "2 leases (2 BOUND), 1 failure in the last hour",
            "state directory: /var/lib/cni/dhcp",
            "next renewal: in 30s",
        ];
        assert_eq!(describe(&daemon), expected);
        daemon.summary = Summary::default();
        assert_eq!(describe(&daemon)[1..], ["no leases", expected[2]]);
    }

    #[test]
    fn a_daemon_that_exits_is_asked_once_more() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let socket = scratch.path().join("dhcp.sock");
        let daemon = UnixListener::bind(&socket).expect("a socket");
        let answering = thread::spawn(move || {
            drop(daemon.accept().expect("a caller"));
            let (mut caller, _) = daemon.accept().expect("the caller again");
            let mut request = String::new();
            BufReader::new(&caller)
                .read_line(&mut request)
                .expect("a request");
            writeln!(caller, "\"done\"").expect("a caller that waits");
        });
        let told = status(&socket).expect("it is ready");
        answering.join().expect("the daemon has answered");
        assert!(told[0].ends_with("is ready"), "{told:?}");
    }

    #[test]
    fn without_a_daemon_the_commands_own_flag_is_named() {
        let told = status(Path::new("/nonexistent/dhcp.sock")).expect_err("no daemon");
        assert!(
            told.contains("--socketpath") && !told.contains("daemonSocketPath"),
            "{told}"
        );
    }
}
