//! Any octets as a packet received by a DHCP client, in every state it can be in.

#![no_main]

#[path = "../../crates/dhcp4/tests/fuzz/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| harness::receive(packet));
