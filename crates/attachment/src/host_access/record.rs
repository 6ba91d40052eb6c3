//! What the host keeps of a container's addresses while it has no route to them.

use std::net::IpAddr;

use linknet::{Netlink, Result, Route};

use super::tag::AttachmentTag;
use crate::ownership::PROTOCOL;

/// An address of an attachment, as ADD or the lease said.
///
/// A host route disappears with the shim, and with the host's address that is its source. GC
/// restores it, and must not ask the container which addresses it has. So the host keeps a record
/// of them: a route that outlasts the other one, since it goes through the loopback link, and that
/// no packet takes, since no rule names its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The attachment.
    pub tag: AttachmentTag,
    /// Its address.
    pub to: IpAddr,
    /// The index of the parent that its interface is on.
    pub parent: u32,
}

/// The table of the records of a parent is this and the parent's index, which has 31 bits.
const TABLES: u32 = 1 << 31;

/// The index of the loopback link in every namespace.
const LOOPBACK: u32 = 1;

impl Record {
    /// All records in the namespace of the socket.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn all(netlink: &Netlink) -> Result<Vec<Record>> {
        let routes = netlink.routes_with_protocol(PROTOCOL)?;
        Ok(routes.iter().filter_map(Record::from_route).collect())
    }

    pub(super) fn from_route(route: &Route) -> Option<Record> {
        let is_record = route.protocol == PROTOCOL
            && route.dst.prefix_len() == route.dst.max_prefix_len()
            && route.table & TABLES != 0;
        is_record.then_some(Record {
            tag: AttachmentTag(route.metric),
            to: route.dst.addr(),
            parent: route.table & !TABLES,
        })
    }

    pub(super) fn to_route(self) -> Route {
        Route {
            metric: self.tag.0,
            protocol: PROTOCOL,
            table: TABLES | self.parent,
            ..Route::new(self.to, LOOPBACK)
        }
    }
}

#[cfg(test)]
mod tests {
    use linknet::Protocol;

    use super::*;

    #[test]
    fn a_record_is_a_route_that_no_host_route_is_taken_for() {
        let record = Record {
            tag: AttachmentTag(7),
            to: "fd99::61".parse().unwrap(),
            parent: 12,
        };
        let route = record.to_route();
        assert_eq!(Record::from_route(&route), Some(record));
        for other in [
            Route {
                table: Route::MAIN,
                ..route.clone()
            },
            Route {
                protocol: Protocol::DHCP,
                ..route.clone()
            },
            Route {
                dst: "fd99::/64".parse().unwrap(),
                ..route
            },
        ] {
            assert_eq!(Record::from_route(&other), None, "{other:?}");
        }
    }
}
