//! Identities that a container keeps when it is recreated.

use cni::Request;
use linknet::Mac;
use sha2::{Digest, Sha256};

/// A name for the request's attachment that outlives the container:
/// `namespace/pod/network/interface`, or `container/network/interface` where the runtime names no
/// namespace. `None` if the runtime does not name the container, or the verb is not about an
/// attachment.
///
/// The MAC address and the DHCP client identifier of a container that is recreated are derived from
/// this. It is as unique as its parts: two machines on one LAN that run containers of the same name
/// must use different network names.
pub fn stable_name(request: &Request) -> Option<String> {
    let attachment = request.attachment.as_ref()?;
    let container = [
        request.container_name()?,
        attachment.network(),
        attachment.ifname(),
    ];
    let parts: Vec<&str> = request
        .pod_namespace()
        .into_iter()
        .chain(container)
        .collect();
    Some(parts.join("/"))
}

/// The MAC address of an attachment with this [`stable_name`]. It must never change between
/// versions: reservations in a router depend on it.
pub fn stable_mac(name: &str) -> Mac {
    let digest: [u8; 32] = Sha256::digest(format!("leasehold mac {name}")).into();
    let [a, b, c, d, e, f, ..] = digest;
    Mac::local([a, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use cni::{Env, KnownArgs};

    use super::*;

    fn name(args: &str) -> Option<String> {
        let variables = [
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
        ];
        let env: Env = variables.into_iter().collect();
        let config = br#"{ "cniVersion": "1.0.0", "name": "lan", "type": "macvlan" }"#;
        stable_name(&Request::parse(&env, config, KnownArgs::Any).unwrap())
    }

    #[test]
    fn a_recreated_container_keeps_its_name() {
        assert_eq!(
            name("IgnoreUnknown=1;K8S_POD_NAME=web").as_deref(),
            Some("web/lan/eth0")
        );
        assert_eq!(
            name("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0").as_deref(),
            Some("shop/web-0/lan/eth0")
        );
        for nameless in ["", "K8S_POD_NAME=", "K8S_POD_NAMESPACE=shop"] {
            assert_eq!(name(nameless), None, "{nameless}");
        }
    }

    #[test]
    fn a_stable_mac_never_changes_and_is_a_local_unicast_address() {
        // Reservations in routers are made for it.
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
