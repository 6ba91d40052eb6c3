//! The kernel's verdict on a request, and its explanation (extended acknowledgement).
//!
//! netlink-packet-core leaves the explanation unparsed.

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NlasIterator, parse_i32, parse_string};

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the explanation, in plain text.
const MESSAGE: u16 = 1;

/// `struct nlmsgerr` starts with the error code, followed by the header of the refused request.
const CODE_LEN: usize = 4;
const HEADER_LEN: usize = 16;

/// The refusal in an `NLMSG_ERROR`; `None` if the request succeeded.
pub(super) fn parse_error(flags: u16, payload: &[u8]) -> Option<(Errno, Option<String>)> {
    let errno = errno(payload)?;
    let request = payload.get(CODE_LEN..).unwrap_or_default();
    // The kernel sends the request back, whole or capped to its header. The length field gives the
    // whole length in both cases.
    let echoed = match request.first_chunk() {
        _ if flags & NLM_F_CAPPED != 0 => HEADER_LEN,
        Some(&length) => (u32::from_ne_bytes(length) as usize).next_multiple_of(4),
        None => return Some((errno, None)),
    };
    Some((errno, message(flags, request.get(echoed..))))
}

/// The refusal in an `NLMSG_DONE` at the end of a dump; `None` if the dump succeeded.
pub(super) fn parse_done(flags: u16, payload: &[u8]) -> Option<(Errno, Option<String>)> {
    errno(payload).map(|errno| (errno, message(flags, payload.get(CODE_LEN..))))
}

fn errno(payload: &[u8]) -> Option<Errno> {
    match payload.get(..CODE_LEN).map(parse_i32) {
        Some(Ok(0)) => None,
        Some(Ok(code)) => Some(Errno::from_raw(code.saturating_neg())),
        Some(Err(_)) | None => Some(Errno::EBADMSG),
    }
}

fn message(flags: u16, attributes: Option<&[u8]>) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let message = NlasIterator::new(attributes?)
        .map_while(Result::ok)
        .find(|nla| nla.kind() == MESSAGE)?;
    parse_string(message.value())
        .ok()
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NLMSGERR_ATTR_MSG` "no", padded.
    const NO: [u8; 8] = attribute(1, *b"no\0");
    /// `NLMSGERR_ATTR_OFFS`, which may stand before or after it.
    const OFFSET: [u8; 8] = attribute(2, [1, 2, 3]);

    const fn attribute(kind: u8, value: [u8; 3]) -> [u8; 8] {
        let [low, high] = 7_u16.to_ne_bytes();
        let [kind_low, kind_high] = (kind as u16).to_ne_bytes();
        [
            low, high, kind_low, kind_high, value[0], value[1], value[2], 0,
        ]
    }

    fn error(code: i32, request_len: u32, rest: &[&[u8]]) -> Vec<u8> {
        let mut payload = code.to_ne_bytes().to_vec();
        payload.extend(request_len.to_ne_bytes());
        payload.extend([0; HEADER_LEN - 4]);
        payload.extend(rest.concat());
        payload
    }

    #[test]
    fn code_zero_means_success_whatever_follows() {
        assert_eq!(
            parse_error(NLM_F_ACK_TLVS | NLM_F_CAPPED, &error(0, 16, &[&NO])),
            None
        );
        assert_eq!(parse_done(0, &0_i32.to_ne_bytes()), None);
    }

    #[test]
    fn the_explanation_is_found_behind_a_capped_request() {
        let payload = error(-16, 200, &[&OFFSET, &NO]);
        let verdict = parse_error(NLM_F_ACK_TLVS | NLM_F_CAPPED, &payload);
        assert_eq!(verdict, Some((Errno::EBUSY, Some("no".to_owned()))));
    }

    #[test]
    fn the_explanation_is_found_behind_a_whole_request() {
        let payload = error(-16, 21, &[&[9; 8], &NO]); // 5 octets of request, and 3 of padding
        assert_eq!(
            parse_error(NLM_F_ACK_TLVS, &payload),
            Some((Errno::EBUSY, Some("no".to_owned())))
        );
    }

    #[test]
    fn attributes_are_not_read_without_the_flag_for_them() {
        assert_eq!(
            parse_error(NLM_F_CAPPED, &error(-16, 16, &[&NO])),
            Some((Errno::EBUSY, None))
        );
    }

    #[test]
    fn a_dump_can_fail_at_its_end() {
        let payload = [&(-22_i32).to_ne_bytes()[..], &NO].concat();
        assert_eq!(
            parse_done(NLM_F_ACK_TLVS, &payload),
            Some((Errno::EINVAL, Some("no".to_owned())))
        );
    }

    #[test]
    fn a_truncated_verdict_is_read_as_a_refusal() {
        let whole = error(-16, 21, &[&[9; 8], &NO]);
        for length in 0..whole.len() - 1 {
            let verdict = parse_error(NLM_F_ACK_TLVS, &whole[..length]);
            let expected = if length < CODE_LEN {
                Errno::EBADMSG
            } else {
                Errno::EBUSY
            };
            assert_eq!(verdict, Some((expected, None)), "cut at {length}");
        }
        assert_eq!(parse_done(0, &[]), Some((Errno::EBADMSG, None)));
    }
}
