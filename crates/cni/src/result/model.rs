//! The result of ADD in the shape of version 1.1.0.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What ADD created, and what `prevResult` says an earlier ADD created (spec §5, "Success").
///
/// The result and each of its parts keep fields that no version of the specification defines in
/// `extra`, and write them again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    /// The interfaces that were created. An IPAM plugin creates none.
    pub interfaces: Vec<Interface>,
    /// The addresses that were assigned.
    pub ips: Vec<IpConfig>,
    /// The routes that were added.
    pub routes: Vec<Route>,
    /// What the container's resolver configuration should say.
    pub dns: Dns,
    /// Fields that the specification does not define.
    pub extra: Map<String, Value>,
}

/// An interface that a plugin created. Empty strings are not written, except for the name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Its name in the namespace that it is in.
    pub name: String,
    /// Its hardware address; empty if it has none.
    pub mac: String,
    /// Its MTU in bytes (since 1.1.0).
    pub mtu: Option<u32>,
    /// The path of its network namespace; empty for an interface on the host.
    pub sandbox: String,
    /// The path of the socket that belongs to it (since 1.1.0).
    pub socket_path: String,
    /// Its PCI device, such as `0000:00:1f.6` (since 1.1.0).
    pub pci_id: String,
    /// Fields that the specification does not define.
    pub extra: Map<String, Value>,
}

/// An address that was assigned.
#[derive(Clone, Debug, PartialEq)]
pub struct IpConfig {
    /// The index in [`CniResult::interfaces`] of the interface that has it. An IPAM plugin leaves
    /// it out.
    pub interface: Option<usize>,
    /// The address with the length of its prefix, such as `10.99.0.7/24`.
    pub address: IpNet,
    /// The default gateway of its subnet.
    pub gateway: Option<IpAddr>,
    /// Fields that the specification does not define.
    pub extra: Map<String, Value>,
}

/// A route that was added, or that a configuration asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub dst: IpNet,
    /// The next hop. If it is `None`, the plugin that adds the route chooses one, usually the
    /// gateway of an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The path MTU in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The maximum segment size to announce to the destination, in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The metric: of several routes to the destination, the lowest is used (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The number of the routing table (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope's number: 0 is global, 253 link, 254 host (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
    /// Fields that the specification does not define.
    #[serde(skip)]
    pub extra: Map<String, Value>,
}

/// Resolver configuration, as in results and in network configurations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// The addresses of name servers, in order of preference.
    pub nameservers: Vec<String>,
    /// The domain for short host names.
    pub domain: String,
    /// Search domains, in order of preference.
    pub search: Vec<String>,
    /// Options for the resolver, such as `ndots:2`.
    pub options: Vec<String>,
    /// Fields that the specification does not define.
    pub extra: Map<String, Value>,
}

impl IpConfig {
    /// An address without a gateway or an interface.
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
    /// A route to `dst` with none of the other fields set.
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
    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}
