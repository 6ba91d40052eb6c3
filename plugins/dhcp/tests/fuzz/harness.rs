// What must hold for any octets on the daemon's socket, in a lease's file, and on the plugin's
// stdin, in a network's file, in libcni's cache, and in a message of netavark's. Included by the fuzz
// targets `dhcp_protocol`, `dhcp_state`, `dhcp_config`, `dhcp_network_file`, `dhcp_cache` and
// `netavark_message`, and by the test that replays their corpora.

#[path = "../../../../fuzz/request.rs"]
#[allow(dead_code, reason = "each fuzz target calls one of the functions")]
mod request;

#[path = "../../../../tests/e2e/podman_proxy/messages.rs"]
#[allow(dead_code, reason = "only two of the messages are compared")]
mod messages;

use std::path::Path;
use std::time::Duration;

use cni::{Attachment, KnownArgs};
use dhcp4::{Client, Instant};
use leasehold_dhcp::protocol::{LeaseParams, Reply, Request};
use leasehold_dhcp::proxy_protocol::{self, IpVersion, Malformed};
use leasehold_dhcp::state::{Record, StateDir};
use leasehold_dhcp::{is_adoptable, lease_params};
use linknet::Mac;
use prost::Message;

/// A request or a reply: if it can be read, it can be written and read again.
///
/// # Panics
/// If it cannot, or if an attachment's name leads out of the state directory.
#[allow(dead_code, reason = "each fuzz target calls one of the functions")]
pub(crate) fn protocol(input: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(input) {
        let written = serde_json::to_vec(&request).expect("a request that was read is written");
        let again: Request = serde_json::from_slice(&written).expect("and read again");
        assert_eq!(
            serde_json::to_vec(&again).expect("and written again"),
            written
        );
        if let Some(attachment) = request.verb.attachment() {
            has_a_file_in_its_directory(attachment);
        }
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(input) {
        let written = serde_json::to_vec(&reply).expect("a reply that was read is written");
        serde_json::from_slice::<Reply>(&written).expect("and read again");
    }
}

/// A lease's file: if it can be read, it is the same when it is written, and a client resumes the
/// lease or starts over, whatever its times are.
///
/// # Panics
/// If that does not hold.
#[allow(dead_code, reason = "each fuzz target calls one of the functions")]
pub(crate) fn state(input: &[u8]) {
    let Ok(record) = Record::parse(input) else {
        return;
    };
    has_a_file_in_its_directory(&record.attachment);
    let written = serde_json::to_vec(&record).expect("a record that was read is written");
    assert_eq!(Record::parse(&written).expect("and read again"), record);
    let _ = record.has_expired();
    let Record {
        attachment,
        interface,
        params,
        lease,
        ..
    } = record;
    let now = Instant::from_boot(Duration::from_secs(3600));
    let config = params.client_config(interface.mac);
    let _ = Record::new(attachment, interface, params, lease.clone(), None);
    let _ = (lease.routes(), lease.net(), lease.remaining(now));
    let mut client = Client::resume(config, 1, lease, now);
    for _ in 0..4 {
        while client.poll_transmit().is_some() || client.poll_event().is_some() {}
        let Some(due) = client.poll_timeout() else {
            break;
        };
        client.handle_timeout(due);
    }
    client.release(now);
}

/// CNI_ARGS on the first line, and a network configuration: the lease that the plugin asks for can be
/// written and read again, and a client asks for it.
///
/// # Panics
/// If that does not hold, or if an error does not say what is invalid.
#[allow(dead_code, reason = "each fuzz target calls one of the functions")]
pub(crate) fn config(input: &[u8]) {
    let Some(request) = request::read(input, "ADD", KnownArgs::Any) else {
        return;
    };
    match lease_params(&request, None) {
        Ok(params) => can_be_asked_for(&params),
        Err(error) => request::assert_says_what_is_invalid(&error),
    }
}

/// A network's file: it is refused with an error that names it, or its keys count beneath those of
/// the caller.
///
/// # Panics
/// If that does not hold.
#[allow(dead_code, reason = "each fuzz target calls one of the functions")]
pub(crate) fn network_file(input: &[u8]) {
    const CALLER: &[u8] = br#"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;X=y
{
    "cniVersion": "1.0.0", "name": "lan", "type": "macvlan",
    "ipam": { "type": "dhcp", "clientId": "container", "priority": 7, "hostname": null }
}"#;
    let request = request::read(CALLER, "ADD", KnownArgs::Any).expect("a valid request");
    let of_caller = lease_params(&request, None).expect("valid keys");
    match lease_params(&request, Some(input)) {
        Ok(params) => {
            can_be_asked_for(&params);
            let kept = [&of_caller, &params].map(|params| {
                let params = serde_json::to_value(params).expect("parameters are written");
                ["clientId", "priority"].map(|key| params[key].clone())
            });
            assert_eq!(kept[0], kept[1]);
        }
        Err(error) => {
            request::assert_says_what_is_invalid(&error);
            assert!(error.msg.contains("network.json: "), "{error}");
        }
    }
}

/// The daemon gets the parameters as the plugin has them, and its client sends them.
fn can_be_asked_for(params: &LeaseParams) {
    let written = serde_json::to_vec(params).expect("parameters are written");
    let read: LeaseParams = serde_json::from_slice(&written).expect("and read again");
    assert_eq!(read, *params);
    let now = Instant::from_boot(Duration::from_secs(3600));
    let mut client = Client::new(params.client_config(Mac([2, 0, 0, 0, 0, 7])), 1, now);
    assert!(client.poll_transmit().is_some(), "a DISCOVER");
}

/// An attachment's file is in its network's directory, whatever its names are.
fn has_a_file_in_its_directory(attachment: &Attachment) {
    let directory = Path::new("/state");
    let file = StateDir::at(directory.to_owned()).file(attachment);
    let within = file.strip_prefix(directory).expect("below the directory");
    assert_eq!(within.components().count(), 2, "{}", file.display());
    assert!(
        !file.components().any(|part| part.as_os_str() == ".."),
        "{}",
        file.display()
    );
    assert!(within.iter().all(|name| name.len() <= 255));
    assert!(
        within
            .extension()
            .is_some_and(|kind| kind == "json" || kind == "lease")
    );
}

/// A file of libcni's cache: a call is read from it, or an error says why not.
///
/// # Panics
/// If the error says nothing.
#[allow(dead_code, reason = "each fuzz target calls one of the functions")]
pub(crate) fn cache(input: &[u8]) {
    if let Err(problem) = is_adoptable(input) {
        assert!(!problem.is_empty());
    }
}

/// A message of netavark's: another implementation reads the same from it, or refuses it too; and it
/// reads from an answer what was written to it.
///
/// # Panics
/// If that does not hold.
#[allow(dead_code, reason = "each fuzz target calls one of the functions")]
pub(crate) fn netavark_message(input: &[u8]) {
    let ours = proxy_protocol::NetworkConfig::decode(input);
    let theirs = messages::NetworkConfig::decode(input);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let texts = |texts: [&String; 6]| texts.map(String::clone);
            assert_eq!(
                texts([
                    &ours.host_iface,
                    &ours.container_iface,
                    &ours.container_mac_addr,
                    &ours.host_name,
                    &ours.ns_path,
                    &ours.container_id,
                ]),
                texts([
                    &theirs.host_iface,
                    &theirs.container_iface,
                    &theirs.container_mac_addr,
                    &theirs.host_name,
                    &theirs.ns_path,
                    &theirs.container_id,
                ])
            );
            assert_eq!(ours.version == IpVersion::V4, theirs.version == 0);
        }
        // A group, which proto3 does not have, and prost skips.
        (Err(Malformed::Key), Ok(_)) | (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{ours:?} {theirs:?}"),
    }
    if let Ok(lease) = messages::Lease::decode(input) {
        let ours = proxy_protocol::Lease {
            t1: lease.t1,
            t2: lease.t2,
            lease_time: lease.lease_time,
            mtu: lease.mtu,
            domain_name: lease.domain_name.clone(),
            mac_address: lease.mac_address.clone(),
            siaddr: lease.siaddr.clone(),
            yiaddr: lease.yiaddr.clone(),
            srv_id: lease.srv_id.clone(),
            subnet_mask: lease.subnet_mask.clone(),
            broadcast_addr: lease.broadcast_addr.clone(),
            dns_servers: lease.dns_servers.clone(),
            gateways: lease.gateways.clone(),
        };
        assert_eq!(messages::Lease::decode(&*ours.encode()), Ok(lease));
    }
}
