//! The `sourceRouting` key.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// The `sourceRouting` key: the table in which packets from the interface's addresses are looked
/// up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceRouting {
    /// None, like all other packets: `false` or 0.
    #[default]
    Off,
    /// The interface's own table, numbered by its index: `true`.
    Own,
    /// This table.
    Table(u32),
}

impl SourceRouting {
    /// Whether it is [`SourceRouting::Off`].
    pub fn is_off(&self) -> bool {
        *self == SourceRouting::Off
    }

    /// The interface's own table, if it has one.
    pub fn table(self, ifindex: u32) -> Option<u32> {
        match self {
            SourceRouting::Off => None,
            SourceRouting::Own => Some(SourceRouting::own_table(ifindex)),
            SourceRouting::Table(table) => Some(table),
        }
    }

    /// The number of the table for [`SourceRouting::Own`]. Indices count up from 1, so it does not
    /// collide with the kernel's tables, nor usually with tables that people number by hand.
    fn own_table(ifindex: u32) -> u32 {
        ifindex.saturating_add(1000)
    }
}

/// The kernel's own tables: default, main, local.
const KERNEL_TABLES: RangeInclusive<u32> = 253..=255;

impl Serialize for SourceRouting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SourceRouting::Off => serializer.serialize_bool(false),
            SourceRouting::Own => serializer.serialize_bool(true),
            SourceRouting::Table(table) => serializer.serialize_u32(*table),
        }
    }
}

impl<'de> Deserialize<'de> for SourceRouting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SourceRouting, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = SourceRouting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "true, false, or the number of a routing table (1 to 4294967295, except 253 to 255)",
        )
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<SourceRouting, E> {
        Ok(if on {
            SourceRouting::Own
        } else {
            SourceRouting::Off
        })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SourceRouting, E> {
        match u32::try_from(number) {
            Ok(0) => Ok(SourceRouting::Off),
            Ok(table) if !KERNEL_TABLES.contains(&table) => Ok(SourceRouting::Table(table)),
            _ => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(value: Value) -> Result<SourceRouting, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_key_is_a_switch_or_a_table_other_than_the_kernels() {
        for (value, expected) in [
            (json!(false), SourceRouting::Off),
            (json!(0), SourceRouting::Off),
            (json!(true), SourceRouting::Own),
            (json!(1), SourceRouting::Table(1)),
            (json!(252), SourceRouting::Table(252)),
            (json!(256), SourceRouting::Table(256)),
            (json!(u32::MAX), SourceRouting::Table(u32::MAX)),
        ] {
            assert_eq!(key(value.clone()), Ok(expected), "{value}");
            let written = serde_json::to_value(expected).unwrap();
            assert_eq!(key(written), Ok(expected), "{value}");
        }
        for value in [
            json!(253),
            json!(255),
            json!(1u64 << 32),
            json!(-1),
            json!(1.5),
            json!("200"),
        ] {
            let refused = key(value.clone()).unwrap_err();
            assert!(
                refused.contains("number of a routing table"),
                "{value}: {refused}"
            );
        }
    }

    #[test]
    fn an_interfaces_own_table_is_derived_from_its_index() {
        assert_eq!(SourceRouting::Off.table(7), None);
        assert_eq!(SourceRouting::Own.table(7), Some(1007));
        assert_eq!(SourceRouting::Table(50).table(7), Some(50));
    }
}
