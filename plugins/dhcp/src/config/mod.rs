//! The `ipam` section, completed by the network's file: the Go plugin's keys and more, resolved for
//! one attachment into the parameters of its lease.

mod client_id;
mod location;
mod misspelt;
mod name;
mod network_file;
mod options;
mod source;
#[cfg(test)]
mod tests;
mod timeout;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use attachment::{DelegatedKeys, SharedKeys};
use cni::go::field_names;
use cni::{CniResult, Error, Request, Route};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::protocol::{
    ConflictDetection, LeaseParams, OnChange, ReleasePolicy, Servers, Settings, Suppress,
};
use client_id::ClientIdKey;
use name::NameKey;
use network_file::NetworkFile;
use options::{Provide, RequestOption};
use source::Source;

pub(crate) use location::DaemonLocation;
pub(crate) use network_file::problems as problems_of_network_files;
pub(crate) use options::{FQDN, HOST_NAME};

/// The configuration of one invocation.
#[derive(Debug)]
pub(super) struct Config {
    /// Where the daemon is.
    pub(super) daemon: DaemonLocation,
    keys: Keys,
    /// The caller's `ipam` section.
    ipam: Map<String, Value>,
    /// The network's file, which completes it.
    file: Option<NetworkFile>,
}

/// The keys about the lease. docs/configuration.md describes each of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    announce: Option<bool>,
    broadcast: bool,
    client_id: Option<ClientIdKey>,
    conflict_detection: ConflictDetection,
    fqdn: Option<NameKey>,
    hostname: Option<NameKey>,
    on_change: OnChange,
    priority: Option<u32>,
    provide: Vec<Provide>,
    rapid_commit: Option<bool>,
    release: Option<ReleasePolicy>,
    request: Vec<RequestOption>,
    requested_address: Option<Ipv4Addr>,
    routes: Vec<Route>,
    servers: Servers,
    suppress: Vec<Suppress>,
    #[serde(deserialize_with = "timeout::deserialize")]
    timeout: Option<Duration>,
}

/// The names of the keys of the section; those of an entry as `provide[].option`.
pub(crate) fn keys() -> Vec<String> {
    let entries = entry_keys().into_iter();
    let entries =
        entries.flat_map(|(list, names)| names.iter().map(move |name| format!("{list}[].{name}")));
    let servers = field_names::<Servers>()
        .iter()
        .map(|name| format!("servers.{name}"));
    let keys = known_keys().into_iter().map(str::to_owned);
    keys.chain(entries).chain(servers).collect()
}

