//! Decoding configuration the way Go's `encoding/json` does, because existing configurations rely
//! on it.
//!
//! - A key matches a field whose name differs only in (ASCII) case; an exact match is preferred.
//! - A key that is `null` counts as absent.
//! - Unknown keys are ignored (and CNI demands it).
//!
//! Types are ordinary serde structs; the rules hold for nested ones too, as long as they are
//! derived without `flatten` or `untagged` (serde buffers those on its own terms).

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, map};

use crate::{Error, code};

/// Decodes a whole network configuration, or any object whose keys are at its top level.
///
/// # Errors
/// [`code::INVALID_NETWORK_CONFIG`], naming the field by its path and saying what is wrong with it.
pub fn decode<T: DeserializeOwned>(object: &Map<String, Value>) -> Result<T, Error> {
    from_object(object).map_err(Invalid::into_config_error)
}

/// Decodes an object that is found in the configuration under `path`, which errors then name:
/// `ipam`, for one.
///
/// # Errors
/// As [`decode`].
pub fn decode_under<T: DeserializeOwned>(
    path: &str,
    object: &Map<String, Value>,
) -> Result<T, Error> {
    from_object(object).map_err(|invalid| invalid.under(path).into_config_error())
}

/// The keys that `T` takes, in the order of its fields. `T` derives `Deserialize` and is a struct;
/// any other type takes no keys.
pub fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It always fails: there is nothing to read, and the names are known by then.
    let _ = T::deserialize(FieldNames(&mut names));
    names
}

pub(crate) fn from_object<T: DeserializeOwned>(object: &Map<String, Value>) -> Result<T, Invalid> {
    T::deserialize(Object(object))
}

/// Finds a key by Go's rules. `null` counts as absent.
pub(crate) fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let folded = || {
        object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    object
        .get(name)
        .or_else(folded)
        .filter(|value| !value.is_null())
}

/// A value that is not what its field needs, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// Outermost last: it is built while the error travels outwards.
    path: Vec<String>,
    what: String,
}

impl Invalid {
    pub(crate) fn new(what: impl Into<String>) -> Invalid {
        Invalid {
            path: Vec::new(),
            what: what.into(),
        }
    }

    pub(crate) fn under(mut self, key: impl Into<String>) -> Invalid {
        self.path.push(key.into());
        self
    }

    pub(crate) fn at(self, index: usize) -> Invalid {
        self.under(format!("[{index}]"))
    }

    pub(crate) fn into_config_error(self) -> Error {
        Error::new(
            code::INVALID_NETWORK_CONFIG,
            format!("invalid network configuration: {self}"),
        )
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.path.iter().rev().enumerate() {
            if i > 0 && !step.starts_with('[') {
                f.write_str(".")?;
            }
            f.write_str(step)?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        invalid.into_config_error()
    }
}

impl de::Error for Invalid {
    fn custom<T: fmt::Display>(what: T) -> Invalid {
        Invalid::new(what.to_string())
    }
}

/// Any JSON value, with Go's rules for the objects in it.
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
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        self.0
            .deserialize_enum(name, variants, visitor)
            .map_err(de::Error::custom)
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

struct Object<'a>(&'a Map<String, Value>);

