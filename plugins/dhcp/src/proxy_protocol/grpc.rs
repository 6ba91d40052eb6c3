//! What gRPC puts around the messages (its specification: "gRPC over HTTP2").

use cni::{Error, code, printable};

/// The octets before a message: whether it is compressed, and its length.
pub(crate) const HEADER_LEN: usize = 5;

/// The longest text of a status, in octets. netavark shows it to the user, on one line.
const MAX_TEXT: usize = 4096;

/// Codes of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    /// What the user reads.
    pub(crate) text: String,
}

impl Status {
    /// A failure with this text.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Status {
        let text = text.into();
        Status { code, text }
    }

    /// The text as `grpc-message`: what HTTP does not allow in a header is percent-encoded.
    pub(crate) fn message(&self) -> String {
        let text = printable(&self.text);
        let end = text.floor_char_boundary(MAX_TEXT);
        let mut message = String::new();
        for octet in text[..end].bytes() {
            match octet {
                b' '..=b'~' if octet != b'%' => message.push(char::from(octet)),
                _ => message.push_str(&format!("%{octet:02X}")),
            }
        }
        message
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let code = match error.code {
            code::INVALID_ENVIRONMENT | code::INVALID_NETWORK_CONFIG => Code::InvalidArgument,
            code::UNKNOWN_CONTAINER => Code::NotFound,
            code::TRY_AGAIN_LATER => Code::Unavailable,
            _ => Code::Internal,
        };
        Status::new(code, error.to_string())
    }
}

/// A message with its length before it.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The only message in the body of a call.
///
/// # Errors
/// If the body is something else, or the message is compressed.
pub(crate) fn unframe(body: &[u8]) -> Result<&[u8], Status> {
    let invalid = |text| Err(Status::new(Code::Internal, text));
    let Some((&[compressed, ref length @ ..], message)) = body.split_first_chunk::<HEADER_LEN>()
    else {
        return invalid("the call has no message");
    };
    if compressed != 0 {
        let text = "the message is compressed, which the daemon did not offer";
        return Err(Status::new(Code::Unimplemented, text));
    }
    match u32::from_be_bytes(*length) as usize == message.len() {
        true => Ok(message),
        false => invalid("the call has not exactly one message of the length that it says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_of_its_frame_and_nothing_else_does() {
        assert_eq!(frame(b"abc"), b"\0\0\0\0\x03abc");
        assert_eq!(unframe(&frame(b"abc")), Ok(&b"abc"[..]));
        assert_eq!(unframe(&frame(b"")), Ok(&b""[..]));
        for (body, code) in [
            (&b""[..], Code::Internal),
            (b"\0\0\0\0", Code::Internal),
            (b"\0\0\0\0\x04abc", Code::Internal),
            (b"\0\0\0\0\x02abc", Code::Internal),
            (b"\x01\0\0\0\x03abc", Code::Unimplemented),
            (b"\0\xff\xff\xff\xffabc", Code::Internal),
        ] {
            let refused = unframe(body).expect_err("not one message");
            assert_eq!(refused.code, code, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_text_is_a_header_of_printable_ascii() {
        let message = |text: &str| Status::new(Code::Unknown, text).message();
        assert_eq!(
            message("no address: 10 %, «é»"),
            "no address: 10 %25, %C2%AB%C3%A9%C2%BB"
        );
        assert!(!message("two\nlines\x1b[31m").contains(['\n', '\x1b']));
        let long = message(&"é".repeat(MAX_TEXT));
        assert_eq!(long.len(), 3 * MAX_TEXT);
        assert!(message("").is_empty());
    }

    #[test]
    fn an_error_keeps_its_details_and_what_kind_of_error_it_is() {
        let status = |code| Status::from(Error::new(code, "no address").details("eth0 is down"));
        for (code, expected) in [
            (code::INVALID_ENVIRONMENT, Code::InvalidArgument),
            (code::INVALID_NETWORK_CONFIG, Code::InvalidArgument),
            (code::UNKNOWN_CONTAINER, Code::NotFound),
            (code::TRY_AGAIN_LATER, Code::Unavailable),
            (code::IO_FAILURE, Code::Internal),
        ] {
            let status = status(code);
            assert_eq!(
                (status.code, &*status.text),
                (expected, "no address: eth0 is down")
            );
        }
        assert_eq!(Status::from(Error::new(5, "short")).text, "short");
    }
}
