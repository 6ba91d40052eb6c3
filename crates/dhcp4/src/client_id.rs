//! Client identifiers: the body of option 61 in its various forms (RFC 2132 section 9.14, RFC
//! 4361).
//!
//! For a server, an identifier of any form is an opaque key to a lease. It must therefore stay the
//! same as long as the lease lives, and no two clients of a subnet may share it.

/// The longest body that fits one option, in octets.
const MAX_LEN: usize = 255;

/// The type of an identifier that is not a hardware address (RFC 2132 section 9.14).
const TYPE_TEXT: u8 = 0;
/// The type of an Ethernet address (RFC 1700).
const TYPE_ETHERNET: u8 = 1;
/// The type of an IAID followed by a DUID (RFC 4361 section 6.1).
const TYPE_DUID: u8 = 255;

/// The form that most hosts use: `0x01` and the Ethernet address. Servers match it with
/// reservations by MAC address.
pub fn mac(mac: [u8; 6]) -> Vec<u8> {
    [&[TYPE_ETHERNET][..], &mac].concat()
}

/// The form shared with DHCPv6 (RFC 4361): `0xff`, the identifier of the interface (IAID) and that
/// of the machine (DUID), cut at 255 octets.
pub fn duid(iaid: u32, duid: &[u8]) -> Vec<u8> {
    let mut id = [&[TYPE_DUID][..], &iaid.to_be_bytes(), duid].concat();
    id.truncate(MAX_LEN);
    id
}

/// A DUID made of a UUID (RFC 6355): type 4 and the UUID. Do not use the machine id of
/// `machine-id(5)` itself, which is confidential, but a UUID derived from it.
pub fn duid_from_uuid(uuid: [u8; 16]) -> Vec<u8> {
    [&[0, 4][..], &uuid].concat()
}

/// The form for a text: `0x00` and the text, cut at 255 octets.
pub fn text(text: &str) -> Vec<u8> {
    let mut id = [&[TYPE_TEXT][..], text.as_bytes()].concat();
    id.truncate(MAX_LEN);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_begins_with_its_type_and_fits_one_option() {
        assert_eq!(mac([2, 0, 0, 0, 0, 1]), [1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(text("db"), b"\0db");
        let uuid = duid_from_uuid([0xaa; 16]);
        assert_eq!(duid(0x0102_0304, &uuid)[..7], [255, 1, 2, 3, 4, 0, 4]);
        assert_eq!(duid(0, &[0; 400]).len(), 255);
    }
}
