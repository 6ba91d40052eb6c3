//! Client identifiers: the body of option 61 in its various forms.

/// Why a text is not hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not hexadecimal: {0:?}")]
pub struct NotHex(String);

/// The container form, octet by octet that of the Go plugins.
pub fn container(container_id: &str, network: &str, ifname: &str) -> Vec<u8> {
    text(&format!("{container_id}/{network}/{ifname}"))
}

/// Ethernet address.
pub fn mac(mac: [u8; 6]) -> Vec<u8> {
    [&[1][..], &mac].concat()
}

/// RFC 4361.
pub fn duid(iaid: u32, duid: &[u8]) -> Vec<u8> {
    [&[255][..], &iaid.to_be_bytes(), duid].concat()
}

/// Text: type 0.
pub fn text(text: &str) -> Vec<u8> {
    [&[0][..], text.as_bytes()].concat()
}

/// Hex.
pub fn hex(digits: &str) -> Result<Vec<u8>, NotHex> {
    Err(NotHex(digits.to_owned()))
}
