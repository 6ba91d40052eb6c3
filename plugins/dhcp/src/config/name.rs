//! `hostname` and `fqdn`: the name that the container asks the server to know it by.

use cni::{Error, Request};
use dhcp4::RawOption;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::Source;
use super::options::{FQDN, HOST_NAME};

/// Either key: `true`, `false`, a name, or the argument that has the name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameKey {
    /// The container's or pod's name, if the runtime passes one.
    OfContainer,
    /// No name.
    Off,
    /// This name.
    Text(String),
    /// The value of this argument, if there is one.
    FromArg(String),
}

/// Refuses an invalid name.
pub(super) fn verify(
    source: Source<'_>,
    key: &str,
    name: Option<&NameKey>,
    is_name: fn(&str) -> bool,
) -> Result<(), Error> {
    match name {
        Some(NameKey::Text(text)) if !is_name(text) => {
            Err(source.invalid(key, format_args!("{text:?} is not a valid name")))
        }
        _ => Ok(()),
    }
}

/// Whether a name can be sent as it is in option 12.
pub(super) fn is_hostname(name: &str) -> bool {
    dhcp4::hostname(name).as_deref() == Some(name)
}

/// Whether a name can be sent in option 81.
pub(super) fn is_fqdn(name: &str) -> bool {
    dhcp4::fqdn(name).is_some()
}

/// Adds the name to the options that are sent, unless they have one already: as option 81 if `fqdn`
/// gives one, otherwise as option 12, but never as both (RFC 4702 §3.1).
///
/// # Errors
/// As [`Request::user_arg`].
pub(super) fn add(
    sent: &mut Vec<RawOption>,
    hostname: Option<&NameKey>,
    fqdn: Option<&NameKey>,
    request: &Request,
) -> Result<(), Error> {
    if sent
        .iter()
        .any(|option| [HOST_NAME, FQDN].contains(&option.code))
    {
        return Ok(());
    }
    let fqdn = match fqdn {
        Some(key) => resolve(key, request)?.and_then(|name| as_fqdn(key, name)),
        None => None,
    };
    let name = resolve(hostname.unwrap_or(&NameKey::OfContainer), request)?;
    let hostname = || Some(RawOption::new(HOST_NAME, dhcp4::hostname(&name?)?));
    sent.extend(fqdn.or_else(hostname));
    Ok(())
}

/// Option 81 for the name that this key gave.
fn as_fqdn(key: &NameKey, name: String) -> Option<RawOption> {
    let name = match key {
        NameKey::OfContainer => dhcp4::hostname(&name)?,
        // A runtime may pass any text.
        NameKey::FromArg(_) => name
            .split('.')
            .filter_map(dhcp4::hostname)
            .collect::<Vec<_>>()
            .join("."),
        NameKey::Text(_) | NameKey::Off => name,
    };
    Some(RawOption::new(FQDN, dhcp4::fqdn(&name)?))
}

fn resolve(key: &NameKey, request: &Request) -> Result<Option<String>, Error> {
    Ok(match key {
        NameKey::OfContainer => request.container_name().map(str::to_owned),
        NameKey::Off => None,
        NameKey::Text(text) => Some(text.clone()),
        NameKey::FromArg(name) => request.user_arg(name)?.map(str::to_owned),
    })
}

impl<'de> Deserialize<'de> for NameKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NameKey, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = NameKey;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false, a name, or {\"fromArg\": …}")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<NameKey, E> {
                Ok(if on {
                    NameKey::OfContainer
                } else {
                    NameKey::Off
                })
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<NameKey, E> {
                Ok(NameKey::Text(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NameKey, A::Error> {
                #[derive(Deserialize)]
                #[serde(rename_all = "camelCase")]
                struct FromArg {
                    from_arg: String,
                }
                let FromArg { from_arg } = FromArg::deserialize(MapAccessDeserializer::new(map))?;
                Ok(NameKey::FromArg(from_arg))
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}
