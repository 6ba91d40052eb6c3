//! The parameters of a lease.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use attachment::host_access::HostAccessKey;
use attachment::{Guard, SourceRouting};
use cni::{Attachment, Route};
use dhcp4::RawOption;
use linknet::Mac;
use serde::{Deserialize, Serialize};

use super::release::ReleasePolicy;

/// The length at which the Go plugin cuts its identifier, in octets.
const MAX_CONTAINER_LEN: usize = 254;

/// The parameters of a lease: what the configuration, resolved for one attachment, tells the DHCP
/// client. The daemon keeps them as long as the lease, and knows nothing of configuration files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseParams {
    /// How the server identifies the client.
    pub(crate) client_id: ClientId,
    /// Options that are sent as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) provide: Vec<RawOption>,
    /// An address to request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requested_address: Option<Ipv4Addr>,
    /// The user that requested the lease as a member of the group that `-group` admits. The daemon
    /// sets it, whatever the request says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) member: Option<u32>,
    /// Whether the daemon configures the interface at ADD too, because its caller does not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) configure: bool,
    /// The other parameters.
    #[serde(flatten)]
    pub(crate) settings: Arc<Settings>,
}

/// The parameters that many leases of a network have in common, and keep in memory once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The codes of the parameter request list (option 55), in order of preference.
    pub(crate) request: Vec<u8>,
    /// Which servers the client listens to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) servers: Servers,
    /// Ask for replies by broadcast from the first message on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) broadcast: bool,
    /// Accept an address in one round trip from a server that offers that (RFC 4039).
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) rapid_commit: bool,
    /// How to find out whether another host uses the address.
    #[serde(default)]
    pub(crate) conflict_detection: ConflictDetection,
    /// What happens when the address that ADD returned is lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) on_change: OnChange,
    /// Tell the neighbours when the address changes.
    pub(crate) announce: bool,
    /// Whether the lease is released when the container is detached.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) release: ReleasePolicy,
    /// How long an ADD may take; if absent, the daemon's own limit applies.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Duration>,
    /// Parts of the server's answer that are not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) suppress: Vec<Suppress>,
    /// Routes in addition to the server's. A route to the same destination replaces the server's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Route>,
    /// The metric of routes that have none of their own, in the result and in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// Whether packets from the address are looked up in a table of their own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) source_routing: SourceRouting,
    /// Whether the host has a route to the address, which must follow changes of the address, and on
    /// which prefixes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) host_access: HostAccessKey,
    /// What the container may send, and what may reach it: rules that must follow changes of the
    /// address.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) guard: Guard,
}

impl Deref for LeaseParams {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl DerefMut for LeaseParams {
    fn deref_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl LeaseParams {
    /// The settings of a DHCP client with these parameters, for the interface with this MAC.
    pub fn client_config(&self, mac: Mac) -> dhcp4::Config {
        let mut retry = dhcp4::Retry::default();
        if self.conflict_detection != ConflictDetection::Rfc5227 {
            // RFC 2131 §3.1.5 demands ten seconds, to spare the server. Here a container waits to
            // start, and the pauses grow.
            retry.after_decline = Duration::from_secs(1);
        }
        dhcp4::Config {
            retry,
            client_id: self.client_id.body(mac),
            request: self.request.clone(),
            options: self.provide.clone(),
            requested_address: self.requested_address,
            broadcast: self.broadcast,
            rapid_commit: self.rapid_commit,
            // Without conflict detection too: another container of the daemon may have the address.
            probe_before_bind: true,
            servers: dhcp4::Servers {
                allow: self.servers.allow.clone(),
                deny: self.servers.deny.clone(),
            },
            ..dhcp4::Config::new(mac.octets())
        }
    }
}

/// How a server identifies the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientId {
    /// By option 61 with this body.
    Sent(#[serde(with = "dhcp4::hex")] Arc<[u8]>),
    /// By option 61 with the interface's MAC.
    Mac,
    /// By the MAC that every message carries, without option 61.
    None,
}

impl ClientId {
    /// The body of option 61 for the interface with this MAC.
    pub(crate) fn body(&self, mac: Mac) -> Option<Arc<[u8]>> {
        match self {
            ClientId::Sent(body) => Some(Arc::clone(body)),
            ClientId::Mac => Some(dhcp4::client_id::mac(mac.octets()).into()),
            ClientId::None => None,
        }
    }

