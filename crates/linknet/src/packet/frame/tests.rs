use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

use super::*;

const CLIENT: Mac = Mac([0x02, 0, 0, 0, 0, 1]);
const SERVER: Mac = Mac([0x02, 0, 0, 0, 0, 2]);

fn offer(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source_mac: SERVER,
        destination_mac: CLIENT,
        source: SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 67),
        destination: SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 50), 68),
        payload,
    }
}

fn built(datagram: &Datagram<'_>) -> Vec<u8> {
    build(datagram).expect("short")
}

/// The frame that etherparse builds for a datagram.
fn built_by_etherparse(datagram: &Datagram<'_>, ttl: u8) -> Vec<u8> {
    let (source, destination) = (datagram.source, datagram.destination);
    let builder = PacketBuilder::ethernet2(
        datagram.source_mac.octets(),
        datagram.destination_mac.octets(),
    )
    .ipv4(source.ip().octets(), destination.ip().octets(), ttl)
    .udp(source.port(), destination.port());
    let mut frame = Vec::new();
    builder
        .write(&mut frame, datagram.payload)
        .expect("a vector takes everything");
    frame
}

#[test]
fn a_built_frame_parses_to_its_datagram() {
    for payload in [&[][..], &[1], &[1, 2], &[0xff; 300], &[7; 1472]] {
        let datagram = offer(payload);
        assert_eq!(parse(&built(&datagram), Checksum::Ready), Ok(datagram));
    }
}

#[test]
fn a_built_frame_equals_the_one_that_etherparse_builds() {
    for length in 0..600 {
        let payload: Vec<u8> = (0..length).map(|i| (i * 37 + length) as u8).collect();
        let datagram = offer(&payload);
        assert_eq!(
            built(&datagram),
            built_by_etherparse(&datagram, TTL),
            "length {length}"
        );
    }
}

#[test]
fn etherparse_accepts_a_built_frame() {
    let frame = built(&offer(b"hello"));
    let sliced = SlicedPacket::from_ethernet(&frame).expect("valid lengths");
    let ip = sliced
        .net
        .as_ref()
        .and_then(|net| net.ipv4_ref())
        .expect("IPv4")
        .header();
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        panic!("not UDP")
    };
    let expected = udp
        .to_header()
        .calc_checksum_ipv4(&ip.to_header(), udp.payload())
        .expect("short");
    assert_eq!(udp.checksum(), expected);
    assert_eq!(udp.payload(), b"hello");
}

#[test]
fn a_payload_too_long_for_udp_is_refused() {
    assert!(build(&offer(&[0; 65_507])).is_ok());
    assert_eq!(build(&offer(&[0; 65_508])), Err(TooLong(65_508)));
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
    // This payload completes the sum of everything else to 0xffff.
    let without = built(&offer(&[0, 0]));
    let sum = u16::from_be_bytes([without[40], without[41]]);
    let payload = sum.to_be_bytes();
    let frame = built(&offer(&payload));
    assert_eq!(frame[40..42], [0xff, 0xff]);
    assert_eq!(parse(&frame, Checksum::Ready), Ok(offer(&payload)));
}

#[test]
fn ethernet_padding_is_ignored() {
    let mut frame = built(&offer(b"x"));
    frame.resize(60, 0xaa);
    assert_eq!(parse(&frame, Checksum::Ready), Ok(offer(b"x")));
}

