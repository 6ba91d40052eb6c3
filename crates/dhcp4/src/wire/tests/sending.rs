//! How messages are written.

use std::net::Ipv4Addr;

use super::super::raw_options::RawOptions;
use super::*;
use crate::options::RawOption;
use crate::transmit::OutgoingKind;

fn discover(options: Vec<RawOption>) -> Outgoing {
    Outgoing {
        kind: OutgoingKind::Discover,
        xid: XID,
        secs: 7,
        broadcast: true,
        ciaddr: Ipv4Addr::new(10, 0, 0, 5),
        chaddr: MAC,
        options,
    }
}

#[test]
fn the_header_is_laid_out_as_in_rfc_2131() {
    let payload = discover(Vec::new()).encode();
    assert_eq!(
        payload[..12],
        [1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 7, 0x80, 0]
    );
    assert_eq!(payload[12..16], [10, 0, 0, 5]);
    assert!(payload[16..28].iter().all(|&octet| octet == 0));
    assert_eq!(payload[28..34], MAC);
    assert!(payload[34..236].iter().all(|&octet| octet == 0));
    assert_eq!(payload[236..244], [99, 130, 83, 99, 53, 1, 1, 255]);
    assert_eq!(payload.len(), 300);
}

#[test]
fn the_message_type_comes_first_and_the_other_options_keep_their_order() {
    let options = vec![
        RawOption::new(61, *b"\0id"),
        RawOption::new(12, *b"web"),
        RawOption::new(80, []),
    ];
    let payload = discover(options).encode();
    assert_eq!(
        payload[240..257],
        *b"\x35\x01\x01\x3d\x03\0id\x0c\x03web\x50\0\xff\0"
    );
}

#[test]
fn a_long_option_is_sent_in_fragments_that_can_be_joined() {
    for len in [0, 1, 255, 256, 510, 511, 1000] {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let payload = discover(vec![RawOption::new(224, data.clone())]).encode();
        let options = RawOptions::read(&payload[HEADER_LEN..], &[], &[]);
        assert_eq!(options.value(224), Some(&data[..]), "{len} octets");
        assert_eq!(
            payload.last(),
            Some(if payload.len() == 300 { &0 } else { &255 })
        );
    }
}
