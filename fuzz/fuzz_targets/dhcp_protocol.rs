//! What a caller says on the daemon's socket. The program is included by its modules: it is no
//! library.

#![no_main]
#![allow(dead_code, reason = "the modules are the program's, and a target needs a part of each")]

#[path = "../../plugins/dhcp/fuzz.rs"]
mod fuzz;
#[path = "../../plugins/dhcp/place.rs"]
mod place;
#[path = "../../plugins/dhcp/protocol.rs"]
mod protocol;
#[path = "../../plugins/dhcp/store.rs"]
mod store;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fuzz::protocol(input));
