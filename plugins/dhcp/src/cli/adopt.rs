//! `dhcp adopt`: takes over the leases of a daemon that kept them in its memory alone.
//!
//! The Go daemon is such a one. A runtime's cache has the call that attached each container, so the
//! ADD of the IPAM plugin is repeated, and demands the address that the container has. The default
//! client identifier is the Go plugin's, so the server grants it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use attachment::codes;
use cni::{Attachment, Error, Plugin};
use linknet::{Netlink, Netns, NetnsError};

use super::advice::advice;
use super::cached_call::CachedCall;
use crate::config::DaemonLocation;
use crate::plugin::client::ask_to;
use crate::plugin::{Dhcp, Executable};
use crate::protocol::Verb;

/// Where libcni, and Multus with it, keep their caches.
const CACHES: [&str; 2] = ["/var/lib/cni/results", "/var/lib/cni/multus/results"];

/// A cache file has a configuration and a result; nobody writes more than this.
const MAX_FILE: u64 = 4 << 20;

/// What became of one attachment.
enum Outcome {
    /// The daemon has its lease now.
    Adopted,
    /// There is nothing to do, for this reason.
    Skipped(&'static str),
    /// It has no lease, for this reason.
    Failed(String),
}

/// Adopts the lease of every container in these caches, or in the [usual ones](CACHES) if none is
/// given. Returns a line for each.
///
/// # Errors
/// The lines, if one of the containers is left without a lease, or a cache that was given is not
/// there.
pub(super) fn adopt(given: &[PathBuf]) -> Result<Vec<String>, Vec<String>> {
    match given {
        [] => adopt_from(&CACHES.map(PathBuf::from), false),
        given => adopt_from(given, true),
    }
}

/// The same; `must_exist` says whether each cache must be there.
fn adopt_from(caches: &[PathBuf], must_exist: bool) -> Result<Vec<String>, Vec<String>> {
    let mut lines = Vec::new();
    let mut looked_in = Vec::new();
    let mut is_complete = true;
    for cache in caches {
        let shown = cache.display();
        match fs::read_dir(cache) {
            Ok(_) => looked_in.push(shown.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => {
                looked_in.push(format!("{shown} (which does not exist)"));
            }
            Err(error) => {
                let advice = advice(&error);
                lines.push(format!("{shown}: {error}{advice}"));
                is_complete = false;
            }
        }
    }
    for path in caches.iter().flat_map(|cache| files(cache)) {
        let shown = path.display();
        let call = match read(&path).and_then(|document| CachedCall::parse(&document)) {
            Ok(None) => continue,
            Ok(Some(call)) => call,
            Err(problem) => {
                lines.push(format!("{shown}: {problem}"));
                is_complete = false;
                continue;
            }
        };
        let attachment = match call.request.attachment() {
            Ok(attachment) => attachment.clone(),
            Err(error) => {
                lines.push(format!("{shown}: {error}"));
                is_complete = false;
                continue;
            }
        };
        let became = match adopt_one(&call, &attachment) {
            Outcome::Adopted => format!("adopted {}", call.address),
            Outcome::Skipped(why) => format!("skipped: {why}"),
            Outcome::Failed(why) => {
                is_complete = false;
                format!("not adopted: {why}")
            }
        };
        lines.push(format!("{attachment}: {became}"));
    }
    if lines.is_empty() {
        lines.push(format!(
            "no cached attachment uses the dhcp plugin; looked in {}",
            looked_in.join(" and ")
        ));
    }
    match is_complete {
        true => Ok(lines),
        false => Err(lines),
    }
}

fn adopt_one(call: &CachedCall, attachment: &Attachment) -> Outcome {
    let path = call.request.netns.clone().unwrap_or_default();
    match Netns::open(&path).map(|netns| has_address(&netns, attachment, call)) {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            let why = format!(
                "its interface does not have {}; recreate the container",
                call.address
            );
            return Outcome::Failed(why);
        }
        Ok(Err(error)) => return Outcome::Failed(error.to_string()),
        Err(NetnsError::NotFound(_)) => return Outcome::Skipped("the container is gone"),
        Err(error) => return Outcome::Failed(error.to_string()),
    }
    match leased(call, attachment) {
        Ok(()) => return Outcome::Skipped("the daemon has its lease"),
        Err(error) if error.code == codes::NO_LEASE => {}
        Err(error) => return Outcome::Failed(error.to_string()),
    }
    let plugin = Dhcp::<Executable>::default();
    let why = match plugin.add(&call.request) {
        Ok(result) => {
            let mut granted = result.ips.iter().map(|ip| ip.address.addr());
            if granted.clone().any(|address| address == call.address) {
                return Outcome::Adopted;
            }
            let granted = granted.next().map(|address| address.to_string());
            format!("the server grants {} instead", granted.unwrap_or_default())
        }
        Err(error) => error.to_string(),
    };
    match plugin.roll_back(&call.request) {
        Ok(()) => Outcome::Failed(why),
        Err(error) => Outcome::Failed(format!("{why}; {error}")),
    }
}

/// Whether the container's interface has the address.
fn has_address(netns: &Netns, attachment: &Attachment, call: &CachedCall) -> linknet::Result<bool> {
    let inside = Netlink::open_in(netns)?;
    let Some(link) = inside.link(attachment.ifname())? else {
        return Ok(false);
    };
    let addresses = inside.addresses(link.index)?;
    Ok(addresses
        .iter()
        .any(|it| it.net.addr() == IpAddr::V4(call.address)))
}

/// Whether the daemon has a lease of the address for the attachment.
fn leased(call: &CachedCall, attachment: &Attachment) -> Result<(), Error> {
    let daemon = DaemonLocation::read(&call.request)?;
    let check = Verb::Check {
        attachment: attachment.clone(),
        addresses: vec![call.address],
    };
    Ok(ask_to(&daemon.socket, check, None)?)
}

/// The files of a cache, in the order of their names. One that does not exist has none.
fn files(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let open = || -> io::Result<Vec<u8>> {
        // Of anything but a file, nothing is read or waited for.
        if !fs::symlink_metadata(path)?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a file"));
        }
        let mut document = Vec::new();
        File::open(path)?
            .take(MAX_FILE)
            .read_to_end(&mut document)?;
        Ok(document)
    };
    open().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_given_must_exist_and_a_usual_one_need_not() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let missing = directory.path().join("nowhere");
        let lines = adopt(std::slice::from_ref(&missing)).expect_err("no directory");
        assert!(lines[0].contains("nowhere: No such file"), "{lines:?}");
        let lines = adopt_from(&[directory.path().to_owned(), missing], false);
        let told = &lines.expect("there is nothing to adopt")[0];
        for words in [
            format!("looked in {} and ", directory.path().display()),
            "nowhere (which does not exist)".to_owned(),
        ] {
            assert!(told.contains(&words), "{told}");
        }
    }

    #[test]
    fn the_files_of_a_cache_are_read_in_order_and_nothing_else_is() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let [one, other, link] = ["1", "2", "3"].map(|name| directory.path().join(name));
        fs::write(&other, "two").expect("writing");
        fs::write(&one, "one").expect("writing");
        std::os::unix::fs::symlink(&one, &link).expect("a link");
        let found = files(directory.path());
        assert_eq!(found, [one.clone(), other.clone(), link.clone()]);
        assert_eq!(read(&one), Ok(b"one".to_vec()));
        for path in [link.as_path(), directory.path()] {
            assert_eq!(read(path), Err("not a file".to_owned()));
        }
        let lines = adopt(&[directory.path().to_owned()]).expect_err("no such documents");
        assert_eq!(lines.len(), 3, "{lines:?}");
    }

    #[test]
    fn a_cache_that_is_no_directory_is_not_a_matter_of_rights() {
        let file = tempfile::NamedTempFile::new().expect("a scratch file");
        let lines = adopt(&[file.path().to_owned()]).expect_err("no directory");
        let told = &lines[0];
        assert!(
            told.contains("Not a directory") && !told.contains("root"),
            "{told}"
        );
    }
}
