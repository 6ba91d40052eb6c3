//! Replays the corpus of the fuzz target `cni_request`, without a fuzzer.

mod harness;

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpus_is_answered_as_the_protocol_demands() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/cni_request");
    let mut inputs = 0;
    for entry in
        fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
    {
        let path = entry.unwrap().path();
        println!("{}", path.display()); // the test runner shows it on failure
        harness::serve(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
}
