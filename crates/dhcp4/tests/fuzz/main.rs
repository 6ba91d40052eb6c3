//! Replays the corpus of the fuzz target `dhcp4_packet` on stable Rust.

mod harness;

use std::fs;
use std::path::Path;

#[test]
fn no_packet_of_the_corpus_breaks_an_invariant_in_any_state() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dhcp4_packet");
    let mut inputs = 0;
    for entry in
        fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
    {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        harness::receive(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 24, "only {inputs} inputs in {}", corpus.display());
}
