//! Client identifiers: the body of option 61 in its various forms (RFC 2132 section 9.14, RFC
//! 4361).
//!
//! Whichever form is chosen, a server takes it as an opaque key to a lease. It must therefore be
//! the same in every message of that lease's life, and differ between any two clients of one
//! subnet.

/// The longest body that fits one option.
const MAX: usize = 255;
/// Where the Go plugins cut the container form.
const MAX_CONTAINER: usize = 254;

/// The type of an identifier that is no hardware address (RFC 2132 section 9.14).
const TYPE_TEXT: u8 = 0;
/// The type of an Ethernet address (RFC 1700).
const TYPE_ETHERNET: u8 = 1;
/// The type of an IAID followed by a DUID (RFC 4361 section 6.1).
const TYPE_DUID: u8 = 255;

/// The container form, octet by octet that of the Go plugins, so that a server sees the same client
/// after one is replaced by the other: `0x00`, then `containerID/netName/ifName`, cut at 254 octets
/// in all.
pub fn container(container_id: &str, network: &str, ifname: &str) -> Vec<u8> {
    let mut id = text(&format!("{container_id}/{network}/{ifname}"));
    id.truncate(MAX_CONTAINER);
    id
}

/// The form most hosts use: `0x01` and the Ethernet address. A reservation by MAC address matches
/// it.
pub fn mac(mac: [u8; 6]) -> Vec<u8> {
    [&[TYPE_ETHERNET][..], &mac].concat()
}

/// The form shared with DHCPv6 (RFC 4361): `0xff`, the identity of the interface, the identity of
/// the machine; cut at 255 octets.
pub fn duid(iaid: u32, duid: &[u8]) -> Vec<u8> {
    let mut id = [&[TYPE_DUID][..], &iaid.to_be_bytes(), duid].concat();
    id.truncate(MAX);
    id
}

/// A DUID made of a UUID (RFC 6355): type 4 and the UUID. The machine id of machine-id(5) is
/// confidential, so what goes in here is something derived from it.
pub fn duid_from_uuid(uuid: [u8; 16]) -> Vec<u8> {
    [&[0, 4][..], &uuid].concat()
}

/// A text: `0x00` and the text, cut at 255 octets.
pub fn text(text: &str) -> Vec<u8> {
    let mut id = [&[TYPE_TEXT][..], text.as_bytes()].concat();
    id.truncate(MAX);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_form_is_that_of_the_go_plugins() {
        assert_eq!(container("abc", "net", "eth0"), b"\0abc/net/eth0");
        let long = container(&"c".repeat(300), "net", "eth0");
        assert_eq!(long.len(), 254);
        assert_eq!(long[..3], *b"\0cc");
    }

    #[test]
    fn each_form_begins_with_its_type() {
        assert_eq!(mac([2, 0, 0, 0, 0, 1]), [1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(text("db"), b"\0db");
        let uuid = duid_from_uuid([0xaa; 16]);
        assert_eq!(duid(0x0102_0304, &uuid)[..7], [255, 1, 2, 3, 4, 0, 4]);
        assert_eq!(duid(0, &[0; 400]).len(), 255);
    }
}
