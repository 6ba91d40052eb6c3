//! The `guard` key.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::prefix::{parse_exact_prefix, parse_prefix};

/// The `guard` key: what a container may send, and what may reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Everything: `false`.
    #[default]
    Off,
    /// The container speaks only as itself: `true`.
    On,
    /// That, and besides replies only this reaches it: `{"allow": […]}`.
    Allow(Vec<Allow>),
}

/// What may reach a container without its having asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// These ports, for everybody: `"tcp/443"`, `"udp/5000-5010"`.
    Ports(Transport, RangeInclusive<u16>),
    /// Everything from these addresses: `"from 192.168.1.0/24"`.
    From(IpNet),
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The most entries of `allow`: with more, the rules do not fit into one message to the kernel.
const MAX_ENTRIES: usize = 100;

impl Guard {
    /// Whether it is [`Guard::Off`].
    pub fn is_off(&self) -> bool {
        *self == Guard::Off
    }
}

/// An entry of `allow` that is none.
#[derive(Debug, PartialEq, Eq)]
pub struct ParseAllowError {
    entry: String,
    problem: String,
}

impl fmt::Display for ParseAllowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.entry, self.problem)
    }
}

impl FromStr for Allow {
    type Err = ParseAllowError;

    fn from_str(text: &str) -> Result<Allow, ParseAllowError> {
        let parsed = match (text.strip_prefix("from "), text.split_once('/')) {
            (Some(sender), _) => parse_sender(sender.trim()).map(Allow::From),
            (None, Some((transport, ports))) => parse_ports(transport, ports),
            (None, None) => Err(
                "it is neither a port (\"tcp/443\", \"udp/5000-5010\") nor a sender \
                 (\"from 192.168.1.0/24\")"
                    .to_owned(),
            ),
        };
        parsed.map_err(|problem| ParseAllowError {
            entry: text.to_owned(),
            problem,
        })
    }
}

fn parse_sender(text: &str) -> Result<IpNet, String> {
    if let Some(sender) = parse_exact_prefix(text) {
        return Ok(sender);
    }
    // There are bits beyond it, because a single address may have been meant.
    if let (Some(prefix), Some((address, _))) = (parse_prefix(text), text.split_once('/')) {
        return Err(format!(
            "{address} is not the first address of its prefix: write \"from {prefix}\" for the \
             prefix, or \"from {address}\" for the one address"
        ));
    }
    let address = text
        .split_once('/')
        .map(|(address, _)| address.parse::<IpAddr>());
    Err(match address {
        Some(Ok(address)) => {
            let max = IpNet::from(address).max_prefix_len();
            format!("the length of the prefix is not a number from 0 to {max}")
        }
        _ => format!("{text:?} is neither an address nor a prefix such as 192.168.1.0/24"),
    })
}

fn parse_ports(transport: &str, ports: &str) -> Result<Allow, String> {
    let transport = match transport {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => {
            return Err(format!(
                "the protocol before the slash is \"tcp\" or \"udp\", not {transport:?}; an address \
                 has \"from\" before it"
            ));
        }
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    match first <= last {
        true => Ok(Allow::Ports(transport, first..=last)),
        false => Err(format!("the last port, {last}, is lower than the first")),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or_else(|| format!("{text:?} is not a port from 1 to {}", u16::MAX))
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allow::From(net) => write!(f, "from {net}"),
            Allow::Ports(transport, ports) => {
                let transport = match transport {
                    Transport::Tcp => "tcp",
                    Transport::Udp => "udp",
                };
                write!(f, "{transport}/{}", ports.start())?;
                match ports.end() == ports.start() {
                    true => Ok(()),
                    false => write!(f, "-{}", ports.end()),
                }
            }
        }
    }
}

