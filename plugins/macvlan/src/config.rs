//! The plugin's own keys of the network configuration: those of the Go plugin, and a few more.

use std::str::FromStr;

use cni::{Error, Request, SourceRouting, Verb, code};
use ipnet::IpNet;
use linknet::{Mac, MacvlanMode};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use sha2::{Digest, Sha256};

use crate::keep_routes::{self, Prefix};
use crate::parent::Selector;
use crate::{host_access, source_routing};

/// What to make, as the configuration and the runtime say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// The parent device; `None`: that of the default route.
    pub(crate) master: Option<Selector>,
    /// Sit on this VLAN of the parent rather than on the parent itself.
    pub(crate) vlan: Option<u16>,
    /// Look for the parent in the container's netns rather than the host's.
    pub(crate) link_in_container: bool,
    /// How the macvlans of one parent treat each other.
    pub(crate) mode: MacvlanMode,
    /// Of the new interface, in octets; `None`: the parent's.
    pub(crate) mtu: Option<u32>,
    /// Of the new interface; `None`: the kernel chooses one at random.
    pub(crate) mac: Option<Mac>,
    /// Length of the parent's queue of broadcasts; `None`: the kernel's default.
    pub(crate) bc_queue_len: Option<u32>,
    /// From how many receivers on broadcasts go through that queue (`-1`: never); `None`: the
    /// kernel's default.
    pub(crate) bc_cutoff: Option<i32>,
    /// Mode passthru without making the parent promiscuous.
    pub(crate) nopromisc: bool,
    /// Mode source: the senders to receive from.
    pub(crate) sources: Vec<Mac>,
    /// Tell the neighbours where the addresses are.
    pub(crate) announce: bool,
    /// Let the host reach the container.
    pub(crate) host_access: bool,
    /// A table of its own for what leaves from its addresses.
    pub(crate) source_routing: SourceRouting,
    /// Destinations that stay on the way that they had before.
    pub(crate) keep_routes: Vec<IpNet>,
}

/// The keys as they stand in the configuration.
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
    #[serde(deserialize_with = "mac")]
    mac: MacKey,
    bcqueuelen: Option<u32>,
    bclim: Option<i32>,
    nopromisc: bool,
    #[serde(deserialize_with = "macs")]
    source_macs: Vec<Mac>,
    host_access: bool,
    source_routing: SourceRouting,
    keep_routes: Vec<Prefix>,
}

/// `mac`: which one the interface gets.
#[derive(Clone, Copy, Default)]
enum MacKey {
    /// The kernel chooses one at random.
    #[default]
    Random,
    /// This one.
    Fixed(Mac),
    /// One that the container keeps when it is made anew.
    Stable,
}

/// The one key of dhcp's that is about what is done here.
#[derive(Deserialize)]
#[serde(default)]
struct DhcpKeys {
    announce: bool,
}

impl Default for DhcpKeys {
    fn default() -> DhcpKeys {
        DhcpKeys { announce: true }
    }
}

/// The names of the keys.
pub(crate) fn keys() -> &'static [&'static str] {
    cni::go::field_names::<Keys>()
}

impl Config {
    /// Reads the configuration; the runtime's MAC goes before the configuration's.
    ///
    /// # Errors
    /// 7, naming the field; 4 for a bad `MAC` in CNI_ARGS.
    pub(crate) fn read(request: &Request) -> Result<Config, Error> {
        let keys: Keys = cni::go::decode(&request.config.raw)?;
        let requested = request.requested_mac()?.map(|text| {
            parse_mac(text).map_err(|problem| {
                Error::new(
                    code::INVALID_NETWORK_CONFIG,
                    format!("invalid MAC address asked for by the runtime: {problem}"),
                )
            })
        });
        let config = Config {
            master: keys.master.filter(|master| !master.is_empty()),
            vlan: keys.vlan,
            link_in_container: keys.link_in_container,
            mode: keys.mode,
            mtu: keys.mtu,
            mac: match requested.transpose()? {
                Some(mac) => Some(mac),
                None => keys.mac.resolve(request)?,
            },
            bc_queue_len: keys.bcqueuelen.filter(|length| *length > 0),
            bc_cutoff: keys.bclim,
            nopromisc: keys.nopromisc,
            sources: keys.source_macs,
            announce: announce(request)?,
            host_access: keys.host_access,
            source_routing: keys.source_routing,
            keep_routes: keys.keep_routes.into_iter().map(IpNet::from).collect(),
        };
        config.consistent()?;
        host_access::fits(&config, request)?;
        source_routing::fits(&config, request)?;
        keep_routes::fits(&config, request)?;
        Ok(config)
    }

