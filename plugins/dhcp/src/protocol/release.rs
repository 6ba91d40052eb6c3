//! The `release` key.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// The `release` key: whether a lease is released when its container is detached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReleasePolicy {
    /// Yes: `true`.
    Always,
    /// Only if no other station on the LAN uses the address: `"ifUnused"`. It is the default of
    /// leases that were written without the key, because that is always safe.
    #[default]
    IfUnused,
    /// No, the lease ends by itself: `false`.
    Never,
}

const IF_UNUSED: &str = "ifUnused";

impl Serialize for ReleasePolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ReleasePolicy::Always => serializer.serialize_bool(true),
            ReleasePolicy::IfUnused => serializer.serialize_str(IF_UNUSED),
            ReleasePolicy::Never => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for ReleasePolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ReleasePolicy, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = ReleasePolicy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or \"ifUnused\"")
    }

    fn visit_bool<E: de::Error>(self, release: bool) -> Result<ReleasePolicy, E> {
        Ok(match release {
            true => ReleasePolicy::Always,
            false => ReleasePolicy::Never,
        })
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<ReleasePolicy, E> {
        match word {
            IF_UNUSED => Ok(ReleasePolicy::IfUnused),
            _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
        }
    }
}
