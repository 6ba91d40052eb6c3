//! Any octets as a lease's file.

#![no_main]

#[path = "../../plugins/dhcp/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::state(input));
