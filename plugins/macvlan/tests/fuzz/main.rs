//! Replays the kept corpus of the fuzz target `macvlan_config` on stable Rust, and inputs that are
//! like those in it.

mod harness;
#[path = "../../../../fuzz/mutate.rs"]
mod mutate;

use std::fs;
use std::path::Path;

#[test]
fn every_kept_configuration_is_read_or_refused_with_an_error() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/macvlan_config");
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display()); // shown when it fails
        mutate::serve_and_mutate(&fs::read(&path).expect("an input"), harness::read);
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
}
