//! The attributes of nf_tables' messages: writing them, and comparing what was written with what
//! the kernel shows.

use rtnetlink::packet_core::NlaBuffer;

use super::super::attribute::attributes;

/// `NLA_F_NESTED` of linux/netlink.h: the value is a list of attributes.
const NESTED: u16 = 1 << 15;

/// The length of an attribute's header in octets.
const HEADER_LEN: usize = 4;

/// A list of attributes, as octets. Numbers are big-endian, as everywhere in nf_tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn octets(mut self, kind: u16, value: &[u8]) -> Attributes {
        let length = (HEADER_LEN + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Attributes {
        self.octets(kind, &[value.as_bytes(), b"\0"].concat())
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Attributes {
        self.octets(kind, &value.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, value: &Attributes) -> Attributes {
        self.octets(kind | NESTED, &value.0)
    }

    #[cfg(test)]
    pub(super) fn from_octets(octets: Vec<u8>) -> Attributes {
        Attributes(octets)
    }

    pub(super) fn as_octets(&self) -> &[u8] {
        &self.0
    }

    /// Whether the kernel's list `shown` has all of these attributes, and none of these kinds more
    /// often. Attributes of other kinds are the kernel's own: handles, defaults, counts.
    pub(super) fn are_in(&self, shown: &[u8]) -> bool {
        is_contained(&self.0, shown)
    }
}

fn is_contained(expected: &[u8], shown: &[u8]) -> bool {
    attributes(expected).all(|attribute| {
        let of_this_kind = |it: &NlaBuffer<&[u8]>| it.kind() == attribute.kind();
        let expected = attributes(expected).filter(of_this_kind);
        let shown = attributes(shown).filter(of_this_kind);
        expected.clone().count() == shown.clone().count()
            && expected
                .zip(shown)
                .all(|(expected, shown)| is_same(&expected, &shown))
    })
}

fn is_same(expected: &NlaBuffer<&[u8]>, shown: &NlaBuffer<&[u8]>) -> bool {
    match expected.nested_flag() {
        true => is_contained(expected.value(), shown.value()),
        false => expected.value() == shown.value(),
    }
}