#[test]
fn ip_header_options_are_skipped() {
    let datagram = offer(b"options");
    let frame = built(&datagram);
    let (ethernet, packet) = frame.split_at(ETHERNET_HEADER_LEN);
    let (ip, udp) = packet.split_at(IP_HEADER_LEN);
    let mut ip = [ip, &[0x94, 4, 0, 0]].concat(); // Router Alert (RFC 2113)
    ip[0] = VERSION_4 | 6;
    let total_len = (ip.len() + udp.len()) as u16;
    ip[2..4].copy_from_slice(&total_len.to_be_bytes());
    ip[10..12].fill(0);
    let sum = checksum([&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let frame = [ethernet, &ip, udp].concat();
    assert_eq!(parse(&frame, Checksum::Ready), Ok(datagram));
}

#[test]
fn a_missing_udp_checksum_is_accepted() {
    let mut frame = built(&offer(b"none"));
    frame[40..42].fill(0);
    assert_eq!(parse(&frame, Checksum::Ready), Ok(offer(b"none")));
}

#[test]
fn a_checksum_that_is_not_ready_is_not_verified() {
    let mut frame = built(&offer(b"partial"));
    frame[41] ^= 1;
    assert_eq!(
        parse(&frame, Checksum::Ready),
        Err(Rejected::BadUdpChecksum)
    );
    assert_eq!(parse(&frame, Checksum::NotReady), Ok(offer(b"partial")));
}

#[test]
fn every_truncated_frame_is_rejected() {
    let frame = built(&offer(b"a frame to be cut"));
    for length in 0..frame.len() {
        assert_eq!(
            parse(&frame[..length], Checksum::NotReady),
            Err(Rejected::Truncated),
            "cut at {length}"
        );
    }
}

#[test]
fn every_flipped_bit_behind_the_ethernet_header_is_noticed() {
    let frame = built(&offer(b"flip"));
    for bit in ETHERNET_HEADER_LEN * 8..frame.len() * 8 {
        let mut frame = frame.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&frame, Checksum::Ready).is_err(), "bit {bit}");
    }
}

#[test]
fn each_rejection_states_its_reason() {
    // (offset, octets written there, whether the IP checksum is corrected afterwards, reason)
    let cases: &[(usize, &[u8], bool, Rejected)] = &[
        (12, &[0x86, 0xdd], false, Rejected::NotIpv4),
        (12, &[0x81, 0x00], false, Rejected::NotIpv4),
        (14, &[0x65], true, Rejected::NotIpv4),
        (14, &[0x44], true, Rejected::BadIpHeader),
        (16, &[0, 19], true, Rejected::BadIpHeader),
        (16, &[0xff, 0xff], true, Rejected::Truncated),
        (14, &[0x4f], true, Rejected::BadIpHeader),
        (22, &[1], false, Rejected::BadIpChecksum),
        (20, &[0x20, 0x00], true, Rejected::Fragment),
        (20, &[0x00, 0x01], true, Rejected::Fragment),
        (23, &[6], true, Rejected::NotUdp),
        (38, &[0, 7], false, Rejected::BadUdpLength),
        (38, &[0xff, 0xff], false, Rejected::BadUdpLength),
        (16, &[0, 27], true, Rejected::BadUdpLength),
        (16, &[0, 20], true, Rejected::BadUdpLength),
        (42, &[0], false, Rejected::BadUdpChecksum),
    ];
    for &(offset, octets, repair, reason) in cases {
        let mut frame = built(&offer(b"reason"));
        frame[offset..][..octets.len()].copy_from_slice(octets);
        if repair {
            frame[24..26].fill(0);
            let sum = checksum([&frame[ETHERNET_HEADER_LEN..][..IP_HEADER_LEN]]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        assert_eq!(
            parse(&frame, Checksum::Ready),
            Err(reason),
            "{octets:02x?} at {offset}"
        );
    }
}

#[test]
fn each_rejection_is_shown_in_words_of_its_own() {
    let all = [
        (Rejected::Truncated, "truncated frame"),
        (Rejected::TooLong, "frame too long"),
        (Rejected::NotIpv4, "not IPv4"),
        (Rejected::BadIpHeader, "bad length in the IP header"),
        (Rejected::BadIpChecksum, "wrong IP checksum"),
        (Rejected::Fragment, "IP fragment"),
        (Rejected::NotUdp, "not UDP"),
        (Rejected::BadUdpLength, "bad UDP length"),
        (Rejected::BadUdpChecksum, "wrong UDP checksum"),
    ];
    for (reason, shown) in all {
        assert_eq!(reason.to_string(), shown);
    }
}

/// Replays the inputs that fuzzing has found interesting.
#[test]
fn every_input_of_the_fuzz_corpus_is_parsed_without_a_panic() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/frame");
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is part of the repository") {
        let input = std::fs::read(entry.expect("readable").path()).expect("readable");
        for state in [Checksum::Ready, Checksum::NotReady] {
            if let Ok(datagram) = parse(&input, state) {
                let again = built(&datagram);
                assert_eq!(parse(&again, Checksum::Ready), Ok(datagram));
            }
        }
        replayed += 1;
    }
    assert!(replayed > 0, "{corpus} is empty");
}