/// The lists in the section, with the names of their entries' keys.
fn entry_keys() -> [(&'static str, &'static [&'static str]); 3] {
    [
        ("provide", field_names::<Provide>()),
        ("request", field_names::<RequestOption>()),
        ("routes", field_names::<Route>()),
    ]
}

/// The names of the keys of the section, besides `type`.
fn known_keys() -> Vec<&'static str> {
    [location::keys(), field_names::<Keys>()].concat()
}

/// What to say of the addresses that the user requested, for this container or with the key
/// `requestedAddress`, and that are not part of the result. The server decides, so this is no error.
///
/// # Errors
/// As [`Request::requested_ips`].
pub(super) fn ungranted(
    request: &Request,
    key: Option<Ipv4Addr>,
    result: &CniResult,
) -> Result<Vec<String>, Error> {
    let leased = result.ips.first().map(|ip| ip.address.addr());
    let mut requested = request.requested_ips()?;
    if !requested.iter().any(IpAddr::is_ipv4) {
        requested.extend(key.map(IpAddr::V4));
    }
    let first = requested.iter().position(IpAddr::is_ipv4);
    let missing = requested
        .iter()
        .enumerate()
        .filter(|(_, ip)| Some(**ip) != leased);
    let describe = |(position, ip): (usize, &IpAddr)| match leased {
        Some(leased) if first == Some(position) => {
            format!("{ip} was requested, but the DHCP server has leased {leased}")
        }
        _ => format!("{ip} was requested, but a lease is for one IPv4 address"),
    };
    Ok(missing.map(describe).collect())
}

/// Refuses unknown keys in `servers`: a misspelt one would let any server in.
fn verify_server_keys(source: Source<'_>, section: &Map<String, Value>) -> Result<(), Error> {
    let Some(servers) = cni::go::get(section, "servers").and_then(Value::as_object) else {
        return Ok(());
    };
    let unknown = misspelt::unknown_in(servers, "", field_names::<Servers>());
    let Some((key, meant)) = unknown.first() else {
        return Ok(());
    };
    let advice = meant.map(|meant| format!("; did you mean {meant:?}?"));
    let advice = advice.unwrap_or_default();
    Err(source.invalid("servers", format_args!("there is no key {key:?}{advice}")))
}

impl Keys {
    /// Refuses values that are invalid for every attachment. `source` says where a key is.
    fn verify<'a>(&self, source: impl Fn(&str) -> Source<'a>) -> Result<(), Error> {
        options::verify(source("provide"), &self.provide)?;
        let client_id = self.client_id.as_ref();
        let sources = (source("clientId"), source("provide"));
        client_id::verify(sources, client_id, &self.provide)?;
        let (hostname, fqdn) = (self.hostname.as_ref(), self.fqdn.as_ref());
        name::verify(source("hostname"), "hostname", hostname, name::is_hostname)?;
        name::verify(source("fqdn"), "fqdn", fqdn, name::is_fqdn)
    }
}

impl DaemonLocation {
    /// Reads these keys, and no others, for a verb that a bad file of the network's must not fail:
    /// it is warned about, and counts as absent.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7) if a key of the `ipam` section is of the wrong type.
    pub(crate) fn read(request: &Request) -> Result<DaemonLocation, Error> {
        let mut section = request.config.ipam.clone().unwrap_or_default();
        let file = NetworkFile::of_network(&request.config.name).and_then(|file| match file {
            Some(file) => file.verify_location().map(|()| Some(file)),
            None => Ok(None),
        });
        match file {
            Ok(Some(file)) => file.complete(&mut section),
            Ok(None) => {}
            Err(error) => log::warn!("ignored: {error}"),
        }
        DaemonLocation::of(&section)
    }
}

impl Config {
    /// Reads the section and the network's file, and validates everything that does not depend on
    /// the attachment.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7), naming the key, and the file if it is there.
    pub(super) fn read(request: &Request) -> Result<Config, Error> {
        Config::with_file(request, NetworkFile::of_network(&request.config.name)?)
    }

