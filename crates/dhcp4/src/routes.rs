//! Routes out of a lease (RFC 3442).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::lease::Lease;

/// A route that a server told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to, host bits cleared.
    pub dst: Ipv4Net,
    /// Through whom; `None`: the destination is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

impl Lease {
    /// The routes to set, in an order in which each can be set: on-link routes first, then those whose gateways they
    /// (or the address' own prefix) make reachable.
    pub fn routes(&self) -> Vec<Route> {
        Vec::new()
    }
}
