//! From netavark's message to an attachment and the parameters of its lease, and from a lease to
//! netavark's answer.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use cni::{Attachment, CniResult, Env, Error, KnownArgs, Request};
use data_encoding::HEXLOWER;
use linknet::Mac;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::protocol::{ClientId, LeaseParams};
use crate::proxy_protocol::{Code, IpVersion, Lease, NetworkConfig, Status};

/// The network of every attachment that netavark asks for: its protocol names none.
const NETWORK: &str = "netavark";

/// How long a Setup may take. Podman holds a lock meanwhile, which all other containers wait for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The metric of netavark's own default routes.
const METRIC: u32 = 100;

/// The directories in which network namespaces have their names.
const NETNS_DIRECTORIES: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// The attachment of a request. It follows from the namespace and the interface's name, because a
/// Teardown says no more, and no record is needed to find it again.
///
/// # Errors
/// If there cannot be such an interface.
pub(super) fn attachment(config: &NetworkConfig) -> Result<Attachment, Status> {
    let ifname = &config.container_iface;
    if ifname.is_empty() {
        let text = "No such device: the request names no interface";
        return Err(Status::new(Code::Unknown, text));
    }
    Attachment::new(container(&config.ns_path), NETWORK, ifname).map_err(|error| {
        let text = format!("No such device: {error}");
        Status::new(Code::InvalidArgument, text)
    })
}

/// The container of an attachment: the name of its namespace, or a hash of the path of one that is
/// elsewhere.
fn container(netns: &str) -> String {
    let path = Path::new(netns);
    let is_usual = path.parent().is_some_and(|directory| {
        NETNS_DIRECTORIES
            .iter()
            .any(|usual| directory == Path::new(usual))
    });
    let name = path.file_name().and_then(|name| name.to_str());
    match name.filter(|name| is_usual && is_identifier(name)) {
        Some(name) => name.to_owned(),
        None => HEXLOWER.encode(&Sha256::digest(netns)[..16]),
    }
}

/// Whether a text can be a container's ID, or a network's name.
fn is_identifier(text: &str) -> bool {
    Attachment::new(text, NETWORK, "eth0").is_ok()
}

/// The identifier that netavark's proxy sends for a container; before netavark 1.14, which does not
/// say which container it is, the interface's MAC.
pub(super) fn client_id(container_id: &str) -> ClientId {
    match container_id {
        "" => ClientId::Mac,
        id => ClientId::Sent(dhcp4::client_id::text(id).into()),
    }
}

/// The MAC address in a request.
///
/// # Errors
/// If it is none.
pub(super) fn mac(config: &NetworkConfig) -> Result<Mac, Status> {
    let mac = &config.container_mac_addr;
    mac.parse().map_err(|error| {
        let text = format!("unable to parse mac address {mac}: {error}");
        Status::new(Code::InvalidArgument, text)
    })
}

/// Refuses a request for anything but an IPv4 address of a container in a namespace with a path.
///
/// # Errors
/// Why it is refused.
pub(super) fn verify(config: &NetworkConfig) -> Result<(), Status> {
    let invalid = |text| Err(Status::new(Code::InvalidArgument, text));
    match config.version {
        IpVersion::V4 if Path::new(&config.ns_path).is_absolute() => Ok(()),
        IpVersion::V4 => invalid("the request names no network namespace by an absolute path"),
        IpVersion::Other => invalid("only IPv4 addresses are leased: there is no DHCPv6"),
    }
}

/// The name by which a network's file is found: netavark's networks are told apart by the device on
/// the host that they are on.
pub(super) fn file_name(host_iface: &str) -> String {
    let name = format!("{NETWORK}.{host_iface}");
    match !host_iface.is_empty() && is_identifier(&name) {
        true => name,
        false => NETWORK.to_owned(),
    }
}

/// The parameters of the lease that a request is for, and whether their client identifier may be
/// replaced by netavark's own: nobody has configured one.
///
/// # Errors
/// If the network's file is invalid.
pub(super) fn lease_params(config: &NetworkConfig) -> Result<(LeaseParams, bool), Error> {
    let request = as_request(config)?;
    let keys = Config::read(&request)?;
    keys.warn_of_misspelt_keys();
    resolve(keys, &request)
}

