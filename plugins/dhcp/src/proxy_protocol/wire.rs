//! The encoding of Protocol Buffers, as far as netavark's messages need it: varints and
//! length-delimited octets. Fields of other wire types are skipped.

use std::str;

/// The octets of the longest varint: ten groups of seven bits for 64.
const MAX_VARINT: usize = 10;

/// Why octets are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end within a field.
    #[error("it ends within a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("a number in it has more than 64 bits")]
    Varint,
    /// A key with a field number or a wire type that there is not.
    #[error("a field in it has no valid key")]
    Key,
    /// A field of the message that has another wire type.
    #[error("field {0} is of another type")]
    Type(u32),
    /// A text that is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Utf8(u32),
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Octets(&'a [u8]),
    /// 32 or 64 bits, which no field of ours has.
    Fixed,
}

/// A field: its number and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    number: u32,
    value: Value<'a>,
}

impl<'a> Field<'a> {
    /// The field's number.
    pub(super) fn number(self) -> u32 {
        self.number
    }

    /// Its value, as a text.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        match self.value {
            Value::Octets(octets) => {
                str::from_utf8(octets).map_err(|_| Malformed::Utf8(self.number))
            }
            Value::Varint(_) | Value::Fixed => Err(Malformed::Type(self.number)),
        }
    }

    /// Its value, as a number.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn number_value(self) -> Result<u64, Malformed> {
        match self.value {
            Value::Varint(number) => Ok(number),
            Value::Octets(_) | Value::Fixed => Err(Malformed::Type(self.number)),
        }
    }
}

/// The fields of a message, in their order.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of this message.
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field; `None` at the end of the message.
    ///
    /// # Errors
    /// If the rest is no field.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed::Key)?;
        let (number, wire_type) = (key >> 3, key & 7);
        if number == 0 {
            return Err(Malformed::Key);
        }
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
                Value::Octets(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // 3 and 4 enclose a group, which proto3 does not have.
            _ => return Err(Malformed::Key),
        };
        Ok(Some(Field { number, value }))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for group in 0..MAX_VARINT {
            let octet = self.take(1)?[0];
            // The tenth octet has the last of 64 bits.
            if group == MAX_VARINT - 1 && octet > 1 {
                return Err(Malformed::Varint);
            }
            number |= u64::from(octet & 0x7f) << (7 * group);
            if octet & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Varint)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Appends a text, unless it is empty: in proto3, an absent field is an empty one.
pub(super) fn put_text(message: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_entry(message, number, text);
    }
}

/// Appends an entry of a list of texts, which may be empty.
pub(super) fn put_entry(message: &mut Vec<u8>, number: u32, text: &str) {
    put_varint(message, u64::from(number << 3 | 2));
    put_varint(message, text.len() as u64);
    message.extend_from_slice(text.as_bytes());
}

/// Appends a number, unless it is 0.
pub(super) fn put_number(message: &mut Vec<u8>, number: u32, value: u32) {
    if value != 0 {
        put_varint(message, u64::from(number << 3));
        put_varint(message, u64::from(value));
    }
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
        let mut fields = Fields::of(message);
        let mut all = Vec::new();
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn fields_of_every_type_are_read_or_skipped() {
        let message = [
            &[0x08, 0xac, 0x02][..],               // 1: 300
            &[0x12, 0x02, b'h', b'i'],             // 2: "hi"
            &[0x19, 1, 2, 3, 4, 5, 6, 7, 8],       // 3: 64 bits
            &[0x25, 1, 2, 3, 4],                   // 4: 32 bits
            &[0x80, 0x01, 0x00],                   // 16: 0
            &[0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01], // 2^29 - 1: 1
        ]
        .concat();
        let fields = all(&message).expect("valid");
        let numbers: Vec<u32> = fields.iter().map(|field| field.number()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 16, (1 << 29) - 1]);
        assert_eq!(fields[0].number_value(), Ok(300));
        assert_eq!(fields[0].text(), Err(Malformed::Type(1)));
        assert_eq!(fields[1].text(), Ok("hi"));
        assert_eq!(fields[1].number_value(), Err(Malformed::Type(2)));
        assert_eq!(fields[2].text(), Err(Malformed::Type(3)));
        assert_eq!(fields[3].number_value(), Err(Malformed::Type(4)));
    }

    #[test]
    fn a_varint_has_at_most_64_bits() {
        let largest = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(
            all(&largest).expect("valid")[0].number_value(),
            Ok(u64::MAX)
        );
        let larger = [&[0x08][..], &[0xff; 9], &[0x02]].concat();
        assert_eq!(all(&larger), Err(Malformed::Varint));
        let endless = [&[0x08][..], &[0x80; 20]].concat();
        assert_eq!(all(&endless), Err(Malformed::Varint));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (message, why) in [
            (&[0x08][..], Malformed::Truncated),
            (&[0x80], Malformed::Truncated),
            (&[0x12, 0x03, b'h', b'i'], Malformed::Truncated),
            (
                &[
                    0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                Malformed::Truncated,
            ),
            (&[0x19, 1, 2, 3], Malformed::Truncated),
            (&[0x25, 1], Malformed::Truncated),
            (&[0x00, 0x00], Malformed::Key),
            (&[0x0b], Malformed::Key),
            (&[0x0c], Malformed::Key),
            (&[0x0e], Malformed::Key),
            (&[0x0f], Malformed::Key),
            (&[0x88, 0x80, 0x80, 0x80, 0x10, 0x00], Malformed::Key),
        ] {
            assert_eq!(all(message), Err(why), "{message:x?}");
        }
        let latin = all(&[0x12, 0x01, 0xe9]).expect("octets of any kind");
        assert_eq!(latin[0].text(), Err(Malformed::Utf8(2)));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut message = Vec::new();
        for (number, value) in [(1, 0), (2, 127), (3, 128), (15, 300), (16, u32::MAX)] {
            put_number(&mut message, number, value);
        }
        put_text(&mut message, 17, "");
        put_text(&mut message, 18, "lan");
        put_entry(&mut message, 19, "");
        let fields = all(&message).expect("valid");
        let values: Vec<(u32, Value<'_>)> = fields.iter().map(|it| (it.number, it.value)).collect();
        let expected = [
            (2, Value::Varint(127)),
            (3, Value::Varint(128)),
            (15, Value::Varint(300)),
            (16, Value::Varint(u32::MAX.into())),
            (18, Value::Octets(b"lan")),
            (19, Value::Octets(b"")),
        ];
        assert_eq!(values, expected, "0 and the empty text are absent");
    }
}
