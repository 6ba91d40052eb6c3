//! The host's routes to containers.

use std::net::IpAddr;

use linknet::{Netlink, Result, Route};

use super::tag::AttachmentTag;
use crate::ownership::PROTOCOL;

/// A route by which the host reaches a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// The attachment that it belongs to.
    pub tag: AttachmentTag,
    /// The container's address.
    pub to: IpAddr,
    /// The link that it goes through: a shim, unless another program has changed it.
    pub index: u32,
}

impl HostRoute {
    /// All host routes in the namespace of the socket.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn all(netlink: &Netlink) -> Result<Vec<HostRoute>> {
        let routes = netlink.routes_with_protocol(PROTOCOL)?;
        Ok(routes.iter().filter_map(HostRoute::from_route).collect())
    }

    pub(super) fn from_route(route: &Route) -> Option<HostRoute> {
        let is_host_route = route.protocol == PROTOCOL
            && route.dst.prefix_len() == route.dst.max_prefix_len()
            && route.gateway.is_none()
            && route.table == Route::MAIN;
        is_host_route.then_some(HostRoute {
            tag: AttachmentTag(route.metric),
            to: route.dst.addr(),
            index: route.index,
        })
    }

    pub(super) fn to_route(self, source: Option<IpAddr>) -> Route {
        Route {
            metric: self.tag.0,
            protocol: PROTOCOL,
            source,
            ..Route::new(self.to, self.index)
        }
    }
}
