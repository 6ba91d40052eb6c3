//! Options as code, length and value.

use dhcproto::v4::{self, DhcpOption};

use crate::options::{RawOption, code};

/// The longest search list that is decoded, in octets. Compression would otherwise let a packet of
/// a few thousand octets expand to a megabyte of names.
const MAX_SEARCH_LEN: usize = 1024;

/// The options of one message, in the order of their first appearance, each code once.
#[derive(Clone, Debug)]
pub(super) struct RawOptions(Vec<RawOption>);

impl RawOptions {
    /// Reads the options field and, if option 52 says that they hold options too, `file` and then
    /// `sname`.
    pub(super) fn read(field: &[u8], file: &[u8], sname: &[u8]) -> RawOptions {
        const FILE: u8 = 1;
        const SNAME: u8 = 2;

        let mut options = RawOptions(Vec::new());
        options.read_field(field);
        let overload = match options.decode(code::OVERLOAD) {
            Some(DhcpOption::OptionOverload(fields)) => fields,
            _ => 0,
        };
        if overload & FILE != 0 {
            options.read_field(file);
        }
        if overload & SNAME != 0 {
            options.read_field(sname);
        }
        options
    }

    /// Adds the options of one field, up to the end mark or to an option that the field cuts short.
    fn read_field(&mut self, mut field: &[u8]) {
        while let [code, rest @ ..] = field {
            let (code, rest) = (*code, rest);
            match code {
                code::PAD => field = rest,
                code::END => return,
                _ => {
                    let Some((&len, rest)) = rest.split_first() else {
                        return;
                    };
                    let Some((data, rest)) = rest.split_at_checked(len.into()) else {
                        return;
                    };
                    match self.0.iter_mut().find(|option| option.code == code) {
                        Some(option) => option.data.extend(data),
                        None => self.0.push(RawOption::new(code, data)),
                    }
                    field = rest;
                }
            }
        }
    }

    /// The value of the option with this code.
    pub(super) fn value(&self, code: u8) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|option| option.code == code)
            .map(|option| option.data.as_slice())
    }

    /// Decodes the option with this code, as [`decode_value`] does.
    pub(super) fn decode(&self, code: u8) -> Option<DhcpOption> {
        decode_value(code, self.value(code)?)
    }

    /// Sets an option, in place of one with the same code.
    pub(super) fn set(&mut self, option: RawOption) {
        match self.0.iter_mut().find(|known| known.code == option.code) {
            Some(known) => *known = option,
            None => self.0.push(option),
        }
    }

    pub(super) fn into_vec(self) -> Vec<RawOption> {
        self.0
    }
}

/// Writes an option, in several fragments if it is longer than 255 octets (RFC 3396).
pub(super) fn write_option(payload: &mut Vec<u8>, code: u8, data: &[u8]) {
    let (first, rest) = data.split_at(data.len().min(255));
    for fragment in std::iter::once(first).chain(rest.chunks(255)) {
        payload.extend([code, fragment.len() as u8]);
        payload.extend(fragment);
    }
}

/// Decodes one option by itself. `None` if it is malformed, or if this crate does not interpret
/// options of this code.
pub(super) fn decode_value(code: u8, data: &[u8]) -> Option<DhcpOption> {
    // RFC 2132 section 2: texts may end in null octets, which the receiver removes.
    let nulls = if code == code::DOMAIN_NAME {
        data.iter().rev().take_while(|&&octet| octet == 0).count()
    } else {
        0
    };
    let data = &data[..data.len() - nulls];
    if !is_well_formed(code, data) {
        return None;
    }
    let mut field = Vec::with_capacity(data.len() + 2);
    write_option(&mut field, code, data);
    v4::borrowed::DhcpOptionIterator::new(&field)
        .next()?
        .into_option()
        .ok()
}

/// Whether the value has a length that its code allows. `false` for every code that this crate does
/// not interpret.
fn is_well_formed(code: u8, data: &[u8]) -> bool {
    let len = data.len();
    match code {
        code::MESSAGE_TYPE | code::OVERLOAD => len == 1,
        code::MTU => len == 2,
        code::SUBNET_MASK | code::BROADCAST | code::SERVER_ID => len == 4,
        code::LEASE_TIME | code::T1 | code::T2 => len == 4,
        code::ROUTERS | code::DNS => len > 0 && len.is_multiple_of(4),
        code::STATIC_ROUTES => len > 0 && len.is_multiple_of(8),
        code::DOMAIN_NAME => true,
        code::DOMAIN_SEARCH => (1..=MAX_SEARCH_LEN).contains(&len),
        code::CLASSLESS_ROUTES => len > 0 && are_classless_routes(data),
        _ => false,
    }
}

/// Whether the value is a sequence of routes as in RFC 3442: a prefix length, as many octets of the
/// destination as the prefix covers, and a gateway.
fn are_classless_routes(mut data: &[u8]) -> bool {
    while let [prefix_len @ 0..=32, rest @ ..] = data {
        let octets = usize::from(prefix_len.div_ceil(8)) + 4;
        match rest.get(octets..) {
            Some(rest) => data = rest,
            None => return false,
        }
    }
    data.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_skipped_and_nothing_is_read_behind_the_end() {
        let field = [
            0, 0, 51, 4, 0, 0, 0, 60, 0, 54, 4, 10, 0, 0, 1, 255, 3, 4, 10, 0, 0, 2,
        ];
        let options = RawOptions::read(&field, &[], &[]).into_vec();
        let codes: Vec<u8> = options.iter().map(|option| option.code).collect();
        assert_eq!(codes, [51, 54]);
        assert_eq!(options[1].data, [10, 0, 0, 1]);
    }

    #[test]
    fn a_value_of_a_wrong_length_is_not_decoded() {
        for code in [code::ROUTERS, code::DNS] {
            assert!(decode_value(code, &[10, 0, 0, 1]).is_some());
            for len in [0, 3, 5] {
                assert_eq!(decode_value(code, &[0; 8][..len]), None, "{code}, {len}");
            }
        }
        assert!(decode_value(code::STATIC_ROUTES, &[10; 8]).is_some());
        for len in [0, 4, 7, 9] {
            let value = &[10; 16][..len];
            assert_eq!(decode_value(code::STATIC_ROUTES, value), None, "{len}");
        }
    }
}
