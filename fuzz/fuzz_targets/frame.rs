//! Parses arbitrary octets as a received frame. A datagram that is accepted must be the same after
//! it is built and parsed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use linknet::frame::{Checksum, build, parse};

fuzz_target!(|input: &[u8]| {
    for state in [Checksum::Ready, Checksum::NotReady] {
        if let Ok(datagram) = parse(input, state) {
            let again = build(&datagram).expect("it came from a datagram");
            assert_eq!(parse(&again, Checksum::Ready), Ok(datagram));
        }
    }
});
