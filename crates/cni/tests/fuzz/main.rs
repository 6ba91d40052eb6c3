//! Replays the kept corpus of the fuzz target `cni_request` on stable Rust.

mod harness;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_of_cni_request_is_served() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/cni_request");
    let mut inputs = 0;
    for entry in
        fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
    {
        let path = entry.unwrap().path();
        println!("{}", path.display()); // shown when it fails
        harness::serve(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
}
