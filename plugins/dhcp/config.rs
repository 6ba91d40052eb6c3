//! The `ipam` section: the Go plugin's keys, resolved for one attachment into the terms of a lease.

use std::path::PathBuf;
use std::time::Duration;

use cni::{Error, Request, code};
use dhcp4::{RawOption, client_id, names};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::duration;
use crate::protocol::{DEFAULT_SOCKET, Terms};
use crate::store::Store;

/// What one invocation needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where the daemon is.
    pub(crate) daemon: Whereabouts,
    /// What to ask servers for, and how.
    pub(crate) terms: Terms,
}

/// Where the daemon listens, and where it keeps its leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// Its leases.
    pub(crate) store: Store,
    /// Start one where none listens.
    pub(crate) autostart: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    provide: Vec<Provide>,
    request: Vec<Ask>,
    priority: Option<u32>,
    #[serde(deserialize_with = "timeout")]
    timeout: Option<Duration>,
}

/// The part of the section that DEL needs: a mistake elsewhere must not keep a container from going.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DaemonKeys {
    daemon_socket_path: String,
    state_dir: String,
    autostart: bool,
}

/// An option to send.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provide {
    option: Code,
    #[serde(default)]
    value: String,
    #[serde(default)]
    from_arg: String,
}

/// An option to ask for, or a word about the default list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    option: Option<Code>,
    #[serde(default)]
    skip_default: bool,
}

impl Config {
    /// Reads the section.
    ///
    /// # Errors
    /// 7, naming the key.
    pub(crate) fn read(request: &Request) -> Result<Config, Error> {
        let keys: Keys = match &request.config.ipam {
            Some(ipam) => cni::go::decode_under("ipam", ipam)?,
            None => Keys::default(),
        };
        let mut provide = Vec::new();
        let mut client_id = None;
        for (i, option) in keys.provide.into_iter().enumerate() {
            let Some(value) = value_of(&option, request) else { continue };
            let option = RawOption::new(option.option.0, value);
            match option.code {
                code if code == CLIENT_ID => client_id = Some(option),
                code if dhcp4::Config::is_reserved(code) => {
                    return Err(Error::new(
                        code::INVALID_NETWORK_CONFIG,
                        format!(
                            "invalid network configuration: ipam.provide[{i}].option: {code} is the DHCP client's own business"
                        ),
                    ));
                }
                _ => provide.push(option),
            }
        }
        let terms = Terms {
            client_id: Some(client_id.unwrap_or_else(|| default_client_id(request))),
            request: request_list(&keys.request),
            provide,
            timeout: keys.timeout,
            priority: keys.priority,
        };
        Ok(Config { daemon: Whereabouts::read(request)?, terms })
    }
}

impl Whereabouts {
    /// Reads these keys, and no other.
    ///
    /// # Errors
    /// 7, when one is not of its type.
    pub(crate) fn read(request: &Request) -> Result<Whereabouts, Error> {
        let keys: DaemonKeys = match &request.config.ipam {
            Some(ipam) => cni::go::decode_under("ipam", ipam)?,
            None => DaemonKeys::default(),
        };
        let socket = if keys.daemon_socket_path.is_empty() {
            PathBuf::from(DEFAULT_SOCKET)
        } else {
            keys.daemon_socket_path.into()
        };
        let store = if keys.state_dir.is_empty() {
            Store::of_socket(&socket)
        } else {
            Store::at(keys.state_dir.into())
        };
        Ok(Whereabouts { socket, store, autostart: keys.autostart })
    }
}

/// Option 61, whose body is `clientId`'s business.
const CLIENT_ID: u8 = 61;
/// Option 77, a list of strings each with its length (RFC 3004 §4).
const USER_CLASS: u8 = 77;

/// A bound on ADD, as Go writes durations (`30s`) or as a number of seconds.
fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    struct Timeout;

    impl Visitor<'_> for Timeout {
        type Value = Duration;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration such as \"30s\", or a number of seconds")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            duration::parse(text).map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
            Ok(Duration::from_secs(seconds))
        }
    }
    let timeout = deserializer.deserialize_any(Timeout)?;
    if timeout.is_zero() || timeout > LONGEST {
        return Err(de::Error::custom(format_args!(
            "must be more than nothing and at most {} s",
            LONGEST.as_secs()
        )));
    }
    Ok(Some(timeout))
}

/// The longest `timeout`: kubelet gives up at two minutes, and somebody must be there to hear the answer.
const LONGEST: Duration = Duration::from_secs(110);

/// The Go plugin's identifier, octet by octet: servers know the client by it.
fn default_client_id(request: &Request) -> RawOption {
    RawOption::new(
        CLIENT_ID,
        client_id::container(&request.container_id, &request.config.name, &request.ifname),
    )
}

/// The value of an option; `None` when it comes from an argument that the runtime did not give.
fn value_of(option: &Provide, request: &Request) -> Option<Vec<u8>> {
    let text = match option.from_arg.as_str() {
        "" => option.value.as_str(),
        name => request.args.get(name).or(Some(option.value.as_str()).filter(|value| !value.is_empty()))?,
    };
    if option.option.0 == USER_CLASS {
        let length = u8::try_from(text.len()).ok()?;
        return Some([&[length], text.as_bytes()].concat());
    }
    Some(text.as_bytes().to_vec())
}

/// The parameter request list: the defaults, unless they are to be skipped, then what is asked for.
fn request_list(asked: &[Ask]) -> Vec<u8> {
    let skip = asked.iter().any(|ask| ask.skip_default);
    let mut codes = if skip { Vec::new() } else { dhcp4::DEFAULT_REQUEST.to_vec() };
    for Code(code) in asked.iter().filter_map(|ask| ask.option) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}

/// An option by its name in dhcp-options(5), or by its number (as text, which is what the Go plugin takes, or plain).
#[derive(Debug, Clone, Copy)]
struct Code(u8);

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
        let code = names::code(text).or_else(|| text.parse().ok().filter(|code| (1..=254).contains(code)));
        code.map(Code).ok_or_else(|| {
            E::custom(format_args!(
                "{text:?} is no DHCP option that is known by name, nor a number from 1 to 254"
            ))
        })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Code, E> {
        let code = u8::try_from(number).ok().filter(|code| (1..=254).contains(code));
        code.map(Code)
            .ok_or_else(|| E::custom(format_args!("{number} is no DHCP option: those go from 1 to 254")))
    }
}
