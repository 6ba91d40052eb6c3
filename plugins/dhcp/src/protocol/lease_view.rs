//! A lease as an operator sees it.

use std::net::Ipv4Addr;
use std::time::Duration;

use cni::Attachment;
use ipnet::Ipv4Net;
use linknet::Mac;
use serde::{Deserialize, Serialize};

use super::params::seconds;

/// A lease, or the search for one, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// The container's ID, the network and the interface.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The name of the container or pod, if the server was told one (options 12 and 81).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The interface's MAC.
    pub mac: Mac,
    /// The state of the DHCP client, as RFC 2131 names it.
    pub state: String,
    /// The path of the container's network namespace.
    pub netns: String,
    /// What there is while the container has an address.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Granted>,
    /// How far the client got, while it is not bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a server has granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// The address.
    pub address: Ipv4Net,
    /// The first router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The server's identifier.
    pub server: Ipv4Addr,
    /// How long ago the lease was granted or last extended.
    #[serde(with = "seconds")]
    pub since: Option<Duration>,
    /// The time until it is extended (T1); absent if it never is, or if that is overdue.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub renews_in: Option<Duration>,
    /// The time until it ends; absent if it never does.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Duration>,
}
