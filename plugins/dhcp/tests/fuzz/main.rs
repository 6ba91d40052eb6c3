//! Replays the kept corpora of the fuzz targets of this crate on stable Rust, and inputs that are like
//! them.

mod harness;
#[path = "../../../../fuzz/mutate.rs"]
mod mutate;

use std::fs;
use std::path::Path;

use leasehold_dhcp::protocol::MAX_REPLY;

#[test]
fn the_corpus_of_dhcp_protocol_is_served() {
    replay("dhcp_protocol", harness::protocol);
}

#[test]
fn the_corpus_of_dhcp_state_is_served() {
    replay("dhcp_state", harness::state);
}

#[test]
fn every_kept_configuration_is_read_or_refused_with_an_error() {
    replay("dhcp_config", harness::config);
}

#[test]
fn every_kept_file_of_a_network_is_read_or_refused_with_an_error() {
    replay("dhcp_network_file", harness::network_file);
}

#[test]
fn every_kept_file_of_a_cache_is_read_or_refused_with_an_error() {
    replay("dhcp_cache", harness::cache);
}

#[test]
fn every_kept_message_of_netavark_is_read_as_by_another_implementation() {
    replay("netavark_message", harness::netavark_message);
}

fn replay(corpus: &str, serve: fn(&[u8])) {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let corpus = corpora.join(corpus);
    let entries = fs::read_dir(&corpus);
    let mut inputs = 0;
    for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
        let path = entry.unwrap().path();
        println!("{}", path.display()); // shown when it fails
        let input = fs::read(&path).unwrap();
        assert!(input.len() <= MAX_REPLY);
        mutate::serve_and_mutate(&input, serve);
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
}
