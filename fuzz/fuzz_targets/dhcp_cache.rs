//! A file of libcni's cache, from which `dhcp adopt` reads a call.

#![no_main]

#[path = "../../plugins/dhcp/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::cache(input));
