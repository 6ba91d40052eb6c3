//! A network configuration, as anybody may write it.

#![no_main]

#[path = "../../plugins/macvlan/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::read(input));
