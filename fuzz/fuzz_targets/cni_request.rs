//! Serves arbitrary environments and stdin as invocations of a CNI plugin.

#![no_main]

#[path = "../../crates/cni/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::serve(input));
