//! Keys of the network configuration that both plugins read.

use cni::Request;
use serde::Deserialize;

use crate::guard::Guard;
use crate::host_access::HostAccessKey;
use crate::plan::source_routing::SourceRouting;

/// Keys at the top of the configuration whose effect must follow the lease: the macvlan plugin acts
/// on them at ADD, the daemon when a renewal changes the address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SharedKeys {
    /// `hostAccess`: the host has a route to the container.
    pub host_access: HostAccessKey,
    /// `sourceRouting`: the interface has a routing table of its own.
    pub source_routing: SourceRouting,
    /// `guard`: the container speaks only as itself.
    pub guard: Guard,
}

impl SharedKeys {
    /// Reads the keys for callers that need no validation, because ADD does it: a value of the
    /// wrong type counts as the default.
    pub fn read(request: &Request) -> SharedKeys {
        cni::go::decode(&request.config.raw).unwrap_or_default()
    }
}