impl<'de> de::Deserializer<'de> for Object<'de> {
    type Error = Invalid;

    /// Without a list of field names (a map of some kind), every key is taken as it is.
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
        visitor.visit_map(Fields {
            object: self.0,
            all: fields,
            rest: fields.iter(),
            value: None,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Takes down the names that a derived `Deserialize` asks for, and ends there.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> de::Deserializer<'de> for FieldNames<'_> {
    type Error = Invalid;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Invalid> {
        Err(Invalid::new("there is no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Invalid> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
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
    /// A key that is exactly another field's name belongs to that one alone.
    fn find(&self, name: &str) -> Option<&'a Value> {
        let folded = || {
            let is_match =
                |key: &String| key.eq_ignore_ascii_case(name) && !self.all.contains(&key.as_str());
            self.object
                .iter()
                .find(|(key, _)| is_match(key))
                .map(|(_, value)| value)
        };
        self.object
            .get(name)
            .or_else(folded)
            .filter(|value| !value.is_null())
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
            return Err(de::Error::custom("value before key"));
        };
        seed.deserialize(Field(value))
            .map_err(|invalid| invalid.under(name))
    }
}

/// A map: its entries as they are.
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
            return Err(de::Error::custom("value before key"));
        };
        seed.deserialize(Field(value))
            .map_err(|invalid| invalid.under(key))
    }
}

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
            .map_err(|invalid| invalid.at(index))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, rename_all = "camelCase")]
    struct Conf {
        master: String,
        mtu: Option<u32>,
        link_in_container: bool,
        mode: Mode,
        ipam: Ipam,
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Bridge,
        Private,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, rename_all = "camelCase")]
    struct Ipam {
        daemon_socket_path: String,
        request: Vec<Option55>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Option55 {
        #[serde(default)]
        skip_default: bool,
        option: String,
    }

    fn read(document: Value) -> Result<Conf, Error> {
        decode(&serde_json::from_value(document).unwrap())
    }

    #[test]
    fn the_keys_of_a_struct_are_its_fields_as_they_are_written_in_json() {
        assert_eq!(
            field_names::<Conf>(),
            ["master", "mtu", "linkInContainer", "mode", "ipam", "labels"]
        );
        assert!(field_names::<Mode>().is_empty(), "an enum has no keys");
    }

    #[test]
    fn keys_match_in_any_case_at_every_depth() {
        let conf = read(json!({
            "MASTER": "eth1", "Mtu": 1400, "linkincontainer": true, "mode": "private",
            "IPAM": { "DaemonSocketPath": "/run/x", "Request": [{ "OPTION": "routers", "skipdefault": true }] },
        }))
        .unwrap();
        assert_eq!(
            conf,
            Conf {
                master: "eth1".into(),
                mtu: Some(1400),
                link_in_container: true,
                mode: Mode::Private,
                ipam: Ipam {
                    daemon_socket_path: "/run/x".into(),
                    request: vec![Option55 {
                        skip_default: true,
                        option: "routers".into()
                    }],
                },
                labels: BTreeMap::new(),
            }
        );
    }

    #[test]
    fn the_exact_key_is_preferred() {
        assert_eq!(
            read(json!({ "MASTER": "a", "master": "b", "mASTER": "c" }))
                .unwrap()
                .master,
            "b"
        );
    }

    #[test]
    fn the_keys_of_a_map_keep_their_case() {
        let conf = read(json!({ "labels": { "App": "x", "app": "y" } })).unwrap();
        assert_eq!(
            conf.labels,
            BTreeMap::from([("App".into(), "x".into()), ("app".into(), "y".into())])
        );
    }

    #[test]
    fn null_and_unknown_keys_are_as_if_they_were_not_there() {
        let conf =
            read(json!({ "master": null, "mtu": null, "ipam": null, "isGateway": true })).unwrap();
        assert_eq!(conf, Conf::default());
    }

    #[test]
    fn an_error_names_the_field_by_its_path() {
        let msg = |document| {
            let error = read(document).unwrap_err();
            assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
            error.msg
        };
        let of = |path: &str, what: &str| format!("invalid network configuration: {path}: {what}");
        assert_eq!(
            msg(json!({ "MTU": "big" })),
            of("mtu", "invalid type: string \"big\", expected u32")
        );
        assert_eq!(
            msg(json!({ "mtu": -1 })),
            of("mtu", "invalid value: integer `-1`, expected u32")
        );
        assert_eq!(
            msg(json!({ "mode": "x" })),
            of(
                "mode",
                "unknown variant `x`, expected `bridge` or `private`"
            )
        );
        assert_eq!(
            msg(json!({ "labels": { "a": 1 } })),
            of("labels.a", "invalid type: integer `1`, expected a string")
        );
        assert_eq!(
            msg(json!({ "ipam": { "request": [{ "option": "x" }, { "option": 3 }] } })),
            of(
                "ipam.request[1].option",
                "invalid type: integer `3`, expected a string"
            )
        );
        assert_eq!(
            msg(json!({ "ipam": { "request": [{}] } })),
            of("ipam.request[0]", "missing field `option`")
        );
        let ipam = json!({ "request": 1 });
        let error = decode_under::<Ipam>("ipam", ipam.as_object().unwrap()).unwrap_err();
        assert_eq!(
            error.msg,
            of(
                "ipam.request",
                "invalid type: integer `1`, expected a sequence"
            )
        );
    }
}
