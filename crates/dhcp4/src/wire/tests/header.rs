//! The fixed fields of a reply.

use std::net::Ipv4Addr;

use super::super::decode::MAX_RECEIVED_LEN;
use super::*;
use crate::report::IgnoreReason;

#[test]
fn a_well_formed_reply_is_read() {
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
fn a_payload_shorter_than_the_header_is_refused() {
    let whole = ack(&[255]);
    for len in 0..HEADER_LEN {
        assert_eq!(
            Reply::decode(&whole[..len]).unwrap_err(),
            IgnoreReason::TooShort,
            "{len}"
        );
    }
    assert_eq!(
        Reply::decode(&whole[..HEADER_LEN]).unwrap_err(),
        IgnoreReason::WrongType
    );
}

#[test]
fn a_payload_longer_than_a_jumbo_frame_is_refused() {
    let mut payload = ack(&[255]);
    payload.resize(MAX_RECEIVED_LEN, 0);
    assert!(Reply::decode(&payload).is_ok());
    payload.push(0);
    assert_eq!(Reply::decode(&payload).unwrap_err(), IgnoreReason::TooLong);
}

#[test]
fn a_wrong_value_in_a_fixed_field_is_refused() {
    for (at, value, reason) in [
        (0, 1, IgnoreReason::NotReply),
        (0, 9, IgnoreReason::NotReply),
        (2, 0, IgnoreReason::NotEthernet),
        (236, 0, IgnoreReason::NoCookie),
        (239, 0, IgnoreReason::NoCookie),
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
fn the_hardware_type_does_not_matter() {
    let mut payload = ack(&[255]);
    payload[1] = 6;
    assert_eq!(Reply::decode(&payload).unwrap().chaddr, MAC);
}

#[test]
fn a_hardware_address_longer_than_its_field_does_not_panic() {
    for hlen in 7..=255 {
        let mut payload = ack(&[255]);
        payload[2] = hlen;
        assert_eq!(
            Reply::decode(&payload).unwrap_err(),
            IgnoreReason::NotEthernet,
            "hlen {hlen}"
        );
    }
}

#[test]
fn only_offer_ack_and_nak_are_read() {
    for kind in 0..=255 {
        let read = Reply::decode(&reply(&[53, 1, kind, 255])).map(|reply| reply.kind);
        let expected = match kind {
            2 => Ok(ReplyKind::Offer),
            5 => Ok(ReplyKind::Ack),
            6 => Ok(ReplyKind::Nak),
            _ => Err(IgnoreReason::WrongType),
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
            IgnoreReason::WrongType,
            "{bad:?}"
        );
    }
}
