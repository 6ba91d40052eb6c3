//! Decoding JSON by the rules of Go's `encoding/json`.
//!
//! The reference plugins and most container runtimes are written in Go, and the specification does
//! not say how a plugin matches keys. In practice, therefore, Go's rules apply: a configuration
//! that says `"Master"` for `master`, or has `null` for a string, works with the reference plugins,
//! and people have such configurations. serde_json alone would silently ignore the first and refuse
//! the second. This module decodes into ordinary types that derive
//! [`Deserialize`](serde::Deserialize), by these rules:
//!
//! - A key matches a field whose name differs from it only in the case of ASCII letters. If several
//!   keys match one field, the one spelled exactly like the field wins.
//! - A key whose value is `null` counts as absent.
//! - Unknown keys are ignored. A configuration also has keys for the runtime and for other plugins.
//!
//! The rules apply to structs at every depth. The keys of maps keep their case. Attributes that
//! make serde buffer a value (`flatten`, `untagged`, `tag`) switch the rules off for what they
//! buffer.
//!
//! An error names the field by its path from the top of the configuration.
//!
//! ```
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "camelCase")]
//! struct Config {
//!     master: String,
//!     #[serde(default)]
//!     mode: String,
//!     mtu: Option<u32>,
//! }
//!
//! let document = serde_json::from_str(r#"{ "Master": "eth1", "mode": null, "MTU": 1400 }"#)?;
//! let config: Config = cni::go::decode(&document)?;
//! assert_eq!(config.master, "eth1");
//! assert_eq!(config.mode, "");
//! assert_eq!(config.mtu, Some(1400));
//!
//! let document = serde_json::from_str(r#"{ "master": "eth1", "mtu": "big" }"#)?;
//! let error = cni::go::decode::<Config>(&document).err().unwrap();
//! assert_eq!(
//!     error.msg,
//!     "invalid network configuration: mtu: expected a number from 0 to 4294967295, found \"big\""
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod field_names;
mod misspelt;

use std::path::Path;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, map};

use crate::error::Error;
use crate::invalid::Invalid;

pub use field_names::field_names;
pub use misspelt::{misspelt_keys, warn_of_misspelt_keys};

/// Decodes a network configuration, given as the object on stdin.
///
/// # Errors
/// [`code::INVALID_NETWORK_CONFIG`](crate::code::INVALID_NETWORK_CONFIG). The message says what is
/// wrong and names the field by its path.
pub fn decode<T: DeserializeOwned>(object: &Map<String, Value>) -> Result<T, Error> {
    from_object(object).map_err(Invalid::into_config_error)
}

/// Decodes a part of a network configuration, such as the object under `ipam`. `path` is where the
/// part is in the configuration; errors put it before the path of the field.
///
/// # Errors
/// As [`decode`].
pub fn decode_under<T: DeserializeOwned>(
    path: &str,
    object: &Map<String, Value>,
) -> Result<T, Error> {
    from_object(object).map_err(|invalid| invalid.under(path).into_config_error())
}

/// Decodes the object in a file that completes the network configuration. Errors name the file
/// before the field.
///
/// # Errors
/// As [`decode`].
pub fn decode_file<T: DeserializeOwned>(
    file: &Path,
    object: &Map<String, Value>,
) -> Result<T, Error> {
    from_object(object).map_err(|invalid| invalid.in_file(file).into_config_error())
}

fn from_object<T: DeserializeOwned>(object: &Map<String, Value>) -> Result<T, Invalid> {
    T::deserialize(Object(object))
}

/// Finds the value of a key by the rules above.
pub fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    find(object, name, |key| key.eq_ignore_ascii_case(name))
}

/// Finds the value of the key `name`, or else of the first key that is a variant of it.
fn find<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    is_variant: impl Fn(&str) -> bool,
) -> Option<&'a Value> {
    let variant = || object.iter().find(|(key, _)| is_variant(key));
    let exact = object.get(name);
    exact
        .or_else(|| variant().map(|(_, value)| value))
        .filter(|value| !value.is_null())
}

/// Finds the value of a key as [`get`] does, and reads it as text. An absent one is empty.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, Invalid> {
    match get(object, name) {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(Invalid::unexpected("a string", other).under(name)),
    }
}

