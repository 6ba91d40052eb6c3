//! One route.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A route that a server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination, with its host bits cleared.
    pub dst: Ipv4Net,
    /// The router; `None` if the destination is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}
