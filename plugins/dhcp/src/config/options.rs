//! `provide` and `request`: the options that are sent, and those that are requested.

use cni::{Error, Request};
use dhcp4::{RawOption, names};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::Source;
use crate::protocol::Hex;

/// Option 12.
pub(crate) const HOST_NAME: u8 = 12;
/// Option 61, which `clientId` overrides.
const CLIENT_ID: u8 = 61;
/// Option 77, a list of strings each with its length (RFC 3004 §4).
const USER_CLASS: u8 = 77;
/// Option 81 (RFC 4702).
pub(crate) const FQDN: u8 = 81;

/// The longest value, as with the Go plugin. A longer one would have to be split, and few servers
/// join the parts.
const MAX_LEN: usize = 255;

/// An option to send.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Provide {
    option: Code,
    #[serde(default)]
    value: String,
    hex: Option<Hex>,
    #[serde(default)]
    from_arg: String,
}

/// An option to request, or a switch that leaves out the default list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestOption {
    #[serde(default, deserialize_with = "code_unless_empty")]
    option: Option<Code>,
    #[serde(default)]
    skip_default: bool,
}

impl Provide {
    /// Whether it is the client identifier, which is resolved separately.
    pub(super) fn is_client_id(&self) -> bool {
        self.option.0 == CLIENT_ID
    }
}

/// Refuses options that are invalid for every attachment.
pub(super) fn verify(source: Source<'_>, provide: &[Provide]) -> Result<(), Error> {
    for (i, provided) in provide.iter().enumerate() {
        let Code(code) = provided.option;
        if code != CLIENT_ID && dhcp4::Config::is_reserved(code) {
            let problem = format_args!("option {code} is set by the DHCP client itself");
            return Err(source.invalid(format_args!("provide[{i}].option"), problem));
        }
        if !provided.value.is_empty() && provided.hex.is_some() {
            let problem = "value and hex are both given; use one of them";
            return Err(source.invalid(format_args!("provide[{i}]"), problem));
        }
        let length = match &provided.hex {
            Some(Hex(data)) => data.len(),
            None => encode(code, &provided.value).len(),
        };
        if length > MAX_LEN {
            let problem = format_args!("it has {length} octets; an option takes at most {MAX_LEN}");
            return Err(source.invalid(format_args!("provide[{i}]"), problem));
        }
    }
    Ok(())
}

/// The options to send, except for the client identifier. Of several with the same code, the last
/// is used.
///
/// # Errors
/// As [`Request::user_arg`].
pub(super) fn resolve(provide: &[Provide], request: &Request) -> Result<Vec<RawOption>, Error> {
    let mut options: Vec<RawOption> = Vec::new();
    for provided in provide.iter().filter(|provided| !provided.is_client_id()) {
        let Some(data) = value_of(provided, request)? else {
            continue;
        };
        options.retain(|option| option.code != provided.option.0);
        options.push(RawOption::new(provided.option.0, data));
    }
    Ok(options)
}

/// The client identifier that `provide` gives, as with the Go plugin.
///
/// # Errors
/// As [`Request::user_arg`].
pub(super) fn client_id(provide: &[Provide], request: &Request) -> Result<Option<Vec<u8>>, Error> {
    let provided = provide.iter().filter(|provided| provided.is_client_id());
    let values = provided.filter_map(|provided| value_of(provided, request).transpose());
    Ok(values.collect::<Result<Vec<_>, _>>()?.pop())
}

/// The parameter request list: the defaults, unless `skipDefault` is set, then the options of
/// `request`.
///
/// A name that is sent is not requested: some servers (dnsmasq) return the name that they were
/// sent, which would then look like the server's own choice.
pub(super) fn request_list(requested: &[RequestOption], sent: &[RawOption]) -> Vec<u8> {
    let skip = requested.iter().any(|entry| entry.skip_default);
    let mut codes = if skip {
        Vec::new()
    } else {
        dhcp4::DEFAULT_REQUEST.to_vec()
    };
    for Code(code) in requested.iter().filter_map(|entry| entry.option) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    if sent
        .iter()
        .any(|option| [HOST_NAME, FQDN].contains(&option.code))
    {
        codes.retain(|code| ![HOST_NAME, FQDN].contains(code));
    }
    codes
}

/// The value of an option; `None` if there is none, because the runtime did not pass the argument
/// that it comes from. The argument overrides the value, as with the Go plugin.
fn value_of(provided: &Provide, request: &Request) -> Result<Option<Vec<u8>>, Error> {
    let Code(code) = provided.option;
    let data = match (request.user_arg(&provided.from_arg)?, &provided.hex) {
        (Some(text), _) => encode(code, text),
        (None, Some(Hex(data))) => return Ok(Some(data.clone())),
        (None, None) if provided.value.is_empty() => return Ok(None),
        (None, None) => encode(code, &provided.value),
    };
    if data.len() > MAX_LEN {
        // The configuration, which has been verified, is not at fault.
        let (key, length) = (&provided.from_arg, data.len());
        log::warn!(
            "option {code} is not sent: {key} has {length} octets, and an option takes at most {MAX_LEN}"
        );
        return Ok(None);
    }
    Ok(Some(data))
}

/// A text as the value of an option.
fn encode(code: u8, text: &str) -> Vec<u8> {
    match u8::try_from(text.len()) {
        Ok(length) if code == USER_CLASS => [&[length], text.as_bytes()].concat(),
        _ => text.as_bytes().to_vec(),
    }
}

/// An option by its name in dhcp-options(5), or by its number (as a number, or as text as in the Go
/// plugin).
#[derive(Debug, Clone, Copy)]
struct Code(u8);

/// An option, or none: programs in Go write an empty text for one that is not set.
fn code_unless_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Code>, D::Error> {
    struct UnlessEmpty;

    impl Visitor<'_> for UnlessEmpty {
        type Value = Option<Code>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            CodeVisitor.expecting(f)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<Code>, E> {
            match text {
                "" => Ok(None),
                text => CodeVisitor.visit_str(text).map(Some),
            }
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<Code>, E> {
            CodeVisitor.visit_u64(number).map(Some)
        }
    }

    deserializer.deserialize_any(UnlessEmpty)
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        deserializer.deserialize_any(CodeVisitor)
    }
}

struct CodeVisitor;

impl Visitor<'_> for CodeVisitor {
    type Value = Code;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name or the number of a DHCP option")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Code, E> {
        names::code(text).map(Code).ok_or_else(|| {
            E::custom(format_args!(
                "{text:?} is neither the name of a known DHCP option nor a number from 1 to 254"
            ))
        })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Code, E> {
        let code = u8::try_from(number)
            .ok()
            .filter(|code| (1..=254).contains(code));
        code.map(Code).ok_or_else(|| {
            E::custom(format_args!(
                "{number} is not a DHCP option: they are numbered from 1 to 254"
            ))
        })
    }
}
