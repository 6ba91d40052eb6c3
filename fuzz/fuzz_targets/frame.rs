//! Any octets as a received frame. What is accepted must survive being built anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use linknet::frame::{Checksum, build, parse};

fuzz_target!(|input: &[u8]| {
    for state in [Checksum::Ready, Checksum::NotReady] {
        if let Ok(datagram) = parse(input, state) {
            let again = build(&datagram).expect("it fitted into a datagram before");
            assert_eq!(parse(&again, Checksum::Ready), Ok(datagram));
        }
    }
});
