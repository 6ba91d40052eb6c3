//! What plugin and daemon say to one another: one JSON document per line over a Unix stream socket,
//! the container's network namespace beside the request as a file descriptor (SCM_RIGHTS).
//! ARCHITECTURE.md describes it for other implementors; a change here is a change there.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use attachment::SourceRouting;
use cni::{Attachment, Route};
use dhcp4::RawOption;
use linknet::Mac;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// Where the daemon listens unless told otherwise: the Go daemon's path.
pub(crate) const DEFAULT_SOCKET: &str = "/run/cni/dhcp.sock";

/// Version of this protocol. Plugin and daemon of one release are installed together, so a daemon
/// serves its own version alone, and says so to any other.
pub(crate) const VERSION: u32 = 1;

/// Longest document either side accepts, in octets, line feed included.
pub(crate) const MAX_DOCUMENT: usize = 64 * 1024;

/// A request as it stands on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// [`VERSION`] of the sender.
    pub(crate) protocol: u32,
    /// W3C trace context of the caller, for the daemon's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<String>,
    /// What is asked.
    #[serde(flatten)]
    pub(crate) verb: Verb,
}

/// What a plugin asks of the daemon: a CNI verb with what it needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub(crate) enum Verb {
    /// Lease an address and keep it.
    Add {
        /// Whose.
        attachment: Attachment,
        /// Path of the container's netns, as the runtime named it; the descriptor comes beside the
        /// document.
        netns: PathBuf,
        /// On what terms.
        terms: Box<Terms>,
    },
    /// Is the lease alive and as the container was told?
    Check {
        /// Whose.
        attachment: Attachment,
        /// Addresses of `prevResult`, without their prefix; empty where there was none.
        addresses: Vec<Ipv4Addr>,
    },
    /// Give the address back.
    Del {
        /// Whose.
        attachment: Attachment,
    },
    /// Can the daemon serve an ADD?
    Status,
    /// Hand the listening socket over, and end.
    Takeover,
    /// Give back every lease of a network whose attachment is not listed.
    Gc {
        /// Name of the network.
        network: String,
        /// Attachments to keep.
        keep: Vec<Attachment>,
    },
}

impl Verb {
    /// Whom it is about, where it is about one.
    pub(crate) fn attachment(&self) -> Option<&Attachment> {
        match self {
            Verb::Add { attachment, .. }
            | Verb::Check { attachment, .. }
            | Verb::Del { attachment } => Some(attachment),
            Verb::Status | Verb::Takeover | Verb::Gc { .. } => None,
        }
    }
}

/// The terms of a lease: what the configuration, resolved for one attachment, tells the DHCP
/// client. The daemon keeps them as long as the lease, and knows nothing of configuration files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Terms {
    /// How the server knows the client.
    pub(crate) client_id: ClientId,
    /// Codes of the parameter request list (option 55), in order of preference.
    pub(crate) request: Vec<u8>,
    /// Options sent as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) provide: Vec<RawOption>,
    /// An address to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requested_address: Option<Ipv4Addr>,
    /// Which servers are listened to.
    #[serde(default, skip_serializing_if = "Servers::is_any")]
    pub(crate) servers: Servers,
    /// Ask for replies by broadcast from the first message on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) broadcast: bool,
    /// Take an address in one round trip from a server that gives it (RFC 4039).
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) rapid_commit: bool,
    /// How to find out whether somebody else has the address.
    #[serde(default)]
    pub(crate) conflict_detection: ConflictDetection,
    /// Tell the neighbours when the address changes.
    pub(crate) announce: bool,
    /// How long an ADD goes on asking; absent: as long as the daemon is told to.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Duration>,
    /// What of the server's answer is not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) suppress: Vec<Suppress>,
    /// Routes beside the server's, or instead of those to the same destinations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Route>,
    /// Metric of the routes in the result and in the container that have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    /// A table of its own for what leaves from the address.
    #[serde(default, skip_serializing_if = "SourceRouting::is_off")]
    pub(crate) source_routing: SourceRouting,
    /// The host has a route of its own to the address, which follows it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) host_access: bool,
}

impl Terms {
    /// The settings of a DHCP client on these terms, for the interface with this address.
    pub(crate) fn client_config(&self, mac: Mac) -> dhcp4::Config {
        let mut retry = dhcp4::Retry::default();
        if self.conflict_detection == ConflictDetection::Fast {
            // RFC 2131 §3.1.5 wants ten, lest a server be flooded; somebody is waiting, and the
            // pauses grow.
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
            confirm: self.conflict_detection != ConflictDetection::Off,
            servers: dhcp4::Servers {
                allow: self.servers.allow.clone(),
                deny: self.servers.deny.clone(),
            },
            ..dhcp4::Config::new(mac.octets())
        }
    }
}

/// How a server knows the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientId {
    /// By option 61 with this body.
    Sent(Hex),
    /// By option 61 with the interface's hardware address.
    Mac,
    /// By the hardware address that every message carries, without option 61.
    None,
}

impl ClientId {
    /// The body of option 61 for the interface with this address.
    pub(crate) fn body(&self, mac: Mac) -> Option<Vec<u8>> {
        match self {
            ClientId::Sent(Hex(body)) => Some(body.clone()),
            ClientId::Mac => Some(dhcp4::client_id::mac(mac.octets())),
            ClientId::None => None,
        }
    }
}

/// Which servers are listened to, by their identifier (option 54).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Servers {
    /// If not empty, these alone.
    pub(crate) allow: Vec<Ipv4Addr>,
    /// Never these.
    pub(crate) deny: Vec<Ipv4Addr>,
}

impl Servers {
    fn is_any(&self) -> bool {
        *self == Servers::default()
    }
}

/// How to find out whether somebody else has an address before it is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConflictDetection {
    /// Not at all: it is the server's business.
    #[default]
    Off,
    /// ARP probes as in RFC 5227, at a pace that a starting container can wait for.
    Fast,
    /// At the pace of RFC 5227: some seconds.
    Rfc5227,
}

/// A part of the server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Suppress {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&dhcp4::client_id::digits(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex, D::Error> {
        let digits = String::deserialize(deserializer)?;
        dhcp4::client_id::hex(&digits)
            .map(Hex)
            .map_err(de::Error::custom)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A span of time as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_f64(time.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(de::Error::custom))
            .transpose()
    }
}

/// The daemon's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    /// Done, and there is nothing to say.
    Done,
    /// The lease, as a CNI result of the newest version.
    Lease(Value),
    /// Failed; the plugin passes this on as its own error.
    Error {
        /// CNI error code.
        code: u32,
        /// What failed, on which object.
        msg: String,
        /// How far it got, and what to try.
        details: String,
    },
}