fn resolve(keys: Config, request: &Request) -> Result<(LeaseParams, bool), Error> {
    let has_client_id = keys.has("clientId");
    let mut params = keys.lease_params(request)?;
    params.configure = true;
    params.timeout.get_or_insert(TIMEOUT);
    params.priority.get_or_insert(METRIC);
    let is_free = !has_client_id && params.client_id.is_own_of(request.attachment()?);
    Ok((params, is_free))
}

/// The request of a plugin for the same lease, so that the keys of the network's file mean the same.
fn as_request(config: &NetworkConfig) -> Result<Request, Error> {
    let container_id = match is_identifier(&config.container_id) {
        true => config.container_id.clone(),
        false => container(&config.ns_path),
    };
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", &container_id),
        ("CNI_NETNS", &config.ns_path),
        ("CNI_IFNAME", &config.container_iface),
    ];
    let env: Env = variables.into_iter().collect();
    let document = json!({
        "cniVersion": "1.1.0",
        "name": file_name(&config.host_iface),
        "type": NETWORK,
        "ipam": { "type": "dhcp" },
        "args": { "cni": { "K8S_POD_NAME": config.host_name } },
    });
    Request::parse(&env, document.to_string().as_bytes(), KnownArgs::Any)
}

/// netavark's answer: the lease, and what the keys of the network's file have made of it.
pub(super) fn answer(lease: &dhcp4::Lease, result: &CniResult, mac: String) -> Lease {
    let seconds = |time: Option<Duration>| {
        time.map_or(u32::MAX, |time| {
            u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
        })
    };
    let gateways = result.ips.iter().filter_map(|ip| ip.gateway);
    let dns = &result.dns;
    let domain = Some(dns.domain.clone()).filter(|domain| !domain.is_empty());
    Lease {
        t1: seconds(lease.t1),
        t2: seconds(lease.t2),
        lease_time: seconds(lease.lifetime),
        mtu: lease.options.mtu.unwrap_or_default().into(),
        domain_name: domain.or(dns.search.first().cloned()).unwrap_or_default(),
        mac_address: mac,
        siaddr: lease.server_id.to_string(),
        yiaddr: lease.address.to_string(),
        srv_id: lease.server_id.to_string(),
        subnet_mask: lease.net().netmask().to_string(),
        broadcast_addr: lease
            .options
            .broadcast
            .as_ref()
            .map(Ipv4Addr::to_string)
            .unwrap_or_default(),
        dns_servers: dns.nameservers.clone(),
        gateways: gateways.map(|gateway| gateway.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use cni::Dns;

    use super::*;
    use crate::protocol::ReleasePolicy;
    use crate::state::tests::record;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn config() -> NetworkConfig {
        NetworkConfig {
            host_iface: "eth1".into(),
            container_iface: "eth0".into(),
            container_mac_addr: "02:11:22:33:44:55".into(),
            host_name: "web".into(),
            ns_path: "/run/netns/netns-28e4".into(),
            container_id: ID.into(),
            ..NetworkConfig::default()
        }
    }

    #[test]
    fn setup_and_teardown_are_about_the_same_attachment() {
        let setup = config();
        let teardown = NetworkConfig {
            host_iface: String::new(),
            host_name: String::new(),
            container_id: String::new(),
            ..setup.clone()
        };
        let of = |config| attachment(config).expect("valid").to_string();
        assert_eq!(of(&setup), "netns-28e4/netavark/eth0");
        assert_eq!(of(&teardown), of(&setup));
    }

    #[test]
    fn the_identifier_is_netavarks_octet_for_octet() {
        assert_eq!(client_id("0ab"), ClientId::Sent(b"\x000ab"[..].into()));
        assert_eq!(client_id(""), ClientId::Mac);
    }

    #[test]
    fn a_namespace_elsewhere_or_with_an_odd_name_is_told_apart_by_its_path() {
        let of = |path: &str| container(path);
        assert_eq!(of("/run/netns/web"), of("/var/run/netns/web"));
        let odd = [
            "/run/netns/a b",
            "/run/netns/-a",
            "/tmp/web",
            "/proc/7/ns/net",
            "/proc/8/ns/net",
        ];
        let mut ids = odd.map(of);
        assert!(ids.iter().all(|id| is_identifier(id) && id.len() == 32));
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_file_is_named_after_the_device() {
        for (device, name) in [
            ("eth1", "netavark.eth1"),
            ("eth1.20", "netavark.eth1.20"),
            ("", "netavark"),
            ("../../lan", "netavark"),
            ("eth@1", "netavark"),
        ] {
            assert_eq!(file_name(device), name);
        }
    }

    #[test]
    fn a_request_without_a_namespace_or_for_ipv6_is_refused() {
        assert_eq!(verify(&config()), Ok(()));
        for bad in [
            NetworkConfig {
                ns_path: String::new(),
                ..config()
            },
            NetworkConfig {
                version: IpVersion::Other,
                ..config()
            },
        ] {
            let refused = verify(&bad).map_err(|status| status.code);
            assert_eq!(refused, Err(Code::InvalidArgument), "{bad:?}");
        }
    }

    #[test]
    fn the_defaults_are_netavarks_and_keys_of_the_file_override_them() {
        let request = as_request(&config()).expect("a request");
        let with = |file: &str| {
            let keys = Config::with_content(&request, Some(file.as_bytes())).expect("valid keys");
            resolve(keys, &request).expect("parameters")
        };
        let (params, is_free) = with("{}");
        assert!(is_free && params.configure);
        let own = format!("\0{ID}/netavark.eth1/eth0");
        assert_eq!(params.client_id, ClientId::Sent(own.as_bytes().into()));
        assert_eq!(
            (params.timeout, params.priority),
            (Some(TIMEOUT), Some(METRIC))
        );
        assert_eq!(params.release, ReleasePolicy::Always);
        assert_eq!(params.provide, [dhcp4::RawOption::new(12, *b"web")]);

        let (params, is_free) =
            with(r#"{ "clientId": "container", "timeout": 20, "priority": 0, "hostname": false }"#);
        assert!(!is_free, "somebody has chosen it");
        assert_eq!(params.client_id, ClientId::Sent(own.as_bytes().into()));
        assert_eq!(params.timeout, Some(Duration::from_secs(20)));
        assert_eq!((params.priority, params.provide), (Some(0), vec![]));
        assert!(!with(r#"{ "clientId": "mac" }"#).1);
    }

    #[test]
    fn a_container_that_says_nothing_of_itself_gets_a_lease_too() {
        let bare = NetworkConfig {
            host_name: String::new(),
            container_id: String::new(),
            ..config()
        };
        let request = as_request(&bare).expect("a request");
        let keys = Config::with_content(&request, None).expect("no keys");
        let (params, is_free) = resolve(keys, &request).expect("parameters");
        assert!(is_free && params.provide.is_empty());
    }

    #[test]
    fn the_answer_is_the_lease_as_the_keys_have_left_it() {
        let mut lease = record().lease;
        lease.lifetime = Some(Duration::from_secs(120));
        let mut result = CniResult::default();
        let bare = answer(&lease, &result, "02:11:22:33:44:55".into());
        assert_eq!(
            (&*bare.yiaddr, &*bare.subnet_mask),
            ("10.99.0.100", "255.255.255.0")
        );
        assert_eq!(bare.siaddr, lease.server_id.to_string());
        assert_eq!((bare.lease_time, bare.t1), (120, u32::MAX), "T1 is unknown");
        assert!(bare.gateways.is_empty() && bare.dns_servers.is_empty());
        assert!(bare.domain_name.is_empty());

        result.dns = Dns {
            nameservers: vec!["10.99.0.2".into()],
            search: vec!["a.example".into(), "b.example".into()],
            ..Dns::default()
        };
        let with = |result: &CniResult| answer(&lease, result, String::new());
        assert_eq!(with(&result).domain_name, "a.example");
        assert_eq!(with(&result).dns_servers, ["10.99.0.2"]);
        result.dns.domain = "lan.example".into();
        assert_eq!(with(&result).domain_name, "lan.example");
    }
}
