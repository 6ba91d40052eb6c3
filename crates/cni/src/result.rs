//! The result of ADD, in the shape of 1.1.0, and its JSON in every version.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Version};

pub(crate) use read::{dns, result as read};

mod read;
mod write;

use write::Fields;

/// What ADD made, and what `prevResult` says was made (spec §5 "Success").
///
/// Fields that no version of the specification knows are kept in `extra`, here and in every part,
/// and are written again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    /// The interfaces that were created. An IPAM plugin has none.
    pub interfaces: Vec<Interface>,
    /// The addresses that were assigned.
    pub ips: Vec<IpConfig>,
    /// The routes that were made.
    pub routes: Vec<Route>,
    /// What belongs into the container's resolver configuration.
    pub dns: Dns,
    /// Unknown fields.
    pub extra: Map<String, Value>,
}

/// An interface that a plugin created. Strings that are empty are not written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Its name where it is now.
    pub name: String,
    /// Its hardware address, where that means something.
    pub mac: String,
    /// Its MTU (from 1.1.0).
    pub mtu: Option<u32>,
    /// The path of its network namespace; empty for one on the host.
    pub sandbox: String,
    /// The path of a socket for it (from 1.1.0).
    pub socket_path: String,
    /// Its PCI device, such as `0000:00:1f.6` (from 1.1.0).
    pub pci_id: String,
    /// Unknown fields.
    pub extra: Map<String, Value>,
}

/// An address that was assigned.
#[derive(Clone, Debug, PartialEq)]
pub struct IpConfig {
    /// Index into [`CniResult::interfaces`]. An IPAM plugin leaves it out.
    pub interface: Option<usize>,
    /// The address with its prefix; the host's bits are kept.
    pub address: IpNet,
    /// The subnet's default gateway.
    pub gateway: Option<IpAddr>,
    /// Unknown fields.
    pub extra: Map<String, Value>,
}

/// A route that was made, or that a configuration asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// The next hop. `None` leaves it to the receiver, who may take the address's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Path MTU (from 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The maximum segment size to announce (from 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The metric; lower is preferred (from 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table (from 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope by its number: 0 global, 253 link, 254 host (from 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
    /// Unknown fields.
    #[serde(skip)]
    pub extra: Map<String, Value>,
}

/// Resolver configuration, as in results and in network configurations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// Addresses of name servers, in order of preference.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: String,
    /// Search domains, in order of preference.
    pub search: Vec<String>,
    /// Options for the resolver.
    pub options: Vec<String>,
    /// Unknown fields.
    pub extra: Map<String, Value>,
}

impl CniResult {
    /// Reads a result in the version that it names itself. When it names none, or one that does not
    /// exist, it is taken for one of `default` (a `prevResult` may lack its own version).
    ///
    /// Fields of later versions are understood in earlier ones too: the Go plugins write them
    /// there.
    ///
    /// # Errors
    /// [`crate::code::DECODING_FAILURE`], naming the field by its path.
    pub fn from_value(value: Value, default: Version) -> Result<CniResult, Error> {
        read(value, default).map_err(|invalid| {
            Error::new(
                crate::code::DECODING_FAILURE,
                format!("invalid CNI result: {invalid}"),
            )
        })
    }

    /// Writes the result as a document of `version`, without any field that this version does not
    /// have.
    ///
    /// # Errors
    /// [`crate::code::INCOMPATIBLE_VERSION`] when it has no address and the version demands one
    /// ([`Version::requires_ip`]). Of several addresses 0.1.0 and 0.2.0 show the first of each
    /// family, as libcni does.
    pub fn to_value(&self, version: Version) -> Result<Value, Error> {
        write::result(self, version, Fields::Of(version))
    }

    /// Writes the result for a plugin that delegated to this one. The document is of `version`, but
    /// keeps the fields of later versions, as the Go plugins write and read them: a route's metric
    /// must reach whoever makes the route, even where it cannot be told to the runtime.
    ///
    /// # Errors
    /// As [`CniResult::to_value`].
    pub fn to_value_for_caller(&self, version: Version) -> Result<Value, Error> {
        write::result(self, version, Fields::All)
    }
}

impl IpConfig {
    /// An address, and nothing else said about it.
    pub fn new(address: IpNet) -> IpConfig {
        IpConfig {
            interface: None,
            address,
            gateway: None,
            extra: Map::new(),
        }
    }
}

impl Route {
    /// A route, and nothing else said about it.
    pub fn new(dst: IpNet) -> Route {
        Route {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
            extra: Map::new(),
        }
    }
}

impl Dns {
    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

#[cfg(test)]
mod tests;
