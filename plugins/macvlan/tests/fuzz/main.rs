//! Replays the kept corpus of the fuzz target `macvlan_config` on stable Rust.

mod harness;

use std::fs;
use std::path::Path;

#[test]
fn every_kept_configuration_is_read_or_refused_with_an_error() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/macvlan_config");
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display()); // shown when it fails
        harness::read(&fs::read(&path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
}
