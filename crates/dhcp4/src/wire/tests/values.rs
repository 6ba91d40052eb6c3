//! What the options of a reply are read as.

use std::net::Ipv4Addr;

use super::*;
use crate::options::{OptionList, RawOption, Route};

#[test]
fn a_malformed_option_does_not_affect_the_others() {
    // Options at which the codec would stop, drop the rest or panic.
    let bad: &[(u8, &[u8])] = &[
        (1, &[255, 255]),
        (1, &[255, 0, 255, 0]),
        (3, &[10, 0, 0]),
        (6, &[]),
        (12, &[0xff, 0xfe]),
        (15, &[0xc3]),
        (26, &[5]),
        (28, &[10, 0, 0]),
        (33, &[10, 0, 0, 0]),
        (42, &[1, 2, 3, 4, 5]),
        (58, &[0, 0, 1]),
        (80, &[1, 2, 3]),
        (81, &[0]),
        (81, b"\0\0\0host"),
        (94, &[1]),
        (108, &[1, 2]),
        (114, &[0xff]),
        (119, &[63, 1]),
        (119, &[0xc0, 0]),
        (121, &[33, 10, 0, 0, 1]),
        (121, &[24, 10, 0]),
        (151, &[]),
        (152, &[]),
        (153, &[1]),
        (154, &[1, 2]),
        (155, &[1, 2, 3]),
    ];
    for (code, data) in bad {
        let good = [54, 4, 10, 0, 0, 1, 51, 4, 0, 0, 0, 60, 255];
        let reply = Reply::decode(&ack(&[&option(*code, data)[..], &good].concat())).unwrap();
        assert_eq!(reply.lease_time(), Some(60), "option {code} {data:?}");
        assert_eq!(
            reply.server_id(),
            Some(Ipv4Addr::new(10, 0, 0, 1)),
            "option {code} {data:?}"
        );
        let read = Options {
            raw: OptionList::default(),
            ..reply.into_options()
        };
        assert_eq!(read, Options::default(), "option {code} {data:?}");
    }
}

#[test]
fn a_mask_must_be_one_that_a_lan_can_have() {
    let prefix_len = |mask: &[u8]| Reply::decode(&ack(&option(1, mask))).unwrap().prefix_len();
    assert_eq!(prefix_len(&[255, 255, 254, 0]), Some(23));
    assert_eq!(prefix_len(&[255; 4]), Some(32));
    assert_eq!(prefix_len(&[255, 0, 0, 0]), Some(8));
    for mask in [
        &[0; 4][..],
        &[128, 0, 0, 0],
        &[254, 0, 0, 0],
        &[0, 255, 255, 255],
        &[255, 0, 255, 0],
        &[255; 5],
    ] {
        assert_eq!(prefix_len(mask), None, "{mask:?}");
    }
}

#[test]
fn addresses_that_no_host_can_have_are_left_out_of_lists() {
    let list = [
        [0; 4],
        [10, 0, 0, 1],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [10, 0, 0, 2],
    ]
    .concat();
    for code in [3, 6] {
        let options = options(&option(code, &list));
        let read = [options.routers, options.dns].concat();
        assert_eq!(
            read,
            [[10, 0, 0, 1], [10, 0, 0, 2]].map(Ipv4Addr::from),
            "option {code}"
        );
    }
}

#[test]
fn a_domain_loses_its_trailing_nulls_and_must_be_valid() {
    let read = options(&option(15, b"example.com.\0\0"));
    assert_eq!(read.domain.as_deref(), Some("example.com"));
    assert_eq!(read.search, [""; 0], "a resolver searches it anyway");
    for text in [&b"$(reboot)"[..], b"a;b", b"\0", b"a\0b", b"-a"] {
        assert_eq!(options(&option(15, text)).domain, None, "{text:?}");
    }
}

#[test]
fn several_domains_in_option_15_are_a_search_list() {
    let read = options(&option(15, b"example.com example.org"));
    assert_eq!(read.domain.as_deref(), Some("example.com"));
    assert_eq!(read.search, ["example.com", "example.org"]);

    let both = options(
        &[
            option(15, b"example.com example.org"),
            option(119, b"\x03lan\0"),
        ]
        .concat(),
    );
    assert_eq!(both.search, ["lan"]);
}

#[test]
fn a_search_list_is_decompressed_and_invalid_names_are_left_out() {
    // eng.apple.com and marketing.apple.com, the example of RFC 3397 section 2.
    let list = b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04\x05a b c\0";
    assert_eq!(
        options(&option(119, list)).search,
        ["eng.apple.com", "marketing.apple.com"]
    );
}

#[test]
fn a_search_list_that_expands_to_a_megabyte_is_cut_or_refused() {
    let expanding = |len: usize| {
        let mut list = b"\x01a".repeat(125);
        list.push(0);
        list.extend([0xc0, 0].repeat((len - list.len()) / 2));
        options(&option(119, &list)).search
    };
    assert_eq!(expanding(1023).len(), 64);
    assert_eq!(expanding(1025).len(), 0);
}

