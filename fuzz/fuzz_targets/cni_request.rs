//! stdin and environment of a plugin, as anybody may fill them.

#![no_main]

#[path = "../../crates/cni/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::serve(input));
