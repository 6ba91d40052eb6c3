//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every station on the link.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// A locally administered unicast address with these octets. The two bits of the first octet
    /// that mark it as such (IEEE 802, clause 8) are set, the other 46 are kept.
    pub const fn local(mut octets: [u8; 6]) -> Mac {
        octets[0] = (octets[0] | 0b10) & !0b01;
        Mac(octets)
    }

    /// The six octets, in transmission order.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether this is a group address, such as broadcast. No interface can have one.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 0b01 != 0
    }

    /// Whether this is `00:00:00:00:00:00`. No interface can have it.
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// The text is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address (six hexadecimal octets, as in 02:42:ac:11:00:02)")]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    /// Parses the forms that Go's `net.ParseMAC` accepts for six octets: `02:42:ac:11:00:02`,
    /// `02-42-ac-11-00-02` and `0242.ac11.0002`, in either case.
    fn from_str(text: &str) -> Result<Mac, ParseMacError> {
        parse(text).ok_or_else(|| ParseMacError(text.to_owned()))
    }
}

/// Serializes as text, as [`Mac`] is displayed.
#[cfg(feature = "serde")]
impl serde::Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Deserializes from text, in every form that [`Mac`] is parsed from.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        let text: String = serde::Deserialize::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn parse(text: &str) -> Option<Mac> {
    let (separator, digits) = match (text.len(), text.as_bytes().get(2)?) {
        (17, b':') => (b':', 2),
        (17, b'-') => (b'-', 2),
        (14, _) => (b'.', 4),
        _ => return None,
    };
    let mut octets = [0; 6];
    let mut groups = text.as_bytes().split(|&byte| byte == separator);
    for octet_group in octets.chunks_exact_mut(digits / 2) {
        let group = groups.next().filter(|group| group.len() == digits)?;
        for (octet, pair) in octet_group.iter_mut().zip(group.chunks_exact(2)) {
            *octet = hex(pair[0])? << 4 | hex(pair[1])?;
        }
    }
    groups.next().is_none().then_some(Mac(octets))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0x42, 0xac, 0x11, 0x00, 0xfe]);

    #[test]
    fn the_three_usual_forms_are_parsed_in_either_case() {
        for text in ["02:42:ac:11:00:fe", "02-42-AC-11-00-FE", "0242.ac11.00FE"] {
            assert_eq!(text.parse(), Ok(MAC), "{text}");
        }
    }

    #[test]
    fn any_other_text_is_refused_and_quoted_in_the_error() {
        for text in [
            "",
            "02",
            "02:42:ac:11:00",
            "02:42:ac:11:00:fe:01",
            "02:42-ac:11:00:fe",
            "0:242:ac:11:00:fe",
            "02:42:ac:11:00:fg",
            "+2:42:ac:11:00:fe",
            "0242ac1100fe",
            "0242.ac11.00.e",
            "0242.ac11:00fe",
            "ö2:42:ac:11:0:fe",
        ] {
            let error = text.parse::<Mac>().expect_err(text);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn it_is_displayed_in_lower_case_and_parsed_back() {
        assert_eq!(MAC.to_string(), "02:42:ac:11:00:fe");
        assert_eq!(MAC.to_string().parse(), Ok(MAC));
        assert_eq!(format!("{MAC:?}"), "Mac(02:42:ac:11:00:fe)");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn it_is_serialized_as_text_and_a_bad_text_is_quoted_in_the_error() {
        let json = serde_json::to_string(&MAC).unwrap();
        assert_eq!(json, r#""02:42:ac:11:00:fe""#);
        assert_eq!(serde_json::from_str::<Mac>(&json).unwrap(), MAC);
        let dashes = serde_json::json!("02-42-AC-11-00-FE");
        assert_eq!(serde_json::from_value::<Mac>(dashes).unwrap(), MAC);
        let error = serde_json::from_str::<Mac>(r#""02:42""#).unwrap_err();
        assert!(error.to_string().contains(r#""02:42""#), "{error}");
        assert!(serde_json::from_str::<Mac>("[2, 66, 172, 17, 0, 254]").is_err());
    }

    #[test]
    fn a_local_address_is_unicast_and_locally_administered() {
        assert_eq!(
            Mac::local([0xff; 6]),
            Mac([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff])
        );
        assert_eq!(Mac::local([0; 6]), Mac([0x02, 0, 0, 0, 0, 0]));
        assert!(!Mac::local([0x01; 6]).is_multicast());
        assert!(Mac::BROADCAST.is_multicast());
        assert!(Mac([0; 6]).is_zero() && !MAC.is_zero());
    }
}