    /// The body of an attachment's own identifier, which is the Go plugin's, octet for octet, so
    /// that servers recognise the client: `0x00`, then `containerID/netName/ifName`, cut at 254
    /// octets in all.
    pub(crate) fn body_of(attachment: &Attachment) -> Vec<u8> {
        // The parts of a displayed attachment come in this order, between slashes.
        let mut id = dhcp4::client_id::text(&attachment.to_string());
        id.truncate(MAX_CONTAINER_LEN);
        id
    }

    /// Whether this is the attachment's own identifier, which no other container has.
    pub(crate) fn is_own_of(&self, attachment: &Attachment) -> bool {
        matches!(self, ClientId::Sent(body) if **body == *ClientId::body_of(attachment))
    }
}

/// Which servers the client listens to, by their identifier (option 54).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Servers {
    /// If not empty, only to these.
    pub(crate) allow: Vec<Ipv4Addr>,
    /// Never to these.
    pub(crate) deny: Vec<Ipv4Addr>,
}

/// How to find out whether another host has an address, before it is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConflictDetection {
    /// Not at all: the server is trusted.
    #[default]
    Off,
    /// ARP probes as in RFC 5227, at a pace that a starting container can wait for.
    Fast,
    /// ARP probes at the pace of RFC 5227: several seconds.
    Rfc5227,
}

/// What happens when the server no longer grants the address that ADD returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// The container gets another address.
    #[default]
    Follow,
    /// It has no address until a server grants the same one again.
    Keep,
    /// As with `Keep`, and its interface is down meanwhile.
    Down,
}

impl OnChange {
    /// Whether the container gets no other address than that of ADD.
    pub(crate) fn keeps_address(self) -> bool {
        self != OnChange::Follow
    }

    /// The value of the key.
    pub(crate) fn name(self) -> &'static str {
        match self {
            OnChange::Follow => "follow",
            OnChange::Keep => "keep",
            OnChange::Down => "down",
        }
    }
}

/// A part of the server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suppress {
    /// The gateway, and every default route.
    Gateway,
    /// Every other route.
    Routes,
    /// Name servers, domain and search list.
    Dns,
    /// The MTU.
    Mtu,
}

/// Octets, written as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hex(#[serde(with = "dhcp4::hex")] pub(crate) Vec<u8>);

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A duration as a number of seconds.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_settings_are_those_of_the_parameters() {
        let mut params = crate::state::tests::record().params;
        params.client_id = ClientId::Sent(vec![0, 1, 2].into());
        params.request = vec![1, 3, 6];
        params.provide = vec![RawOption {
            code: 60,
            data: vec![7],
        }];
        params.requested_address = Some([10, 99, 0, 7].into());
        params.broadcast = true;
        params.rapid_commit = true;
        params.servers.allow = vec![[10, 99, 0, 1].into()];
        params.servers.deny = vec![[10, 99, 0, 2].into()];
        let config = params.client_config(Mac([2; 6]));
        assert_eq!(config.client_id.as_deref(), Some(&[0, 1, 2][..]));
        assert_eq!(config.request, params.request);
        assert_eq!(config.options, params.provide);
        assert_eq!(config.requested_address, params.requested_address);
        assert!(config.broadcast && config.rapid_commit && config.probe_before_bind);
        assert_eq!(config.servers.allow, params.servers.allow);
        assert_eq!(config.servers.deny, params.servers.deny);
    }

    #[test]
    fn only_a_client_that_follows_its_lease_takes_another_address() {
        for (on_change, name, keeps) in [
            (OnChange::Follow, "follow", false),
            (OnChange::Keep, "keep", true),
            (OnChange::Down, "down", true),
        ] {
            assert_eq!((on_change.name(), on_change.keeps_address()), (name, keeps));
        }
    }
}