#[test]
fn classless_routes_are_read_as_rfc_3442_writes_them() {
    let list = [
        &[0, 10, 0, 0, 1][..],
        &[24, 192, 168, 7, 10, 0, 0, 2],
        &[32, 169, 254, 169, 254, 0, 0, 0, 0],
        &[9, 10, 0xff, 10, 0, 0, 3], // host bits set
    ]
    .concat();
    let expected = [
        ("0.0.0.0/0", Some([10, 0, 0, 1])),
        ("192.168.7.0/24", Some([10, 0, 0, 2])),
        ("169.254.169.254/32", None),
        ("10.128.0.0/9", Some([10, 0, 0, 3])),
    ]
    .map(|(dst, gateway)| Route {
        dst: dst.parse().unwrap(),
        gateway: gateway.map(Ipv4Addr::from),
    });
    for code in [121, 249] {
        assert_eq!(
            options(&option(code, &list)).classless_routes,
            expected,
            "option {code}"
        );
    }
    let both = [option(249, &list), option(121, &list[..5])].concat();
    assert_eq!(
        options(&both).classless_routes,
        expected[..1],
        "121 before 249"
    );
    for malformed in [&[121, 1, 99][..], &[121, 0]] {
        let bad = [malformed, &option(249, &list[..5])].concat();
        assert_eq!(
            options(&bad).classless_routes,
            expected[..1],
            "249 where 121 is malformed: {malformed:?}"
        );
    }
}

#[test]
fn a_default_route_among_static_routes_is_left_out() {
    let list = [[192, 168, 7, 0], [10, 0, 0, 2], [0; 4], [10, 0, 0, 3]].concat();
    let expected = Route {
        dst: "192.168.7.0/24".parse().unwrap(),
        gateway: Some([10, 0, 0, 2].into()),
    };
    assert_eq!(options(&option(33, &list)).static_routes, [expected]);
}

#[test]
fn a_broadcast_address_is_one_that_stations_can_be_reached_at() {
    for (address, expected) in [
        ([10, 0, 0, 255], Some([10, 0, 0, 255].into())),
        ([255; 4], Some(Ipv4Addr::BROADCAST)),
        ([0; 4], None),
    ] {
        assert_eq!(options(&option(28, &address)).broadcast, expected);
    }
}

#[test]
fn an_mtu_below_the_minimum_of_ip_is_left_out() {
    for (mtu, expected) in [
        (0, None),
        (68, None),
        (575, None),
        (576, Some(576)),
        (9000, Some(9000)),
    ] {
        assert_eq!(options(&option(26, &u16::to_be_bytes(mtu))).mtu, expected);
    }
}

#[test]
fn a_text_for_the_user_is_made_printable_and_short() {
    let message = |text: &[u8]| Reply::decode(&ack(&option(56, text))).unwrap().message();
    assert_eq!(
        message(b"no\x1b[31m such\0").as_deref(),
        Some("no[31m such")
    );
    assert_eq!(message(&[0xff]).as_deref(), Some("\u{fffd}"));
    assert_eq!(message(b"\0\0"), None);
    assert_eq!(message(&[b'x'; 255]).map(|text| text.len()), Some(128));
}

#[test]
fn an_earlier_message_completes_what_this_one_does_not_speak_of() {
    const OWN_ROUTERS: (u8, &[u8]) = (3, &[10, 0, 0, 1]);
    let mask: (u8, &[u8]) = (1, &[255, 255, 255, 0]);
    let bad_mask: (u8, &[u8]) = (1, &[128, 0, 0, 0]);
    let time: (u8, &[u8]) = (51, &[0, 0, 0, 60]);
    let bad_time: (u8, &[u8]) = (51, &[0, 60]);
    let dns: (u8, &[u8]) = (6, &[10, 0, 0, 2]);
    for (own, earlier, is_added) in [
        (None, dns, true),
        (Some(OWN_ROUTERS), dns, true),
        (Some(dns), (6, &[10, 0, 0, 3][..]), false),
        (None, mask, true),
        (Some((1, &[255, 255, 0, 0][..])), mask, false),
        (Some(bad_mask), mask, true),
        (None, time, true),
        (Some((51, &[0, 0, 0, 80][..])), time, false),
        (Some(bad_time), time, true),
        // T1 and T2 belong to the lease time.
        (None, (58, &[0, 0, 0, 9][..]), true),
        (Some(time), (58, &[0, 0, 0, 9][..]), false),
        (Some(time), (59, &[0, 0, 0, 9][..]), false),
        // Of routes, one message has all.
        (None, (33, &[10, 0, 0, 0, 10, 0, 0, 9][..]), true),
        (Some(OWN_ROUTERS), (3, &[10, 0, 0, 9][..]), false),
        (
            Some(OWN_ROUTERS),
            (33, &[10, 0, 0, 0, 10, 0, 0, 9][..]),
            false,
        ),
        (Some(OWN_ROUTERS), (121, &[0, 10, 0, 0, 9][..]), false),
        (Some(OWN_ROUTERS), (249, &[0, 10, 0, 0, 9][..]), false),
        (
            Some((33, &[10, 0, 0, 0, 10, 0, 0, 9][..])),
            OWN_ROUTERS,
            false,
        ),
        (Some((121, &[0, 10, 0, 0, 9][..])), OWN_ROUTERS, false),
        (Some((249, &[0, 10, 0, 0, 9][..])), OWN_ROUTERS, false),
        // What is about the message itself.
        (None, (54, &[10, 0, 0, 1][..]), false),
        (None, (61, &b"me"[..]), false),
        (None, (53, &[2][..]), false),
    ] {
        let own: Vec<u8> = own
            .map(|(code, data)| option(code, data))
            .unwrap_or_default();
        let mut reply = Reply::decode(&ack(&own)).unwrap();
        reply.complete(&[RawOption::new(earlier.0, earlier.1)]);
        let raw = reply.into_raw_options();
        let has = raw
            .iter()
            .any(|option| (option.code, &option.data[..]) == earlier);
        assert_eq!(has, is_added, "{own:?} with {earlier:?}");
    }
}
