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

#[cfg(test)]
mod tests {
    use cni::{Env, KnownArgs};
    use serde_json::{Value, json};

    use super::*;

    fn read(keys: Value) -> SharedKeys {
        let mut config = json!({ "cniVersion": "1.1.0", "name": "lan", "type": "macvlan" });
        let entries = config.as_object_mut().unwrap();
        entries.extend(keys.as_object().unwrap().clone());
        let env: Env = [("CNI_COMMAND", "STATUS")].into_iter().collect();
        let config = config.to_string();
        let request = Request::parse(&env, config.as_bytes(), KnownArgs::Any).unwrap();
        SharedKeys::read(&request)
    }

    #[test]
    fn the_keys_that_both_plugins_know_are_read_from_the_configuration() {
        let keys = read(json!({ "hostAccess": true, "sourceRouting": 7, "guard": true }));
        assert_eq!(keys.host_access, HostAccessKey::OnLink);
        assert_eq!(keys.source_routing, SourceRouting::Table(7));
        assert_eq!(keys.guard, Guard::On);
        assert!(!keys.host_access.is_off() && !keys.source_routing.is_off());
        assert!(!keys.guard.is_off());
        let keys = read(json!({ "hostAccess": "yes" }));
        assert!(keys.host_access.is_off() && keys.source_routing.is_off() && keys.guard.is_off());
    }
}
