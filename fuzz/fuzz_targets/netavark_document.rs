//! A document of netavark's, as anything may write it.

#![no_main]

#[path = "../../plugins/macvlan/tests/fuzz/netavark.rs"]
mod netavark;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| netavark::read(input));