/// Deserializes any JSON value, and the objects in it by Go's rules.
struct Field<'a>(&'a Value);

impl<'de> de::Deserializer<'de> for Field<'de> {
    type Error = Invalid;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => {
                if let Some(value) = number.as_u64() {
                    visitor.visit_u64(value)
                } else if let Some(value) = number.as_i64() {
                    visitor.visit_i64(value)
                } else {
                    visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(List {
                items: items.iter().enumerate(),
            }),
            Value::Object(object) => Object(object).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        match self.0 {
            Value::Object(object) => Object(object).deserialize_struct(name, fields, visitor),
            // serde would take its items for the fields, in their order.
            list @ Value::Array(_) => Err(Invalid::unexpected("an object", list)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        match self.0 {
            Value::String(text) => {
                StrDeserializer::new(text).deserialize_enum(name, variants, visitor)
            }
            Value::Object(object) => Object(object).deserialize_enum(name, variants, visitor),
            other => Err(Invalid::unexpected("a text", other)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Invalid> for Field<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Deserializes a JSON object by Go's rules.
struct Object<'a>(&'a Map<String, Value>);

impl<'de> de::Deserializer<'de> for Object<'de> {
    type Error = Invalid;

    /// Reads a map, which has no field names to match: every key is taken as it is.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Invalid> {
        visitor.visit_map(Entries {
            entries: self.0.iter(),
            value: None,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        visitor.visit_map(Fields::of(self.0, fields))
    }

    /// Reads an enum that is written as an object, whose only key is the variant.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        let unknown = |key: &&String| !variants.iter().any(|name| key.eq_ignore_ascii_case(name));
        if let Some(key) = self.0.keys().find(unknown) {
            return Err(de::Error::unknown_variant(key, variants));
        }
        if self.0.values().filter(|value| !value.is_null()).count() != 1 {
            let found = Value::Object(self.0.clone());
            return Err(Invalid::unexpected("an object with one key", &found));
        }
        MapAccessDeserializer::new(Fields::of(self.0, variants))
            .deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// A struct: its fields, each with the value found for it.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    all: &'static [&'static str],
    rest: std::slice::Iter<'static, &'static str>,
    value: Option<(&'static str, &'a Value)>,
}

impl<'a> Fields<'a> {
    fn of(object: &'a Map<String, Value>, names: &'static [&'static str]) -> Fields<'a> {
        Fields {
            object,
            all: names,
            rest: names.iter(),
            value: None,
        }
    }

    /// Finds the value for a field. A key that is spelled exactly like another field is that
    /// field's alone.
    fn find(&self, name: &str) -> Option<&'a Value> {
        find(self.object, name, |key| {
            key.eq_ignore_ascii_case(name) && !self.all.contains(&key)
        })
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Invalid;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Invalid> {
        while let Some(name) = self.rest.next() {
            if let Some(value) = self.find(name) {
                self.value = Some((name, value));
                return seed.deserialize(StrDeserializer::new(name)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Invalid> {
        let Some((name, value)) = self.value.take() else {
            return Err(value_before_key());
        };
        seed.deserialize(Field(value))
            .map_err(|invalid| invalid.about(value).under(name))
    }
}

/// The entries of a map, as they are.
struct Entries<'a> {
    entries: map::Iter<'a>,
    value: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Invalid;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Invalid> {
        self.value = self.entries.next();
        self.value
            .map(|(key, _)| seed.deserialize(StrDeserializer::new(key)))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Invalid> {
        let Some((key, value)) = self.value.take() else {
            return Err(value_before_key());
        };
        seed.deserialize(Field(value))
            .map_err(|invalid| invalid.under(key))
    }
}

/// The items of a list, which errors name by index.
struct List<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Invalid;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Invalid> {
        let Some((index, item)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Field(item))
            .map(Some)
            .map_err(|invalid| invalid.about(item).at(index))
    }
}

/// serde's derived code never asks in this order.
fn value_before_key() -> Invalid {
    Invalid::new("a value was asked for before its key")
}

#[cfg(test)]
mod tests;
