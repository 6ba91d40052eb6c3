//! A network configuration with an `ipam` section for dhcp, as anybody may write it.

#![no_main]

#[path = "../../plugins/dhcp/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::config(input));
