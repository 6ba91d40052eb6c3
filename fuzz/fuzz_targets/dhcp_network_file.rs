//! A file in `/etc/leasehold/networks.d`.

#![no_main]

#[path = "../../plugins/dhcp/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::network_file(input));
