//! The `hostAccess` key.

use std::fmt;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::prefix::parse_exact_prefix;

/// The `hostAccess` key: whether the host gets a route to the container, and to which addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostAccessKey {
    /// It does not: `false`.
    #[default]
    Off,
    /// It does, to addresses on the parent's own prefixes: `true`.
    OnLink,
    /// It does, to addresses in these prefixes too. A single address among them is trusted with
    /// whatever the host uses it for.
    Listed(Vec<IpNet>),
}

impl HostAccessKey {
    /// Whether it is [`HostAccessKey::Off`].
    pub fn is_off(&self) -> bool {
        *self == HostAccessKey::Off
    }

    /// The prefixes that the configuration lists.
    pub fn listed(&self) -> &[IpNet] {
        match self {
            HostAccessKey::Off | HostAccessKey::OnLink => &[],
            HostAccessKey::Listed(prefixes) => prefixes,
        }
    }
}

impl Serialize for HostAccessKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            HostAccessKey::Off => serializer.serialize_bool(false),
            HostAccessKey::OnLink => serializer.serialize_bool(true),
            HostAccessKey::Listed(prefixes) => prefixes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for HostAccessKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostAccessKey, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = HostAccessKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a list of prefixes such as 10.42.0.0/16")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<HostAccessKey, E> {
        Ok(if on {
            HostAccessKey::OnLink
        } else {
            HostAccessKey::Off
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HostAccessKey, A::Error> {
        let mut prefixes = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            match parse_exact_prefix(&text) {
                None => {
                    let what = format_args!(
                        "{text:?} is not a prefix such as 10.42.0.0/16, with no bits behind it"
                    );
                    return Err(de::Error::custom(what));
                }
                Some(all) if all.prefix_len() == 0 => {
                    let what = format_args!(
                        "{text} is every address: list the prefixes that your containers' \
                         addresses are in"
                    );
                    return Err(de::Error::custom(what));
                }
                Some(prefix) => prefixes.push(prefix),
            }
        }
        if prefixes.is_empty() {
            return Err(de::Error::custom(
                "the list is empty: true allows addresses on the parent's own prefixes",
            ));
        }
        Ok(HostAccessKey::Listed(prefixes))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(value: Value) -> Result<HostAccessKey, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_key_is_a_switch_or_a_list_of_prefixes() {
        let listed = |prefixes: &[&str]| {
            HostAccessKey::Listed(prefixes.iter().map(|text| text.parse().unwrap()).collect())
        };
        for (value, expected) in [
            (json!(false), HostAccessKey::Off),
            (json!(true), HostAccessKey::OnLink),
            (json!(["10.42.0.0/16"]), listed(&["10.42.0.0/16"])),
            (
                json!(["192.0.2.7", "fd00:42::/56"]),
                listed(&["192.0.2.7/32", "fd00:42::/56"]),
            ),
        ] {
            assert_eq!(key(value.clone()).as_ref(), Ok(&expected), "{value}");
            assert_eq!(expected.is_off(), value == json!(false));
            let prefixes = match &expected {
                HostAccessKey::Listed(prefixes) => prefixes.as_slice(),
                _ => &[],
            };
            assert_eq!(expected.listed(), prefixes);
            let written = serde_json::to_value(&expected).unwrap();
            assert_eq!(key(written), Ok(expected), "{value}");
        }
        for (value, word) in [
            (json!("10.42.0.0/16"), "a list of prefixes"),
            (json!(1), "a list of prefixes"),
            (json!([7]), "expected a string"),
            (json!(["lan"]), "not a prefix"),
            (json!(["10.0.0.0/8", "0.0.0.0/0"]), "every address"),
            (json!(["::/0"]), "every address"),
            (json!([]), "the list is empty"),
        ] {
            let refused = key(value.clone()).unwrap_err();
            assert!(refused.contains(word), "{value}: {refused}");
        }
    }
}
