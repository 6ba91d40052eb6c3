//! The `master` key in all its forms.

use std::fmt;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// Which device is the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A name, alternative name, alias or MAC; or a glob over names (`en*`, `eth?`).
    Name(String),
    /// The first of these that exists.
    FirstOf(Vec<String>),
    /// `{"subnet": "192.168.1.0/24"}`: the device with an address in that subnet.
    InSubnet(IpNet),
}

impl Selector {
    /// Whether it selects nothing: the Go plugin takes an empty name for none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Selector::Name(name) if name.is_empty())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Name(name) => write!(f, "master {name:?}"),
            Selector::FirstOf(names) => write!(f, "master {names:?}"),
            Selector::InSubnet(subnet) => write!(f, "master {{\"subnet\": \"{subnet}\"}}"),
        }
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        deserializer.deserialize_any(SelectorVisitor)
    }
}

struct SelectorVisitor;

impl<'de> Visitor<'de> for SelectorVisitor {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a device name, a list of them, or {\"subnet\": \"192.168.1.0/24\"}")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Selector, E> {
        Ok(Selector::Name(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Selector, A::Error> {
        let mut all: Vec<String> = Vec::new();
        while let Some(name) = names.next_element()? {
            all.push(name);
        }
        if all.is_empty() {
            return Err(de::Error::custom("the list is empty"));
        }
        if all.contains(&String::new()) {
            return Err(de::Error::custom("the list has an empty name in it"));
        }
        Ok(Selector::FirstOf(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Selector, A::Error> {
        match map.next_entry::<String, String>()? {
            Some((key, subnet)) if key == "subnet" => {
                let subnet: IpNet = subnet
                    .parse()
                    .map_err(|_| de::Error::custom(format_args!("{subnet:?} is not a subnet")))?;
                match map.next_key::<String>()? {
                    None => Ok(Selector::InSubnet(subnet.trunc())),
                    Some(key) => Err(de::Error::custom(format_args!(
                        "{key:?} cannot be combined with \"subnet\""
                    ))),
                }
            }
            _ => Err(de::Error::custom("an object must be {\"subnet\": \"…\"}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn master_is_a_name_a_list_or_a_subnet() {
        let read =
            |value| serde_json::from_value::<Selector>(value).map_err(|error| error.to_string());
        assert_eq!(read(json!("eth0")), Ok(Selector::Name("eth0".to_owned())));
        let list = vec!["lan0".to_owned(), "en*".to_owned()];
        assert_eq!(read(json!(["lan0", "en*"])), Ok(Selector::FirstOf(list)));
        let subnet = Selector::InSubnet("192.168.1.0/24".parse().unwrap());
        assert_eq!(read(json!({ "subnet": "192.168.1.7/24" })), Ok(subnet));
    }

    #[test]
    fn any_other_value_of_master_is_refused() {
        for (value, word) in [
            (json!(7), "a device name"),
            (json!([]), "empty"),
            (json!(["eth0", ""]), "empty"),
            (json!(["eth0", 7]), "string"),
            (json!({}), "subnet"),
            (json!({ "subnet": "here" }), "\"here\" is not a subnet"),
            (json!({ "net": "10.0.0.0/8" }), "subnet"),
            (json!({ "subnet": "10.0.0.0/8", "vlan": "5" }), "vlan"),
        ] {
            let error = serde_json::from_value::<Selector>(value.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{value}: {error}");
        }
    }
}
