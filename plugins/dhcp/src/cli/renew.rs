//! `dhcp renew` and `dhcp release`.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::advice::of_failure;
use super::leases::{chosen, spelled};
use crate::plugin::client::{ask, ask_to, unexpected};
use crate::protocol::{LeaseView, Reply, Verb};

/// How long a server may take to answer.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The pause before the lease is looked at again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Has the daemon on `socket` confirm leases with the server, and waits until it has.
///
/// # Errors
/// If there is no such lease, or a server does not answer: how far the client got.
pub(super) fn renew(socket: &Path, ids: &[String]) -> Result<Vec<String>, Vec<String>> {
    each(socket, ids, |lease| {
        let attachment = lease.attachment.clone();
        let asked = Instant::now();
        ask_to(socket, Verb::Renew { attachment }, None).map_err(of_failure)?;
        // A client that gives the confirmation up has no problem any more: it uses its lease.
        let mut problem = String::new();
        loop {
            let now = again(socket, lease)?;
            if let Some(granted) = &now.granted
                && now.problem.is_none()
                && granted.since.is_some_and(|since| since <= asked.elapsed())
            {
                let time = granted.expires_in.map_or("ever".to_owned(), spelled);
                return Ok(format!(
                    "{} from {} for {time}",
                    granted.address, granted.server
                ));
            }
            if asked.elapsed() >= MAX_WAIT {
                let seconds = MAX_WAIT.as_secs();
                return Err(format!(
                    "no server has answered within {seconds} s; {problem}"
                ));
            }
            problem = now.problem.unwrap_or(problem);
            sleep(RETRY_INTERVAL);
        }
    })
}

/// Has the daemon on `socket` release leases.
///
/// # Errors
/// If there is no such lease.
pub(super) fn release(socket: &Path, ids: &[String]) -> Result<Vec<String>, Vec<String>> {
    each(socket, ids, |lease| {
        let verb = Verb::Del {
            attachment: lease.attachment.clone(),
            only: None,
        };
        ask_to(socket, verb, None).map_err(of_failure)?;
        Ok("released".to_owned())
    })
}

/// Does something for each of the leases, and reports what became of it. If it fails for one, it is
/// done for the others nevertheless.
fn each(
    socket: &Path,
    ids: &[String],
    what: impl Fn(&LeaseView) -> Result<String, String>,
) -> Result<Vec<String>, Vec<String>> {
    let leases = chosen(socket, ids).map_err(|error| vec![error])?;
    let mut is_failed = false;
    let lines = leases.iter().map(|lease| {
        let outcome = what(lease).unwrap_or_else(|error| {
            is_failed = true;
            error
        });
        format!("{}: {outcome}", lease.attachment)
    });
    let lines = lines.collect();
    match is_failed {
        true => Err(lines),
        false => Ok(lines),
    }
}

/// The lease as it is now.
fn again(socket: &Path, lease: &LeaseView) -> Result<LeaseView, String> {
    let attachment = lease.attachment.clone();
    match ask(socket, Verb::Lease { attachment }, None, None) {
        Ok(Reply::Leases { mut leases, .. }) => {
            let lease = leases.pop();
            lease.ok_or_else(|| "its lease has ended".to_owned())
        }
        Ok(other) => Err(unexpected(&other).to_string()),
        Err(failure) => Err(of_failure(failure)),
    }
}
