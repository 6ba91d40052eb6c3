//! `keepRoutes`.

use attachment::parse_prefix;
use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer};

/// A destination as it stands in the configuration: a prefix, or one address.
pub(super) struct KeptPrefix(IpNet);

impl From<KeptPrefix> for IpNet {
    fn from(prefix: KeptPrefix) -> IpNet {
        prefix.0
    }
}

impl<'de> Deserialize<'de> for KeptPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeptPrefix, D::Error> {
        let text = String::deserialize(deserializer)?;
        match parse_prefix(&text) {
            None => Err(de::Error::custom(format_args!(
                "{text:?} is not a prefix such as 10.42.0.0/16"
            ))),
            Some(all) if all.prefix_len() == 0 => Err(de::Error::custom(format_args!(
                "{text} is every destination; to keep the existing default route, do not use the \
                 network's gateway (with dhcp: suppress)"
            ))),
            Some(prefix) => Ok(KeptPrefix(prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn prefix(value: Value) -> Result<String, String> {
        serde_json::from_value::<KeptPrefix>(value)
            .map(|prefix| IpNet::from(prefix).to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_destination_is_a_prefix_or_an_address_but_not_everything() {
        for (text, expected) in [
            ("10.42.0.0/16", "10.42.0.0/16"),
            ("10.42.7.7/16", "10.42.0.0/16"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00:42::/56", "fd00:42::/56"),
        ] {
            assert_eq!(prefix(json!(text)).as_deref(), Ok(expected), "{text}");
        }
        for (value, word) in [
            (json!("10.42.0.0/33"), "not a prefix"),
            (json!("pods"), "not a prefix"),
            (json!(7), "expected a string"),
            (json!("0.0.0.0/0"), "every destination"),
            (json!("::/0"), "every destination"),
        ] {
            let refused = prefix(value.clone()).unwrap_err();
            assert!(refused.contains(word), "{value}: {refused}");
        }
    }
}
