//! The protocol between plugin and daemon: one JSON document per line over a Unix stream socket,
//! with the container's network namespace beside the request as a file descriptor (SCM_RIGHTS).
//!
//! docs/protocol.md describes it for other implementors, and must change together with this module.

mod daemon_view;
mod lease_view;
mod params;
mod release;
mod server_user;
mod transport;
mod warnings;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use cni::Attachment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use daemon_view::{DaemonView, Summary};
pub use lease_view::{Granted, LeaseView};
pub use params::{
    ClientId, ConflictDetection, Hex, LeaseParams, OnChange, Servers, Settings, Suppress,
};
pub use release::ReleasePolicy;
pub(crate) use server_user::ensure_trusted;
pub(crate) use transport::{receive, receive_all, send};
pub(crate) use warnings::{set_warnings, take_warnings};

/// Where the daemon listens by default: the Go daemon's path.
pub(crate) const DEFAULT_SOCKET: &str = "/run/cni/dhcp.sock";

/// The version of this protocol. Plugin and daemon of one release are installed together, so a
/// daemon serves only its own version, and refuses any other with an error that says so.
pub const VERSION: u32 = 1;

/// The longest request that the daemon accepts, in octets, line feed included: GC lists every
/// attachment of a network, of which there may be thousands.
pub const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// The longest reply that the plugin accepts, in octets, line feed included.
pub const MAX_REPLY: usize = 1024 * 1024;

/// Whether the daemon of the Go plugins sent this reply: their RPC begins with HTTP.
pub(crate) fn is_of_go_daemon(reply: &str) -> bool {
    reply.starts_with("HTTP/")
}

/// A request as it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sender's [`VERSION`].
    pub protocol: u32,
    /// The caller's W3C trace context, for the daemon's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The operation that the daemon is asked for.
    #[serde(flatten)]
    pub verb: Verb,
}

/// The number of an ADD, which the plugin chooses at random.
pub(crate) type AddId = u64;

/// The plugin's request to the daemon: a CNI verb and its parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub enum Verb {
    /// Lease an address and maintain the lease.
    Add {
        /// The attachment that gets the lease.
        attachment: Attachment,
        /// The path of the container's netns, as the runtime named it. The descriptor comes beside
        /// the document.
        netns: PathBuf,
        /// The parameters of the lease.
        #[serde(rename = "terms")]
        params: Box<LeaseParams>,
        /// For how long the plugin had to wait for the daemon. It is a part of the time that an ADD
        /// may take.
        #[serde(
            default,
            with = "params::seconds",
            skip_serializing_if = "Option::is_none"
        )]
        waited: Option<Duration>,
        /// Distinguishes this ADD from all others, so that it can be undone and nothing else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<AddId>,
    },
    /// Is the lease good, and is its address the one that the container was given?
    Check {
        /// The attachment that should have a lease.
        attachment: Attachment,
        /// The addresses in `prevResult`, without their prefix; empty if there is none.
        addresses: Vec<Ipv4Addr>,
    },
    /// Release the address.
    Del {
        /// The attachment that ends.
        attachment: Attachment,
        /// The only ADD to undo: a lease that another one obtained, or was told of, stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<AddId>,
    },
    /// Can the daemon serve an ADD?
    Status,
    /// What is the daemon doing?
    Describe,
    /// Confirm the lease with the server now.
    Renew {
        /// The attachment whose lease it is.
        attachment: Attachment,
    },
    /// One of the leases.
    Lease {
        /// The attachment whose lease it is.
        attachment: Attachment,
    },
    /// Some of the leases, in the order of their attachments.
    Leases {
        /// Those behind this one; all if it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Attachment>,
    },
    /// Hand over the listening sockets, and exit.
    Takeover,
    /// Release every lease of a network whose attachment is not listed.
    Gc {
        /// The name of the network.
        network: String,
        /// The attachments to keep.
        keep: Vec<Attachment>,
    },
}

impl Verb {
    /// Its name, as it is sent.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Verb::Add { .. } => "add",
            Verb::Check { .. } => "check",
            Verb::Del { .. } => "del",
            Verb::Status => "status",
            Verb::Describe => "describe",
            Verb::Renew { .. } => "renew",
            Verb::Lease { .. } => "lease",
            Verb::Leases { .. } => "leases",
            Verb::Takeover => "takeover",
            Verb::Gc { .. } => "gc",
        }
    }

    /// The attachment that it is about, if it is about one.
    pub fn attachment(&self) -> Option<&Attachment> {
        match self {
            Verb::Add { attachment, .. }
            | Verb::Check { attachment, .. }
            | Verb::Renew { attachment }
            | Verb::Lease { attachment }
            | Verb::Del { attachment, .. } => Some(attachment),
            Verb::Status
            | Verb::Describe
            | Verb::Leases { .. }
            | Verb::Takeover
            | Verb::Gc { .. } => None,
        }
    }
}

/// The daemon's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Done; there is nothing to report.
    Done,
    /// The lease, as a CNI result of the latest version.
    Lease(Value),
    /// What the daemon is doing.
    Daemon(DaemonView),
    /// Some of the leases.
    Leases {
        /// In the order of their attachments.
        leases: Vec<LeaseView>,
        /// Whether there are more behind these.
        more: bool,
    },
    /// Failed. The plugin passes this on as its own error.
    Error {
        /// The CNI error code.
        code: u32,
        /// What failed, on which object.
        msg: String,
        /// How far it got, and what to try.
        details: String,
    },
}

impl From<cni::Error> for Reply {
    fn from(cni::Error { code, msg, details }: cni::Error) -> Reply {
        Reply::Error { code, msg, details }
    }
}

impl From<Result<(), cni::Error>> for Reply {
    fn from(outcome: Result<(), cni::Error>) -> Reply {
        outcome.map_or_else(Reply::from, |()| Reply::Done)
    }
}

/// A request or a reply as it is sent: one line, with its line feed.
///
/// # Errors
/// If a path in it is not UTF-8.
pub(crate) fn to_line(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    Ok(line)
}