impl Serialize for Allow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Allow, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Guard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Guard::Off => serializer.serialize_bool(false),
            Guard::On => serializer.serialize_bool(true),
            Guard::Allow(entries) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("allow", entries)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Guard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Guard, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Guard;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or an object such as {\"allow\": [\"tcp/443\"]}")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<Guard, E> {
        Ok(if on { Guard::On } else { Guard::Off })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Guard, A::Error> {
        let mut guard = Guard::On;
        while let Some(key) = map.next_key::<String>()? {
            // An unknown key is refused: here a misspelt one would let everything in.
            if !key.eq_ignore_ascii_case("allow") {
                let what = format_args!("it has no key {key:?}, only `allow`");
                return Err(de::Error::custom(what));
            }
            match map.next_value::<Option<Vec<Allow>>>()? {
                Some(entries) if entries.len() > MAX_ENTRIES => {
                    let many = entries.len();
                    let what = format_args!("allow has {many} entries, at most {MAX_ENTRIES} work");
                    return Err(de::Error::custom(what));
                }
                Some(entries) => guard = Guard::Allow(entries),
                None => {}
            }
        }
        Ok(guard)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(value: &Value) -> Result<Guard, String> {
        let document = json!({ "guard": value });
        let keys: Result<crate::SharedKeys, _> = cni::go::decode(document.as_object().unwrap());
        keys.map(|keys| keys.guard).map_err(|error| error.msg)
    }

    #[test]
    fn the_key_is_a_switch_or_a_list_of_what_may_come_in() {
        let net = |text: &str| Allow::From(text.parse().unwrap());
        for (value, expected) in [
            (json!(false), Guard::Off),
            (json!(true), Guard::On),
            (json!({}), Guard::On),
            (json!({ "allow": null }), Guard::On),
            (json!({ "allow": [] }), Guard::Allow(vec![])),
            (
                json!({ "allow": ["tcp/443", "udp/5000-5010", "from 192.168.1.0/24"] }),
                Guard::Allow(vec![
                    Allow::Ports(Transport::Tcp, 443..=443),
                    Allow::Ports(Transport::Udp, 5000..=5010),
                    net("192.168.1.0/24"),
                ]),
            ),
            (
                json!({ "Allow": ["from 192.168.1.7", "from fd00::/8"] }),
                Guard::Allow(vec![net("192.168.1.7/32"), net("fd00::/8")]),
            ),
        ] {
            assert_eq!(key(&value), Ok(expected.clone()), "{value}");
            let written = serde_json::to_value(&expected).unwrap();
            assert_eq!(key(&written), Ok(expected), "{value}");
        }
        assert_eq!(key(&Value::Null), Ok(Guard::Off));
    }

    #[test]
    fn an_entry_that_is_none_is_named_with_the_reason() {
        let neither = "it is neither a port (\"tcp/443\", \"udp/5000-5010\") nor a sender";
        for (entry, reason) in [
            ("", neither),
            ("443", neither),
            ("tcp", neither),
            ("from", neither),
            ("tcp/", "\"\" is not a port from 1 to 65535"),
            ("tcp/0", "\"0\" is not a port from 1 to 65535"),
            ("tcp/+1", "\"+1\" is not a port"),
            ("tcp/65536", "\"65536\" is not a port"),
            ("tcp/1-2-3", "\"2-3\" is not a port"),
            ("tcp/20-10", "the last port, 10, is lower than the first"),
            ("TCP/443", "is \"tcp\" or \"udp\", not \"TCP\""),
            ("icmp/8", "is \"tcp\" or \"udp\", not \"icmp\""),
            ("10.0.0.0/8", "an address has \"from\" before it"),
            ("to 10.0.0.0/8", "an address has \"from\" before it"),
            ("from ", "\"\" is neither an address nor a prefix"),
            ("from lan", "\"lan\" is neither an address nor a prefix"),
            ("from lan/8", "\"lan/8\" is neither an address nor a prefix"),
            ("from 10.0.0.0/33", "is not a number from 0 to 32"),
            ("from fd00::/x", "is not a number from 0 to 128"),
            (
                "from 10.0.0.7/8",
                "write \"from 10.0.0.0/8\" for the prefix, or \"from 10.0.0.7\" for the one",
            ),
        ] {
            let refused = key(&json!({ "allow": ["tcp/443", entry] })).unwrap_err();
            let named = format!("guard.allow[1]: {entry:?}: ");
            assert!(
                refused.contains(&named) && refused.contains(reason),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_misspelt_key_and_a_list_that_is_too_long_are_refused() {
        let refused = key(&json!({ "alow": [] })).unwrap_err();
        assert!(
            refused.contains("guard: it has no key \"alow\""),
            "{refused}"
        );
        let refused = key(&json!({ "allow": vec!["tcp/1"; 101] })).unwrap_err();
        assert!(refused.contains("allow has 101 entries"), "{refused}");
        assert!(key(&json!({ "allow": vec!["tcp/1"; 100] })).is_ok());
        for value in [json!("true"), json!(1), json!(["tcp/443"])] {
            let refused = key(&value).unwrap_err();
            assert!(refused.contains("guard: expected"), "{refused}");
            assert!(refused.contains("true, false, or an object"), "{refused}");
        }
    }
}
