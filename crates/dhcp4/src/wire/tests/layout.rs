//! How a reply is split into options.

use std::net::Ipv4Addr;

use super::*;
use crate::options::RawOption;

#[test]
fn the_fragments_of_a_long_option_are_joined_wherever_they_are() {
    let names: Vec<u8> = (0..50).flat_map(|_| *b"\x0aabcdefghij\x00").collect();
    let (first, second) = names.split_at(250);
    let (second, third) = second.split_at(101);
    let options = options(
        &[
            option(119, first),
            option(3, &[10, 0, 0, 1]),
            option(119, second),
            option(119, third),
        ]
        .concat(),
    );
    assert_eq!(options.search, vec!["abcdefghij"; 50]);
    assert_eq!(options.routers, [Ipv4Addr::new(10, 0, 0, 1)]);
}

#[test]
fn overloaded_fields_are_read_and_file_comes_before_sname() {
    let mut payload = ack(&[52, 1, 3, 6, 4, 1, 1, 1, 1, 255]);
    payload[108..115].copy_from_slice(&[6, 4, 2, 2, 2, 2, 255]);
    payload[44..51].copy_from_slice(&[6, 4, 3, 3, 3, 3, 255]);
    let dns = Reply::decode(&payload).unwrap().into_options().dns;
    assert_eq!(dns, [[1; 4], [2; 4], [3; 4]].map(Ipv4Addr::from));
}

#[test]
fn a_field_that_is_not_overloaded_is_not_read() {
    for (overload, expected) in [(0, [1; 4]), (1, [2; 4]), (2, [3; 4])] {
        let mut payload = ack(&[52, 1, overload, 255]);
        payload.splice(
            243..243,
            if overload == 0 {
                option(6, &[1; 4])
            } else {
                Vec::new()
            },
        );
        payload[108..115].copy_from_slice(&[6, 4, 2, 2, 2, 2, 255]);
        payload[44..51].copy_from_slice(&[6, 4, 3, 3, 3, 3, 255]);
        let dns = Reply::decode(&payload).unwrap().into_options().dns;
        assert_eq!(dns, [Ipv4Addr::from(expected)], "overload {overload}");
    }
}

#[test]
fn the_message_type_may_be_in_an_overloaded_field_but_option_52_has_no_effect_there() {
    let mut payload = reply(&[52, 1, 1, 255]);
    payload[108..115].copy_from_slice(&[53, 1, 5, 52, 1, 3, 255]);
    payload[44..51].copy_from_slice(&[6, 4, 3, 3, 3, 3, 255]);
    let reply = Reply::decode(&payload).unwrap();
    assert_eq!(reply.kind, ReplyKind::Ack);
    assert!(reply.into_options().dns.is_empty());
}

#[test]
fn padding_is_skipped_and_nothing_after_the_end_mark_is_read() {
    let options = options(&[0, 0, 6, 4, 1, 1, 1, 1, 0, 255, 6, 4, 2, 2, 2, 2]);
    assert_eq!(options.dns, [Ipv4Addr::from([1; 4])]);
}

#[test]
fn an_option_cut_short_does_not_affect_the_others() {
    for tail in [
        &[6][..],
        &[6, 4],
        &[6, 4, 1],
        &[6, 4, 1, 1, 1],
        &[6, 255, 1, 1, 1, 1],
    ] {
        let options = options(&[&[3, 4, 10, 0, 0, 1][..], tail].concat());
        assert_eq!(options.routers, [Ipv4Addr::new(10, 0, 0, 1)], "{tail:?}");
        assert!(options.dns.is_empty(), "{tail:?}");
    }
}

#[test]
fn raw_options_are_complete_and_in_the_order_of_arrival() {
    let options = options(&[224, 1, 7, 3, 4, 10, 0, 0, 1, 224, 1, 8, 80, 0, 255]);
    let expected = [
        (53, vec![5]),
        (224, vec![7, 8]),
        (3, vec![10, 0, 0, 1]),
        (80, vec![]),
    ];
    assert_eq!(
        Vec::from(options.raw),
        expected.map(|(code, data)| RawOption::new(code, data))
    );
}
