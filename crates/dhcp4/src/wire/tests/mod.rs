use super::*;

const XID: u32 = 0x1234_5678;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A reply with these options, written octet by octet: code, length, value, and no end.
fn reply(options: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; HEADER];
    payload[..4].copy_from_slice(&[2, 1, 6, 0]);
    payload[4..8].copy_from_slice(&XID.to_be_bytes());
    payload[16..20].copy_from_slice(&[10, 0, 0, 5]);
    payload[28..34].copy_from_slice(&MAC);
    payload[236..].copy_from_slice(&v4::MAGIC);
    payload.extend(options);
    payload
}

/// The options of an ACK with these among them.
fn options(options: &[u8]) -> Options {
    Reply::decode(&ack(options)).unwrap().into_options()
}

fn ack(options: &[u8]) -> Vec<u8> {
    reply(&[&[53, 1, 5], options].concat())
}

fn option(code: u8, data: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    put_option(&mut field, code, data);
    field
}

mod header {
    use super::*;

    #[test]
    fn a_reply_is_read() {
        let reply = Reply::decode(&ack(&[54, 4, 10, 0, 0, 1, 51, 4, 0, 0, 14, 16, 255])).unwrap();
        assert_eq!(
            (reply.kind, reply.xid, reply.chaddr),
            (ReplyKind::Ack, XID, MAC)
        );
        assert_eq!(reply.yiaddr, Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!(reply.server_id(), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(reply.lease_time(), Some(3600));
    }

    #[test]
    fn anything_cut_short_is_too_short() {
        let whole = ack(&[255]);
        for len in 0..HEADER {
            assert_eq!(
                Reply::decode(&whole[..len]).unwrap_err(),
                Reason::TooShort,
                "{len}"
            );
        }
        assert_eq!(
            Reply::decode(&whole[..HEADER]).unwrap_err(),
            Reason::WrongType
        );
    }

    #[test]
    fn anything_longer_than_a_jumbo_frame_is_too_long() {
        let mut payload = ack(&[255]);
        payload.resize(MAX_RECEIVED, 0);
        assert!(Reply::decode(&payload).is_ok());
        payload.push(0);
        assert_eq!(Reply::decode(&payload).unwrap_err(), Reason::TooLong);
    }

    #[test]
    fn each_fixed_field_is_checked() {
        for (at, value, reason) in [
            (0, 1, Reason::NotReply),
            (0, 9, Reason::NotReply),
            (1, 6, Reason::NotEthernet),
            (2, 0, Reason::NotEthernet),
            (236, 0, Reason::NoCookie),
            (239, 0, Reason::NoCookie),
        ] {
            let mut payload = ack(&[255]);
            payload[at] = value;
            assert_eq!(
                Reply::decode(&payload).unwrap_err(),
                reason,
                "octet {at} = {value}"
            );
        }
    }

    #[test]
    fn a_hardware_address_longer_than_its_field_does_not_panic() {
        for hlen in 7..=255 {
            let mut payload = ack(&[255]);
            payload[2] = hlen;
            assert_eq!(
                Reply::decode(&payload).unwrap_err(),
                Reason::NotEthernet,
                "hlen {hlen}"
            );
        }
    }

    #[test]
    fn only_what_servers_send_is_a_reply() {
        for kind in 0..=255 {
            let read = Reply::decode(&reply(&[53, 1, kind, 255])).map(|reply| reply.kind);
            let expected = match kind {
                2 => Ok(ReplyKind::Offer),
                5 => Ok(ReplyKind::Ack),
                6 => Ok(ReplyKind::Nak),
                _ => Err(Reason::WrongType),
            };
            assert_eq!(
                read.map_err(|reason| assert_eq!(Err(reason), expected))
                    .ok(),
                expected.ok(),
                "{kind}"
            );
        }
        for bad in [
            &[53, 0, 255][..],
            &[53, 2, 5, 5, 255],
            &[53, 1, 5, 53, 1, 5, 255],
            &[53],
            &[53, 1],
            &[],
        ] {
            assert_eq!(
                Reply::decode(&reply(bad)).unwrap_err(),
                Reason::WrongType,
                "{bad:?}"
            );
        }
    }
}

mod layout {
    use super::*;

    #[test]
    fn the_pieces_of_a_long_option_are_joined_wherever_they_stand() {
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
    fn overloaded_fields_hold_options_file_first() {
        let mut payload = ack(&[52, 1, 3, 6, 4, 1, 1, 1, 1, 255]);
        payload[108..115].copy_from_slice(&[6, 4, 2, 2, 2, 2, 255]);
        payload[44..51].copy_from_slice(&[6, 4, 3, 3, 3, 3, 255]);
        let dns = Reply::decode(&payload).unwrap().into_options().dns;
        assert_eq!(dns, [[1; 4], [2; 4], [3; 4]].map(Ipv4Addr::from));
    }

    #[test]
    fn a_field_that_is_not_overloaded_holds_a_name() {
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
    fn the_message_type_may_stand_in_an_overloaded_field_and_overload_says_nothing_there() {
        let mut payload = reply(&[52, 1, 1, 255]);
        payload[108..115].copy_from_slice(&[53, 1, 5, 52, 1, 3, 255]);
        payload[44..51].copy_from_slice(&[6, 4, 3, 3, 3, 3, 255]);
        let reply = Reply::decode(&payload).unwrap();
        assert_eq!(reply.kind, ReplyKind::Ack);
        assert!(reply.into_options().dns.is_empty());
    }

    #[test]
    fn padding_is_skipped_and_nothing_is_read_after_the_end() {
        let options = options(&[0, 0, 6, 4, 1, 1, 1, 1, 0, 255, 6, 4, 2, 2, 2, 2]);
        assert_eq!(options.dns, [Ipv4Addr::from([1; 4])]);
    }

    #[test]
    fn an_option_cut_short_costs_only_itself() {
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
    fn raw_options_are_all_there_in_the_order_in_which_they_came() {
        let options = options(&[224, 1, 7, 3, 4, 10, 0, 0, 1, 224, 1, 8, 80, 0, 255]);
        let expected = [
            (53, vec![5]),
            (224, vec![7, 8]),
            (3, vec![10, 0, 0, 1]),
            (80, vec![]),
        ];
        assert_eq!(
            options.raw,
            expected.map(|(code, data)| RawOption::new(code, data))
        );
    }
}

mod values {
    use super::*;

    #[test]
    fn a_bad_option_of_any_kind_costs_only_itself() {
        // Those at which the codec would stop, lose the rest or panic, before those that matter.
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
                raw: Vec::new(),
                ..reply.into_options()
            };
            assert_eq!(read, Options::default(), "option {code} {data:?}");
        }
    }

    #[test]
    fn a_mask_must_be_a_prefix() {
        let prefix_len = |mask: &[u8]| Reply::decode(&ack(&option(1, mask))).unwrap().prefix_len();
        assert_eq!(prefix_len(&[255, 255, 254, 0]), Some(23));
        assert_eq!(prefix_len(&[255; 4]), Some(32));
        for mask in [
            &[0; 4][..],
            &[0, 255, 255, 255],
            &[255, 0, 255, 0],
            &[255; 5],
        ] {
            assert_eq!(prefix_len(mask), None, "{mask:?}");
        }
    }

    #[test]
    fn addresses_that_no_host_has_are_left_out_of_lists() {
        let list = [
            [0; 4],
            [10, 0, 0, 1],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255; 4],
            [10, 0, 0, 2],
        ]
        .concat();
        for code in [3, 6, 42] {
            let options = options(&option(code, &list));
            let read = [options.routers, options.dns, options.ntp].concat();
            assert_eq!(
                read,
                [[10, 0, 0, 1], [10, 0, 0, 2]].map(Ipv4Addr::from),
                "option {code}"
            );
        }
    }

    #[test]
    fn texts_lose_their_trailing_nulls_and_must_be_names() {
        let read = options(&[option(12, b"web-0\0\0"), option(15, b"example.com.\0")].concat());
        assert_eq!(read.hostname.as_deref(), Some("web-0"));
        assert_eq!(read.domain.as_deref(), Some("example.com"));
        for text in [
            &b"a b"[..],
            b"$(reboot)",
            b"a\nnameserver 6.6.6.6",
            b"\0",
            b"a\0b",
        ] {
            assert_eq!(options(&option(12, text)).hostname, None, "{text:?}");
        }
    }

    #[test]
    fn several_domains_in_one_text_are_a_search_list() {
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
    fn a_search_list_is_uncompressed_and_checked() {
        // eng.apple.com and marketing.apple.com, the example of RFC 3397 section 2.
        let list = b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04\x05a b c\0";
        assert_eq!(
            options(&option(119, list)).search,
            ["eng.apple.com", "marketing.apple.com"]
        );
    }

    #[test]
    fn a_search_list_that_unfolds_into_a_megabyte_is_cut_or_refused() {
        let unfolding = |len: usize| {
            let mut list = b"\x01a".repeat(125);
            list.push(0);
            list.extend([0xc0, 0].repeat((len - list.len()) / 2));
            options(&option(119, &list)).search
        };
        assert_eq!(unfolding(1023).len(), 64);
        assert_eq!(unfolding(1025).len(), 0);
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
        let bad = [option(121, &[99]), option(249, &list[..5])].concat();
        assert_eq!(
            options(&bad).classless_routes,
            expected[..1],
            "249 where 121 is malformed"
        );
    }

    #[test]
    fn static_routes_never_hold_a_default_route() {
        let list = [[192, 168, 7, 0], [10, 0, 0, 2], [0; 4], [10, 0, 0, 3]].concat();
        let expected = Route {
            dst: "192.168.7.0/24".parse().unwrap(),
            gateway: Some([10, 0, 0, 2].into()),
        };
        assert_eq!(options(&option(33, &list)).static_routes, [expected]);
    }

    #[test]
    fn an_mtu_is_one_that_ip_can_live_with() {
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
    fn ipv6_only_is_option_108_and_not_106() {
        let wait = [0, 0, 7, 8];
        assert_eq!(
            options(&option(108, &wait)).ipv6_only_wait,
            Some(Duration::from_secs(1800))
        );
        assert_eq!(options(&option(106, &wait)).ipv6_only_wait, None);
    }

    #[test]
    fn a_message_is_made_printable_and_short() {
        let message = |text: &[u8]| Reply::decode(&ack(&option(56, text))).unwrap().message();
        assert_eq!(
            message(b"no\x1b[31m such\0").as_deref(),
            Some("no[31m such")
        );
        assert_eq!(message(&[0xff]).as_deref(), Some("\u{fffd}"));
        assert_eq!(message(b"\0\0"), None);
        assert_eq!(message(&[b'x'; 255]).map(|text| text.len()), Some(128));
    }
}

mod sending {
    use super::*;

    fn discover(options: Vec<RawOption>) -> Outgoing {
        Outgoing {
            kind: Sent::Discover,
            xid: XID,
            secs: 7,
            broadcast: true,
            ciaddr: Ipv4Addr::new(10, 0, 0, 5),
            chaddr: MAC,
            options,
        }
    }

    #[test]
    fn the_header_is_as_rfc_2131_draws_it() {
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
    fn the_message_type_comes_first_and_the_rest_in_the_order_given() {
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
    fn a_long_option_is_sent_in_pieces_that_join_again() {
        for len in [0, 1, 255, 256, 510, 511, 1000] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let payload = discover(vec![RawOption::new(224, data.clone())]).encode();
            let options = collect(&payload[HEADER..], &[], &[]);
            assert_eq!(raw(&options, 224), Some(&data[..]), "{len} octets");
            assert_eq!(
                payload.last(),
                Some(if payload.len() == 300 { &0 } else { &255 })
            );
        }
    }
}
