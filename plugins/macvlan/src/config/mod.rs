//! The plugin's keys of the network configuration: those of the Go plugin, and a few more.

mod keep_routes;
mod mac;
mod master;
mod refused_routes;

use attachment::host_access::HostAccessKey;
use attachment::{Guard, SourceRouting};
use cni::{Error, NetworkConfig, Request, code};
use ipnet::IpNet;
use linknet::{Mac, MacvlanMode, Route};
use serde::Deserialize;
use serde::de::{self, Deserializer};

use keep_routes::KeptPrefix;
use mac::MacKey;
use refused_routes::RefusedRoute;

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
    /// Routes that refuse packets to their destinations.
    pub refused_routes: Vec<Route>,
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
    refused_routes: Vec<RefusedRoute>,
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
            refused_routes: keys.refused_routes.into_iter().map(Route::from).collect(),
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
        } else if !self.refused_routes.is_empty() {
            "refusedRoutes needs ipam: without an address there is nothing to route"
        } else if !self.guard.is_off() {
            "guard needs ipam: without it, the container has no address to speak from"
        } else {
            return None;
        };
        Some(contradiction.to_owned())
    }
}

/// An error about the network configuration.
pub(crate) fn invalid(what: impl std::fmt::Display) -> Error {
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

#[cfg(test)]
mod tests {
    use cni::{Env, KnownArgs};
    use serde_json::{Value, json};

    use super::*;

    const MAC: &str = "02:11:22:33:44:55";

    /// A call with these keys and this CNI_ARGS.
    fn request(verb: &str, args: &str, keys: Value) -> Request {
        let env: Env = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
        ]
        .into_iter()
        .collect();
        let mut config = json!({ "cniVersion": "1.0.0", "name": "lan", "type": "macvlan" });
        if let (Value::Object(config), Value::Object(keys)) = (&mut config, keys) {
            config.extend(keys);
        }
        let document = config.to_string();
        Request::parse(&env, document.as_bytes(), KnownArgs::Any).expect("a valid request")
    }

    fn read(keys: Value) -> Result<Config, Error> {
        Config::read(&request("ADD", "", keys))
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused() {
        let ipam = json!({ "type": "static" });
        for (keys, words) in [
            (json!({}), ""),
            (
                json!({ "sourceMacs": [MAC] }),
                "sourceMacs needs mode source",
            ),
            (json!({ "sourceMacs": [MAC], "mode": "source" }), ""),
            (
                json!({ "nopromisc": true }),
                "nopromisc needs mode passthru",
            ),
            (json!({ "nopromisc": true, "mode": "passthru" }), ""),
            (json!({ "mode": "passthru" }), ""),
            (json!({ "hostAccess": true, "ipam": ipam }), ""),
            (
                json!({ "hostAccess": true, "ipam": ipam, "mode": "private" }),
                "hostAccess needs mode bridge",
            ),
            (
                json!({ "hostAccess": true, "ipam": ipam, "linkInContainer": true }),
                "exclude each other",
            ),
            (json!({ "linkInContainer": true, "ipam": ipam }), ""),
            (json!({ "linkInContainer": true }), ""),
            (json!({ "hostAccess": true }), "hostAccess needs ipam"),
            (json!({ "sourceRouting": true }), "sourceRouting needs ipam"),
            (json!({ "sourceRouting": true, "ipam": ipam }), ""),
            (
                json!({ "keepRoutes": ["10.0.0.0/8"] }),
                "no effect without ipam",
            ),
            (json!({ "keepRoutes": ["10.0.0.0/8"], "ipam": ipam }), ""),
            (
                json!({ "refusedRoutes": [{ "dst": "10.0.0.0/8" }] }),
                "refusedRoutes needs ipam",
            ),
            (
                json!({ "refusedRoutes": [{ "dst": "10.0.0.0/8" }], "ipam": ipam }),
                "",
            ),
            (json!({ "guard": true }), "guard needs ipam"),
            (json!({ "guard": true, "ipam": ipam }), ""),
        ] {
            let refused = read(keys.clone()).err();
            assert_eq!(refused.is_some(), !words.is_empty(), "{keys}: {refused:?}");
            if let Some(error) = refused {
                assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
                assert!(error.msg.contains(words), "{keys}: {error}");
            }
        }
    }

    #[test]
    fn a_number_that_is_zero_means_none_and_one_out_of_range_is_refused() {
        let config = |keys: Value| read(keys).expect("a valid configuration");
        let none = config(json!({ "vlan": 0, "mtu": 0, "bcqueuelen": 0, "mode": "", "mac": "" }));
        assert_eq!(none, Config::default());
        assert_eq!(config(json!({ "master": "" })).master, None);
        let sources = config(json!({ "mode": "source", "sourceMacs": [MAC] })).sources;
        assert_eq!(
            sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [MAC]
        );
        let some = config(json!({ "vlan": 4094, "mtu": 1400, "bcqueuelen": 1, "bclim": -1 }));
        assert_eq!((some.vlan, some.mtu), (Some(4094), Some(1400)));
        assert_eq!((some.bc_queue_len, some.bc_cutoff), (Some(1), Some(-1)));
        for (keys, words) in [
            (
                json!({ "vlan": 4095 }),
                "4095 is not a VLAN identifier (1 to 4094)",
            ),
            (json!({ "vlan": -1 }), "-1 is not a VLAN identifier"),
            (json!({ "mtu": -1 }), "-1 is not an MTU"),
            (json!({ "mode": "vepa2" }), "mode"),
        ] {
            let error = read(keys.clone()).expect_err("it is out of range");
            assert!(error.msg.contains(words), "{keys}: {error}");
        }
    }

    #[test]
    fn the_runtimes_mac_overrides_the_configurations() {
        let mac = |verb: &str, args: &str, keys: Value| {
            let config = Config::read(&request(verb, args, keys));
            config.map(|config| config.mac.map(|mac| mac.to_string()))
        };
        let fixed = json!({ "mac": MAC });
        let stable = json!({ "mac": "stable" });
        let named = "IgnoreUnknown=1;K8S_POD_NAME=web";
        assert_eq!(mac("ADD", "", json!({})), Ok(None));
        assert_eq!(mac("ADD", "", fixed.clone()), Ok(Some(MAC.to_owned())));
        let runtimes = "MAC=02:00:00:00:00:01";
        let expected = Ok(Some("02:00:00:00:00:01".to_owned()));
        assert_eq!(mac("ADD", runtimes, fixed), expected);
        assert_eq!(mac("ADD", runtimes, stable.clone()), expected);
        assert!(mac("ADD", named, stable.clone()).is_ok_and(|mac| mac.is_some()));
        assert!(mac("ADD", "", stable.clone()).is_err(), "it has no name");
        assert_eq!(mac("DEL", "", stable), Ok(None));
        assert!(mac("ADD", "MAC=01:00:5e:00:00:01", json!({})).is_err());
    }

    #[test]
    fn a_configuration_with_keys_of_the_plugin_is_told_from_one_without() {
        let has = |keys| has_own_keys(&request("ADD", "", keys));
        assert!(!has(json!({ "ipam": { "type": "static" } })));
        assert!(has(json!({ "VLAN": 5 })), "as Go reads keys");
    }
}
