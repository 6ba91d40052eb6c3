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

#[cfg(test)]
mod tests {
    use linknet::Protocol;

    use super::*;

    #[test]
    fn a_host_route_is_read_back_and_no_other_route_is_taken_for_one() {
        let host_route = HostRoute {
            tag: AttachmentTag(7),
            to: "10.99.0.61".parse().unwrap(),
            index: 12,
        };
        let source: IpAddr = "10.99.0.2".parse().unwrap();
        let route = host_route.to_route(Some(source));
        assert_eq!((route.metric, route.source), (7, Some(source)));
        assert_eq!(HostRoute::from_route(&route), Some(host_route));
        for other in [
            Route {
                protocol: Protocol::DHCP,
                ..route.clone()
            },
            Route {
                dst: "10.99.0.0/24".parse().unwrap(),
                ..route.clone()
            },
            Route {
                table: 100,
                ..route.clone()
            },
            route.via(source),
        ] {
            assert_eq!(HostRoute::from_route(&other), None, "{other:?}");
        }
    }
}
