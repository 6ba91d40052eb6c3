//! The `ipam` section: the Go plugin's keys and more, resolved for one attachment into the terms of
//! a lease.

mod identity;
mod name;
mod options;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use attachment::SharedKeys;
use cni::{Error, Request, Route, code};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::duration;
use crate::protocol::{ConflictDetection, DEFAULT_SOCKET, Servers, Suppress, Terms};
use crate::store::Store;
use identity::ClientIdKey;
use name::NameKey;
use options::{Ask, Provide};

/// What one invocation needs to know.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the daemon is.
    pub(crate) daemon: Whereabouts,
    keys: Keys,
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

/// What to ask servers for, and how. README.md says what each key means.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    announce: bool,
    broadcast: bool,
    client_id: Option<ClientIdKey>,
    conflict_detection: ConflictDetection,
    fqdn: Option<NameKey>,
    hostname: Option<NameKey>,
    priority: Option<u32>,
    provide: Vec<Provide>,
    rapid_commit: bool,
    request: Vec<Ask>,
    requested_address: Option<Ipv4Addr>,
    routes: Vec<Route>,
    servers: Servers,
    suppress: Vec<Suppress>,
    #[serde(deserialize_with = "timeout")]
    timeout: Option<Duration>,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            announce: true,
            broadcast: false,
            client_id: None,
            conflict_detection: ConflictDetection::default(),
            fqdn: None,
            hostname: None,
            priority: None,
            provide: Vec::new(),
            rapid_commit: true,
            request: Vec::new(),
            requested_address: None,
            routes: Vec::new(),
            servers: Servers::default(),
            suppress: Vec::new(),
            timeout: None,
        }
    }
}

/// The part of the section that DEL needs: a mistake elsewhere must not keep a container from
/// going.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DaemonKeys {
    daemon_socket_path: String,
    state_dir: String,
    autostart: bool,
}

impl Config {
    /// Reads the section, and finds whatever is wrong with it for any attachment.
    ///
    /// # Errors
    /// 7, naming the key.
    pub(crate) fn read(request: &Request) -> Result<Config, Error> {
        let keys: Keys = match &request.config.ipam {
            Some(ipam) => cni::go::decode_under("ipam", ipam)?,
            None => Keys::default(),
        };
        options::verify(&keys.provide)?;
        identity::verify(keys.client_id.as_ref(), &keys.provide)?;
        name::verify("hostname", keys.hostname.as_ref(), name::is_hostname)?;
        name::verify("fqdn", keys.fqdn.as_ref(), name::is_fqdn)?;
        Ok(Config {
            daemon: Whereabouts::read(request)?,
            keys,
        })
    }

    /// The terms on which this attachment is to have its lease.
    ///
    /// # Errors
    /// 7, naming the key that asks for what the runtime or the machine does not tell; 4 for an
    /// address in CNI_ARGS that is none.
    pub(crate) fn terms(self, request: &Request) -> Result<Terms, Error> {
        let Keys {
            provide,
            hostname,
            fqdn,
            client_id,
            mut suppress,
            ..
        } = self.keys;
        let (client_id, mut provide) = (
            identity::resolve(client_id.as_ref(), &provide, request)?,
            options::resolve(&provide, &request.args),
        );
        name::add(&mut provide, hostname.as_ref(), fqdn.as_ref(), request);
        if has_mtu(request) && !suppress.contains(&Suppress::Mtu) {
            suppress.push(Suppress::Mtu);
        }
        let requested = request
            .requested_ips()?
            .into_iter()
            .find_map(|ip| match ip {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            });
        let above = SharedKeys::read(request);
        Ok(Terms {
            client_id,
            request: options::request_list(&self.keys.request, &provide),
            provide,
            requested_address: requested.or(self.keys.requested_address),
            servers: self.keys.servers,
            broadcast: self.keys.broadcast,
            rapid_commit: self.keys.rapid_commit,
            conflict_detection: self.keys.conflict_detection,
            announce: self.keys.announce,
            timeout: self.keys.timeout,
            suppress,
            routes: self.keys.routes,
            priority: self.keys.priority,
            source_routing: above.source_routing,
            host_access: above.host_access,
        })
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
        Ok(Whereabouts {
            socket,
            store,
            autostart: keys.autostart,
        })
    }
}

/// Whether the plugin above us was told an MTU: what is configured goes before what a server says.
fn has_mtu(request: &Request) -> bool {
    #[derive(Deserialize)]
    struct Above {
        mtu: Option<i64>,
    }
    // If it is no number, that is for the plugin to say whose key it is.
    cni::go::decode(&request.config.raw).is_ok_and(|Above { mtu }| mtu.is_some_and(|mtu| mtu > 0))
}

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

/// The longest `timeout`: kubelet gives up at two minutes, and somebody must be there to hear the
/// answer.
const LONGEST: Duration = Duration::from_secs(110);

/// A key of the section that cannot be as it is.
fn invalid(key: impl std::fmt::Display, problem: impl std::fmt::Display) -> Error {
    Error::new(
        code::INVALID_NETWORK_CONFIG,
        format!("invalid network configuration: ipam.{key}: {problem}"),
    )
}
