//! Replays the kept corpora of the fuzz targets `macvlan_config` and `netavark_document` on stable
//! Rust, and inputs that are like those in them.

mod harness;
#[path = "../../../../fuzz/mutate.rs"]
mod mutate;
mod netavark;

use std::fs;
use std::path::Path;

#[test]
fn every_kept_configuration_is_read_or_refused_with_an_error() {
    replay("macvlan_config", harness::read);
}

#[test]
fn every_kept_document_of_netavarks_is_read_or_refused_with_an_error() {
    replay("netavark_document", netavark::read);
}

fn replay(target: &str, serve: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let corpus = corpus.join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display()); // shown when it fails
        mutate::serve_and_mutate(&fs::read(&path).expect("an input"), serve);
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs in {}", corpus.display());
}