    /// Refuses keys that mean nothing in the mode chosen: the kernel would ignore them silently.
    fn consistent(&self) -> Result<(), Error> {
        let refuse = |key: &str, mode: &str| {
            Error::new(
                code::INVALID_NETWORK_CONFIG,
                format!(
                    "invalid network configuration: {key} is for mode {mode}, and the mode is {}",
                    self.mode
                ),
            )
        };
        if !self.sources.is_empty() && self.mode != MacvlanMode::Source {
            return Err(refuse("sourceMacs", "source"));
        }
        if self.nopromisc && self.mode != MacvlanMode::Passthru {
            return Err(refuse("nopromisc", "passthru"));
        }
        Ok(())
    }
}

impl MacKey {
    /// # Errors
    /// 7, when ADD needs the container's name and the runtime tells none.
    fn resolve(self, request: &Request) -> Result<Option<Mac>, Error> {
        match self {
            MacKey::Random => Ok(None),
            MacKey::Fixed(mac) => Ok(Some(mac)),
            MacKey::Stable => match request.stable_name() {
                Some(name) => Ok(Some(stable_mac(&name))),
                None if request.verb != Verb::Add => Ok(None),
                None => Err(Error::new(
                    code::INVALID_NETWORK_CONFIG,
                    "invalid network configuration: mac: \"stable\" is made of the container's name, and the runtime \
                     tells none (K8S_POD_NAME in CNI_ARGS)",
                )
                .details("Podman and Kubernetes do; elsewhere give the address itself")),
            },
        }
    }
}

/// The MAC of an attachment that has this name, for ever.
fn stable_mac(name: &str) -> Mac {
    let digest: [u8; 32] = Sha256::digest(format!("leasehold mac {name}")).into();
    let [a, b, c, d, e, f, ..] = digest;
    Mac::local([a, b, c, d, e, f])
}

/// Whether dhcp is to have its addresses announced, which at ADD is done here.
fn announce(request: &Request) -> Result<bool, Error> {
    match &request.config.ipam {
        Some(ipam) if request.config.ipam_type() == Some("dhcp") => {
            Ok(cni::go::decode_under::<DhcpKeys>("ipam", ipam)?.announce)
        }
        _ => Ok(true),
    }
}

/// A MAC that an interface can have: neither a group's nor all zeroes.
fn parse_mac(text: &str) -> Result<Mac, String> {
    let mac = Mac::from_str(text).map_err(|error| error.to_string())?;
    if mac.is_multicast() {
        return Err(format!(
            "{mac} is a multicast address (the lowest bit of its first octet is set), which no interface can have; \
             an address of your own choice begins with 02, 06, 0a or 0e"
        ));
    }
    if mac.is_zero() {
        return Err(format!("{mac} is no address of an interface"));
    }
    Ok(mac)
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacvlanMode, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(MacvlanMode::Bridge),
        name => name.parse().map_err(de::Error::custom),
    }
}

/// As with the Go plugin `bridge`, 0 is none.
fn vlan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match i64::deserialize(deserializer)? {
        0 => Ok(None),
        value => match u16::try_from(value) {
            Ok(id) if id <= linknet::Vlan::MAX_ID => Ok(Some(id)),
            _ => Err(de::Error::custom(format_args!(
                "{value} is no VLAN identifier (1 to {})",
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
            Err(_) => Err(de::Error::custom(format_args!("{value} is no MTU"))),
        },
    }
}

fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacKey, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(MacKey::Random),
        "stable" => Ok(MacKey::Stable),
        text => parse_mac(text)
            .map(MacKey::Fixed)
            .map_err(de::Error::custom),
    }
}

fn macs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Mac>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| parse_mac(text).map_err(de::Error::custom))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stable_mac_is_the_same_for_ever_and_such_as_an_interface_can_have() {
        // Reservations in routers are made for it: this must never change.
        assert_eq!(
            stable_mac("shop/web-0/lan/eth0").to_string(),
            "a6:b9:79:49:73:0e"
        );
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let mac = stable_mac(name);
            assert!(!mac.is_multicast() && mac.octets()[0] & 0b10 != 0, "{mac}");
        }
    }
}
