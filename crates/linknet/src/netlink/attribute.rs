//! Reading attributes of the kernel's messages one by one.
//!
//! netlink-packet-route gives up on a whole message if one attribute cannot be decoded. But names,
//! aliases and labels are octets that anybody may choose, and a newer kernel may describe something
//! in another way.

use rtnetlink::packet_core::{DecodeError, NlaBuffer, NlasIterator, Parseable};

/// The attributes in `octets`, up to the first that is cut off.
pub(super) fn attributes(octets: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> + Clone {
    NlasIterator::new(octets).map_while(Result::ok)
}

/// The text of an attribute, which ends at the first NUL. What is not UTF-8 is replaced by U+FFFD.
pub(super) fn text(value: &[u8]) -> String {
    let octets = value.split(|&octet| octet == 0).next();
    String::from_utf8_lossy(octets.unwrap_or_default()).into_owned()
}

/// Decodes all attributes in `octets`, except those of the kinds `unused`.
pub(super) fn decode_all_but<'a, T>(unused: &[u16], octets: &'a [u8]) -> Result<Vec<T>, DecodeError>
where
    T: Parseable<NlaBuffer<&'a [u8]>>,
{
    let used = attributes(octets).filter(|attribute| !unused.contains(&attribute.kind()));
    used.map(|attribute| T::parse(&attribute)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_the_first_nul_and_need_not_be_utf_8() {
        assert_eq!(text(b"eth0\0"), "eth0");
        assert_eq!(text(b"eth0"), "eth0");
        assert_eq!(text(b"a\0b\0"), "a");
        assert_eq!(text(b"B\xfcro\0"), "B\u{fffd}ro");
        assert_eq!(text(b""), "");
    }

    #[test]
    fn an_attribute_that_is_cut_off_ends_the_list() {
        let whole = [5, 0, 3, 0, b'a', 0, 0, 0, 6, 0, 4, 0, 1, 2];
        let kinds = |octets| attributes(octets).map(|it| it.kind()).collect::<Vec<_>>();
        assert_eq!(kinds(&whole), [3, 4]);
        assert_eq!(kinds(&whole[..13]), [3]);
        assert_eq!(kinds(&[]), [0; 0]);
    }
}
