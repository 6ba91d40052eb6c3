//! MAC addresses of the configuration: `mac`, `sourceMacs`, and what the runtime asks for.

use std::str::FromStr;

use attachment::{stable_mac, stable_name};
use cni::{Error, Request, Verb, code};
use linknet::Mac;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::invalid;

/// `mac`: the MAC of the interface.
#[derive(Clone, Copy, Default)]
pub(super) enum MacKey {
    /// The kernel chooses one at random.
    #[default]
    Random,
    /// This one.
    Fixed(Mac),
    /// One that a recreated container keeps.
    Stable,
}

impl MacKey {
    /// # Errors
    /// 7, when ADD needs the container's name and the runtime does not give it.
    pub(super) fn resolve(self, request: &Request) -> Result<Option<Mac>, Error> {
        match self {
            MacKey::Random => Ok(None),
            MacKey::Fixed(mac) => Ok(Some(mac)),
            MacKey::Stable => match stable_name(request) {
                Some(name) => Ok(Some(stable_mac(&name))),
                None if request.verb != Verb::Add => Ok(None),
                None => Err(invalid(
                    "mac: \"stable\" is derived from the container's name, but the runtime passes \
                     none (K8S_POD_NAME in CNI_ARGS)",
                )
                .details("Podman and Kubernetes do; elsewhere configure an address")),
            },
        }
    }
}

/// The MAC that the runtime asks for.
///
/// # Errors
/// 7 if it is not one that an interface can have.
pub(super) fn requested(request: &Request) -> Result<Option<Mac>, Error> {
    let parsed = request.requested_mac()?.map(parse).transpose();
    parsed.map_err(|problem| {
        let what = format!("invalid MAC address requested by the runtime: {problem}");
        Error::new(code::INVALID_NETWORK_CONFIG, what)
    })
}

pub(super) fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacKey, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(MacKey::Random),
        "stable" => Ok(MacKey::Stable),
        text => parse(text).map(MacKey::Fixed).map_err(de::Error::custom),
    }
}

pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Mac>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let macs = texts.iter().map(|text| parse(text));
    macs.collect::<Result<_, _>>().map_err(de::Error::custom)
}

/// A MAC that an interface can have: neither multicast nor all zeroes.
fn parse(text: &str) -> Result<Mac, String> {
    let mac = Mac::from_str(text).map_err(|error| error.to_string())?;
    if mac.is_multicast() {
        return Err(format!(
            "{mac} is a multicast address (the lowest bit of its first octet is set), which no \
             interface can have; an address of your own choice begins with 02, 06, 0a or 0e"
        ));
    }
    if mac.is_zero() {
        return Err(format!(
            "{mac} is not an address that an interface can have"
        ));
    }
    Ok(mac)
}
