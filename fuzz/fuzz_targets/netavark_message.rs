//! Any octets as a message of netavark's.

#![no_main]

#[path = "../../plugins/dhcp/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::netavark_message(input));
