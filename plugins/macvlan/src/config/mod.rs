//! The plugin's keys of the network configuration: those of the Go plugin, and a few more.

mod keep_routes;
mod mac;
mod master;

use attachment::host_access::HostAccessKey;
use attachment::{Guard, SourceRouting};
use cni::{Error, NetworkConfig, Request, code};
use ipnet::IpNet;
use linknet::{Mac, MacvlanMode};
use serde::Deserialize;
use serde::de::{self, Deserializer};

use keep_routes::KeptPrefix;
use mac::MacKey;

pub use master::Selector;

/// The plugin's settings, from the network configuration and the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The parent device; `None`: that of the default route.
    pub master: Option<Selector>,
    /// The VLAN of the parent to use instead of the parent itself.
    pub vlan: Option<u16>,
    /// Look for the parent in the container's namespace instead of the host's.
    pub link_in_container: bool,
    /// Whether the macvlans of one parent can reach each other.
    pub mode: MacvlanMode,
    /// MTU of the interface in octets; `None`: the parent's.
    pub mtu: Option<u32>,
    /// MAC of the interface; `None`: the kernel chooses one at random.
    pub mac: Option<Mac>,
    /// Length of the parent's queue of broadcasts, in packets; `None`: the kernel's default.
    pub bc_queue_len: Option<u32>,
    /// Broadcasts with at least this many receivers go through that queue (`-1`: none do); `None`:
    /// the kernel's default.
    pub bc_cutoff: Option<i32>,
    /// Mode passthru: do not make the parent promiscuous.
    pub nopromisc: bool,
    /// Mode source: the senders to receive from.
    pub sources: Vec<Mac>,
    /// Make the host and the container reach each other.
    pub host_access: HostAccessKey,
    /// A routing table for packets from the interface's addresses.
    pub source_routing: SourceRouting,
    /// Destinations that keep their existing route.
    pub keep_routes: Vec<IpNet>,
    /// What the container may send, and what may reach it.
    pub guard: Guard,
}

/// The plugin's keys as they stand in the configuration.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    master: Option<Selector>,
    #[serde(deserialize_with = "vlan")]
    vlan: Option<u16>,
    link_in_container: bool,
    #[serde(deserialize_with = "mode")]
    mode: MacvlanMode,
    #[serde(deserialize_with = "mtu")]
    mtu: Option<u32>,
    #[serde(deserialize_with = "mac::key")]
    mac: MacKey,
    bcqueuelen: Option<u32>,
    bclim: Option<i32>,
    nopromisc: bool,
    #[serde(deserialize_with = "mac::list")]
    source_macs: Vec<Mac>,
    host_access: HostAccessKey,
    source_routing: SourceRouting,
    keep_routes: Vec<KeptPrefix>,
    guard: Guard,
}

/// The names of the keys.
pub(crate) fn keys() -> &'static [&'static str] {
    cni::go::field_names::<Keys>()
}

/// Whether the configuration has any key of the plugin's own.
pub(crate) fn has_own_keys(request: &Request) -> bool {
    let is_own = |key: &String| keys().iter().any(|own| own.eq_ignore_ascii_case(key));
    request.config.raw.keys().any(is_own)
}

/// Warns about keys that are probably misspelt. They have no effect.
pub(crate) fn warn_of_misspelt_keys(request: &Request) {
    let known = [keys(), NetworkConfig::KEYS].concat();
    cni::go::warn_of_misspelt_keys("", &request.config.raw, &known);
}

impl Config {
    /// Reads the configuration. A MAC that the runtime asks for overrides the configuration's.
    ///
    /// # Errors
    /// 7, naming the field; 4 for a bad `MAC` in CNI_ARGS.
    pub fn read(request: &Request) -> Result<Config, Error> {
        let keys: Keys = cni::go::decode(&request.config.raw)?;
        let config = Config {
            mac: match mac::requested(request)? {
                Some(mac) => Some(mac),
                None => keys.mac.resolve(request)?,
            },
            master: keys.master.filter(|master| !master.is_empty()),
            vlan: keys.vlan,
            link_in_container: keys.link_in_container,
            mode: keys.mode,
            mtu: keys.mtu,
            bc_queue_len: keys.bcqueuelen.filter(|length| *length > 0),
            bc_cutoff: keys.bclim,
            nopromisc: keys.nopromisc,
            sources: keys.source_macs,
            host_access: keys.host_access,
            source_routing: keys.source_routing,
            keep_routes: keys.keep_routes.into_iter().map(IpNet::from).collect(),
            guard: keys.guard,
        };
        match config.contradiction(request.config.ipam_type().is_some()) {
            None => Ok(config),
            Some(contradiction) => Err(invalid(contradiction)),
        }
    }

    /// Keys that contradict each other, or have no effect with the others: the kernel would ignore
    /// them silently.
    fn contradiction(&self, has_ipam: bool) -> Option<String> {
        let mode = self.mode;
        let is_for = |key: &str, other| format!("{key} needs mode {other}, but the mode is {mode}");
        if !self.sources.is_empty() && mode != MacvlanMode::Source {
            return Some(is_for("sourceMacs", MacvlanMode::Source));
        }
        if self.nopromisc && mode != MacvlanMode::Passthru {
            return Some(is_for("nopromisc", MacvlanMode::Passthru));
        }
        if !self.host_access.is_off() && mode != MacvlanMode::Bridge {
            return Some(is_for("hostAccess", MacvlanMode::Bridge));
        }
        let contradiction = if !self.host_access.is_off() && self.link_in_container {
            "hostAccess and linkInContainer exclude each other: the host is not on a parent that is \
             in the container"
        } else if has_ipam {
            return None;
        } else if !self.host_access.is_off() {
            "hostAccess needs ipam: without an address there is nothing to reach"
        } else if !self.source_routing.is_off() {
            "sourceRouting needs ipam: it routes by the interface's addresses, and without ipam it \
             has none"
        } else if !self.keep_routes.is_empty() {
            "keepRoutes has no effect without ipam: there are no routes to protect against"
        } else if !self.guard.is_off() {
            "guard needs ipam: without it, the container has no address to speak from"
        } else {
            return None;
        };
        Some(contradiction.to_owned())
    }
}

/// An error about the network configuration.
fn invalid(what: impl std::fmt::Display) -> Error {
    let what = format!("invalid network configuration: {what}");
    Error::new(code::INVALID_NETWORK_CONFIG, what)
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacvlanMode, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(MacvlanMode::Bridge),
        name => name.parse().map_err(de::Error::custom),
    }
}

/// As in the Go plugin `bridge`, 0 means none.
fn vlan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match i64::deserialize(deserializer)? {
        0 => Ok(None),
        value => match u16::try_from(value) {
            Ok(id) if id <= linknet::Vlan::MAX_ID => Ok(Some(id)),
            _ => Err(de::Error::custom(format_args!(
                "{value} is not a VLAN identifier (1 to {})",
                linknet::Vlan::MAX_ID
            ))),
        },
    }
}

fn mtu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match i64::deserialize(deserializer)? {
        0 => Ok(None),
        value => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(de::Error::custom(format_args!("{value} is not an MTU"))),
        },
    }
}
