//! Octets as hexadecimal digits, and a serde format for them.
//!
//! ```
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Identifier {
//!     #[serde(with = "dhcp4::hex")]
//!     body: Vec<u8>,
//! }
//!
//! let id: Identifier = serde_json::from_str(r#"{"body":"01:02:FF"}"#)?;
//! assert_eq!(id.body, [1, 2, 255]);
//! assert_eq!(serde_json::to_string(&id)?, r#"{"body":"0102ff"}"#);
//! # Ok::<(), serde_json::Error>(())
//! ```

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serializer, de};

/// Writes two lower-case digits for each octet, without separators.
pub fn encode(octets: &[u8]) -> String {
    HEXLOWER.encode(octets)
}

/// Reads two digits of either case for each octet. Colons, hyphens and spaces may separate octets,
/// as in `01:02:00:00:00:00:01`.
///
/// # Errors
///
/// [`NotHex`] if a character is neither a digit nor a separator, or if a separator splits an octet.
pub fn decode(text: &str) -> Result<Vec<u8>, NotHex> {
    text.split([':', '-', ' '])
        .map(|digits| HEXLOWER_PERMISSIVE.decode(digits.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
        .map(|groups| groups.concat())
        .map_err(|_| NotHex(text.to_owned()))
}

/// A text that [`decode`] cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not hexadecimal: write two digits for each octet, with or without colons in between"
)]
pub struct NotHex(String);

/// Serializes octets as [`encode`] writes them, for `#[serde(with = "dhcp4::hex")]`.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(octets))
}

/// Deserializes octets as [`decode`] reads them, for `#[serde(with = "dhcp4::hex")]` on a `Vec<u8>`
/// or what can be made of one, such as an `Arc<[u8]>`.
///
/// # Errors
///
/// Those of the deserializer, and [`NotHex`].
pub fn deserialize<'de, T: From<Vec<u8>>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    decode(&text).map(T::from).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_in_either_case_and_with_the_usual_separators() {
        for text in ["0102ff", "01:02:ff", "01-02-FF", "01 02 ff"] {
            assert_eq!(decode(text), Ok(vec![1, 2, 255]), "{text}");
        }
        assert_eq!(decode(""), Ok(vec![]));
    }

    #[test]
    fn digits_are_written_in_lower_case_without_separators() {
        assert_eq!(encode(&[1, 2, 255]), "0102ff");
    }

    #[test]
    fn half_an_octet_or_any_other_character_is_refused() {
        for text in ["1", "1:2", "012", "0g", "é"] {
            assert_eq!(decode(text), Err(NotHex(text.to_owned())), "{text}");
        }
    }
}