    /// Like [`Config::read`], with this content of the network's file; `None` if there is none.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(super) fn with_content(request: &Request, file: Option<&[u8]>) -> Result<Config, Error> {
        let parse = |content| NetworkFile::parse("network.json".into(), content);
        Config::with_file(request, file.map(parse).transpose()?)
    }

    fn with_file(request: &Request, file: Option<NetworkFile>) -> Result<Config, Error> {
        let ipam = request.config.ipam.clone().unwrap_or_default();
        let mut section = ipam.clone();
        if let Some(file) = &file {
            file.verify()?;
            file.complete(&mut section);
        }
        let config = Config {
            daemon: DaemonLocation::of(&section)?,
            keys: Source::Ipam.decode(&section)?,
            ipam,
            file,
        };
        config.keys.verify(|key| config.source(key))?;
        verify_server_keys(config.source("servers"), &section)?;
        Ok(config)
    }

    /// Where the value of a key is from.
    fn source(&self, key: &str) -> Source<'_> {
        match &self.file {
            Some(file) if file.supplies(key, &self.ipam).is_some() => file.source(),
            _ => Source::Ipam,
        }
    }

    /// Warns about keys that are probably misspelt, and about all unknown ones of the network's file,
    /// which has none for others. They have no effect.
    pub(super) fn warn_of_misspelt_keys(&self) {
        for (key, meant) in misspelt::keys(&self.ipam) {
            let key = Source::Ipam.name(key);
            log::warn!("there is no key {key:?}; did you mean {meant:?}?");
        }
        for warning in self.file.iter().flat_map(NetworkFile::keys_without_effect) {
            log::warn!("{warning}");
        }
    }

    /// Whether a key is given, by the caller or in the network's file.
    #[cfg(feature = "podman")]
    pub(crate) fn has(&self, key: &str) -> bool {
        let in_file = |file: &NetworkFile| file.supplies(key, &self.ipam).is_some();
        cni::go::get(&self.ipam, key).is_some() || self.file.as_ref().is_some_and(in_file)
    }

    /// How long an ADD may take, if that is configured.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.keys.timeout
    }

    /// The address that the key `requestedAddress` names. What a runtime requests overrides it.
    pub(super) fn requested_address(&self) -> Option<Ipv4Addr> {
        self.keys.requested_address
    }

    /// The keys that concern a plugin which delegates to this one.
    pub(super) fn delegated_keys(&self) -> DelegatedKeys {
        let routes = self.keys.routes.iter().map(|route| route.dst.trunc());
        DelegatedKeys {
            announce: self.keys.announce.unwrap_or(true),
            routes: routes.collect(),
        }
    }

    /// The parameters of the attachment's lease.
    ///
    /// # Errors
    /// `INVALID_NETWORK_CONFIG` (7), naming the key, if it needs something that the runtime or the
    /// machine does not provide; `INVALID_ENVIRONMENT` (4) for an invalid address in CNI_ARGS.
    pub(super) fn lease_params(self, request: &Request) -> Result<LeaseParams, Error> {
        let source = self.source("clientId");
        let client_id = self.keys.client_id.as_ref();
        let client_id = client_id::resolve(source, client_id, &self.keys.provide, request)?;
        let keys = self.keys;
        let mut provide = options::resolve(&keys.provide, request)?;
        let (hostname, fqdn) = (keys.hostname.as_ref(), keys.fqdn.as_ref());
        name::add(&mut provide, hostname, fqdn, request)?;
        let mut suppress = keys.suppress;
        if has_mtu(request) && !suppress.contains(&Suppress::Mtu) {
            suppress.push(Suppress::Mtu);
        }
        let requested_by_runtime = request
            .requested_ips()?
            .into_iter()
            .find_map(|ip| match ip {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            });
        let release = match keys.release {
            Some(release) => release,
            None if client_id::may_be_shared(&client_id, request)? => ReleasePolicy::IfUnused,
            None => ReleasePolicy::Always,
        };
        let shared = SharedKeys::read(request);
        let settings = Settings {
            request: options::request_list(&keys.request, &provide),
            servers: keys.servers,
            broadcast: keys.broadcast,
            rapid_commit: keys.rapid_commit.unwrap_or(true),
            conflict_detection: keys.conflict_detection,
            on_change: keys.on_change,
            announce: keys.announce.unwrap_or(true),
            release,
            timeout: keys.timeout,
            suppress,
            routes: keys.routes,
            priority: keys.priority,
            source_routing: shared.source_routing,
            host_access: shared.host_access,
            guard: shared.guard,
        };
        Ok(LeaseParams {
            client_id,
            provide,
            requested_address: requested_by_runtime.or(keys.requested_address),
            member: None,
            configure: false,
            settings: Arc::new(settings),
        })
    }
}

/// Whether the configuration of the plugin that calls this one sets an MTU, which overrides the
/// server's.
fn has_mtu(request: &Request) -> bool {
    #[derive(Deserialize)]
    struct CallerKeys {
        mtu: Option<i64>,
    }
    // If it is not a number, the plugin that the key belongs to reports that.
    cni::go::decode(&request.config.raw)
        .is_ok_and(|CallerKeys { mtu }| mtu.is_some_and(|mtu| mtu > 0))
}
