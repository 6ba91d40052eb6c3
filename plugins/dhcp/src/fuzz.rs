//! What must hold of any octets on the daemon's socket and in a lease's file. Shared by the fuzz
//! targets `dhcp_protocol` and `dhcp_state`, which include the modules of this program under the
//! same names, and by the replay of their corpora on stable Rust.

use std::path::Path;
use std::time::Duration;

use dhcp4::{Client, Instant};

use crate::protocol::{MAX_DOCUMENT, Reply, Request};
use crate::store::{Record, Store};

/// A request, or a reply: what is understood is understood the same when it is said again.
pub(crate) fn protocol(input: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(input) {
        let said = serde_json::to_vec(&request).expect("what was read can be written");
        let again: Request = serde_json::from_slice(&said).expect("what was written can be read");
        assert_eq!(
            said,
            serde_json::to_vec(&again).expect("it can be written again")
        );
        if let Some(attachment) = request
            .verb
            .attachment()
            .filter(|attachment| attachment.is_well_formed())
        {
            names_a_file_in_its_directory(attachment);
        }
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(input) {
        let said = serde_json::to_vec(&reply).expect("what was read can be written");
        assert!(serde_json::from_slice::<Reply>(&said).is_ok());
    }
}

/// A lease's file: what is understood stays the same when it is written, and a client goes on with
/// it, or starts over, whatever its times are.
pub(crate) fn state(input: &[u8]) {
    let Ok(record) = Record::parse(input) else {
        return;
    };
    names_a_file_in_its_directory(&record.attachment);
    let written = serde_json::to_vec(&record).expect("what was read can be written");
    assert_eq!(
        Record::parse(&written).expect("what was written can be read"),
        record
    );
    let _ = record.has_expired();
    let (attachment, lease) = (record.attachment, record.lease);
    let now = Instant::from_boot(Duration::from_secs(3600));
    let _ = Record::new(
        attachment,
        record.place.clone(),
        record.terms.clone(),
        lease.clone(),
        None,
    );
    let _ = (lease.routes(), lease.net(), lease.remaining(now));
    let mut client = Client::resume(record.terms.client_config(record.place.mac), 1, lease, now);
    for _ in 0..4 {
        while client.poll_transmit().is_some() || client.poll_event().is_some() {}
        let Some(due) = client.poll_timeout() else {
            break;
        };
        client.handle_timeout(due);
    }
    client.release(now);
}

/// No name of a caller's choosing leads out of its network's directory, or to anything else in it.
fn names_a_file_in_its_directory(attachment: &crate::protocol::Attachment) {
    let directory = Path::new("/state");
    let file = Store::at(directory.to_owned()).file(attachment);
    let within = file.strip_prefix(directory).expect("a file of the store");
    assert_eq!(within.components().count(), 2, "{}", file.display());
    assert!(
        within
            .to_str()
            .is_some_and(|path| !path.contains("..") || !path.contains("/../"))
    );
    assert!(within.extension().is_some_and(|kind| kind == "json"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(corpus: &str, serve: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(corpus);
        let mut inputs = 0;
        let entries = std::fs::read_dir(&corpus);
        for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
            let path = entry.expect("an entry").path();
            println!("{}", path.display()); // shown when it fails
            let input = std::fs::read(&path).expect("an input");
            assert!(input.len() <= MAX_DOCUMENT);
            serve(&input);
            inputs += 1;
        }
        assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
    }

    #[test]
    fn the_corpus_of_dhcp_protocol_is_served() {
        replay("dhcp_protocol", protocol);
    }

    #[test]
    fn the_corpus_of_dhcp_state_is_served() {
        replay("dhcp_state", state);
    }
}
